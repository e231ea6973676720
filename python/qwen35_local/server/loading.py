"""What the server says before its model is there."""

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BODY = b'{"error":{"code":503,"message":"the model is being loaded","type":"unavailable_error"}}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
_HEAD_BYTES = 64 << 10
_SILENT_SECONDS = 5.0  # for which a client may say nothing
_MOST_CLIENTS = 200  # that have said nothing yet


@contextmanager
def loading(opened: socket.socket) -> Iterator[None]:
    """While inside, every request to a listening socket is answered with 503, whatever it asks."""
    is_over = threading.Event()
    opened.setblocking(False)
    thread = threading.Thread(target=_answer, args=(opened, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        opened.setblocking(True)


def _answer(opened: socket.socket, is_over: threading.Event) -> None:
    """All clients side by side, so that one that says nothing holds up nobody."""
    until: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(opened, selectors.EVENT_READ)
        while not is_over.is_set():
            ready = [key.fileobj for key, _ in selector.select(0.05)]
            now = time.monotonic()
            has_come = opened in ready
            over = [one for one, end in until.items() if one in ready or end < now]
            if has_come and len(until) - len(over) >= _MOST_CLIENTS:
                over.append(next(one for one in until if one not in over))  # who has said nothing for longest
            for client in over:
                selector.unregister(client)
                del until[client]
                _tell(client)
            if has_come:
                with suppress(OSError):
                    client, _ = opened.accept()
                    client.setblocking(False)
                    selector.register(client, selectors.EVENT_READ)
                    until[client] = now + _SILENT_SECONDS
    for client in until:
        client.close()


def _tell(client: socket.socket) -> None:
    with client, suppress(OSError):
        client.recv(_HEAD_BYTES)
        client.send(_ANSWER)
        client.shutdown(socket.SHUT_WR)
