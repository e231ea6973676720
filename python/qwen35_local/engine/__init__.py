"""From conversations to events over one live sequence, and the measures of quality."""
