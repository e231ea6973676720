"""The library behind `from qwen35_local import Model`, and the one way from a name to a loaded model."""
