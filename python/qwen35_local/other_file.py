"""What a file really is that is no safetensors or JSON, as downloads that went wrong leave them, and what to do."""

_BEGINNINGS = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer: the file itself was not downloaded; run `git lfs pull` there, or download it again",
    ),
    (b"GGUF", "it is a GGUF; give that file itself, under a name that ends in .gguf"),
    (b"PK\x03\x04", "it is a zip archive, as torch.save writes it; give a safetensors checkpoint"),
    (b"\x80\x02", "it is a pickle, which is never loaded; give a safetensors checkpoint"),
    (b"\x1f\x8b", "it is gzip-compressed; unpack it first"),
)
_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")


def other_file(beginning: bytes) -> str | None:
    """From the first bytes (256 or more, or all there are); None when nothing known but the right thing begins so."""
    if not beginning:
        return "it is empty; download it again"
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:16].lower().startswith(_PAGE):
        return "it is a saved web page; download the file itself, logged in where the repository asks for it"
    return next((what for magic, what in _BEGINNINGS if text.startswith(magic)), None)
