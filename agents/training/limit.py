"""A limit of seconds for code of others: a call that takes longer is interrupted, and where it cannot be, the process ends."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["Limit", "TooLong"]


class TooLong(BaseException):
    """A call took longer than its limit. No Exception: code that tries again and again after every Exception must not catch it."""


class Limit:
    """Calls functions that have to return within so many seconds.

    Past them TooLong is raised within the function, by the system's alarm (SIGALRM). That reaches Python code, and what Python waits for:
    a sleep, a lock, a pipe, a socket. It does not reach a library that never comes back to Python. There a thread ends the process at
    three times the limit, as a kill would, with a RuntimeWarning and exit code 70 (EX_SOFTWARE).

    **Limits** a library that never comes back and keeps Python's own lock stops that thread, too. **Raises** ValueError where the system
    has no alarm, and outside the main thread, which alone gets it.
    """

    def __init__(self, seconds: float, what: str) -> None:
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            raise ValueError(f"step_limit is {seconds:g}; it needs a system with SIGALRM and Python's main thread: give 0, no limit")
        self.seconds, self.what = seconds, what
        self._since: tuple[str, float] | None = None  # which call runs, and since when
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, call: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Returns what the function does; ``call`` is its name for a person. Raises TooLong."""
        before = signal.signal(signal.SIGALRM, self._ring)
        try:
            try:
                self._since = call, time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, self.seconds, self.seconds)  # again and again, where the first is caught
                return function(*args, **named)
            finally:
                self._since = None  # from here on the alarm raises nothing
        finally:
            self._since = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _ring(self, number: int, frame: Any) -> None:
        if self._since is not None:
            raise TooLong(f"did not come back from {self._since[0]}() within the limit of {self.seconds:g} s")

    def _watch(self) -> None:
        while not self._closed.wait(0.5 * self.seconds):
            running = self._since
            if running is not None and time.monotonic() - running[1] > 3.0 * self.seconds:
                try:
                    warnings.warn(
                        f"{self.what} did not come back from {running[0]}() within three times the limit of {self.seconds:g} s "
                        "and cannot be interrupted: the process ends; the same command goes on from the last checkpoint",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                finally:
                    os._exit(os.EX_SOFTWARE)
