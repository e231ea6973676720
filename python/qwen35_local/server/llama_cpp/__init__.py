"""The endpoints of llama.cpp's own server that clients use
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md)."""
