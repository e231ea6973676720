"""What a file really is that is no safetensors or JSON, as downloads that went wrong leave them, and what to do."""

_BEGINNINGS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer",
        ": the file itself was not downloaded; run `git lfs pull` there, or download it again",
    ),
    (b"GGUF", "a GGUF", "; give that file itself, under a name that ends in .gguf"),
    (b"PK\x03\x04", "a zip archive", ", as torch.save writes it; give a safetensors checkpoint"),
    (b"\x80\x02", "a pickle", ", which is never loaded; give a safetensors checkpoint"),
    (b"\x1f\x8b", "gzip-compressed", "; unpack it first"),
)
_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")


def other_file(beginning: bytes, *, is_of_a_model: bool = True) -> str | None:
    """From the first bytes (256 or more, or all there are); None when nothing known but the right thing begins so.
    What to do about it is known of the files of a model alone, which were downloaded."""
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning:
        what, advice = "empty", "; download it again"
    elif text[:16].lower().startswith(_PAGE):
        what, advice = "a saved web page", "; download the file itself, logged in where the repository asks for it"
    else:
        what, advice = next((known[1:] for known in _BEGINNINGS if text.startswith(known[0])), ("", ""))
    return f"it is {what}{advice * is_of_a_model}" if what else None
