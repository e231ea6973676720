"""A web page to talk on, and the endpoints that it needs beside those of the dialects."""
