"""Work for while nobody waits: one job at a time, on a thread of its own, that gives way at once."""

import threading
from collections.abc import Callable


class Idle:
    """`cancel` makes the running job end soon; it is called until that has happened."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        """What the last job ended with."""

    def start(self, job: Callable[[], None]) -> None:
        """Runs `job` in the place of any other."""
        self.stop()
        self.failure = None
        self._thread = threading.Thread(target=self._run, args=(job,), name="qwen35-idle")
        self._thread.start()

    def stop(self) -> None:
        """Ends the job and returns when it has ended. What made it fail is not raised: whoever needs its work does it
        again, and meets the cause there."""
        while self._thread is not None and self._thread.is_alive():
            self._cancel()
            self._thread.join(0.01)
        self._thread = None

    def wait(self) -> None:
        """Returns when the job is done. Raises what made it fail."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.failure is not None:
            raise self.failure

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            self.failure = failure
