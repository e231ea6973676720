"""Names become files: what a person typed, what is on this disk, and where our own things lie."""

from qwen35_local.hub.places import embedded_model, home

__all__ = ["embedded_model", "home"]
