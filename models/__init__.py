"""The Qwen3.5 family as data and arithmetic: configurations, sizes, tensor names, and the numpy reference."""
