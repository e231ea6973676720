"""What the server says before its model is there."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BODY = b'{"error":{"code":503,"message":"the model is being loaded","type":"unavailable_error"}}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
_HEAD_BYTES = 64 << 10


@contextmanager
def loading(opened: socket.socket) -> Iterator[None]:
    """While inside, every request to a listening socket is answered with 503, whatever it asks."""
    is_over = threading.Event()
    opened.settimeout(0.05)
    thread = threading.Thread(target=_answer, args=(opened, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        opened.settimeout(None)


def _answer(opened: socket.socket, is_over: threading.Event) -> None:
    while not is_over.is_set():
        with suppress(OSError):
            client, _ = opened.accept()
            with client:
                client.settimeout(0.5)  # one that sends nothing holds up the others no longer
                client.recv(_HEAD_BYTES)
                client.sendall(_ANSWER)
                client.shutdown(socket.SHUT_WR)
