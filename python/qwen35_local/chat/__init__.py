"""Conversations: messages, the family's template, the parser of what the model writes, and sampling presets."""
