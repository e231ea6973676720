"""A loaded model over HTTP: one engine, and the dialects that clients speak."""
