"""Ollama's API (https://docs.ollama.com/api): replies as lines of JSON."""
