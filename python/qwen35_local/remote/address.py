"""Where another server is, as a person types it."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from qwen35_local.errors import InputError

_ENDPOINT = "/chat/completions"


@dataclass(frozen=True)
class Address:
    """`url`: what the paths of OpenAI's API are put behind, as in "http://localhost:8000/v1"."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def root(self) -> str:
        """What the paths of a server's own API are put behind."""
        return self.url.removesuffix("/v1")

    @property
    def is_open_to_others(self) -> bool:
        """Whether what is sent there can be read on the way."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def read_address(text: str, option: str) -> Address:
    """The address of a server, of its API or of its chat completions. Raises InputError naming `option`."""
    expected = "expected the address of a server of OpenAI's API, as in http://localhost:8000/v1"
    try:
        parts = urlsplit(text.strip())
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound or any(ord(character) <= 32 for character in text.strip()) or parts.query or parts.fragment:
        raise InputError(f"{option} is {text[:200]!r}; {expected}.")
    if "@" in parts.netloc:
        raise InputError(f"{option} has a name or a password in it; leave it out and give the key in a file.")
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT)
    return Address(f"{parts.scheme}://{parts.netloc}{path or '/v1'}")
