"""What fits: a model, a context and a cache in so much memory, and what would fit instead."""
