"""Standard output and standard error that may end before the command does: a reader that left stops no computation."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

__all__ = ["GONE", "Stream", "open_standard"]

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader left, the terminal was closed, or there was none from the start


class Stream:
    """A text stream that falls silent when it cannot be written any more, and says so on stderr unless its reader has left.

    ``lost``: whether text was lost that somebody waits for, as where a disk is full. All else is the stream's own.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self.lost = stream, name, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, or drops it where nobody can get it; returns its length."""
        self._tried(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        self._tried(self._stream.flush)

    def _tried(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except OSError as error:
            with suppress(OSError, ValueError):  # what waits in the buffer goes nowhere, and so does all that follows
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if error.errno not in GONE and not self.lost:
                self.lost = True
                print(f"wgf: {self._name} cannot be written: {error.strerror}", file=sys.stderr)


def open_standard() -> Stream:
    """Replaces standard output and standard error by streams that fall silent; returns the first.

    One that was closed before Python began is opened on nothing: else the next file that is opened would get what is written there.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # a program that this one starts needs them, too
    os.close(number)
    out, err = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 - as long as the process
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")  # a terminal that has no letter for it shows its number
    shown = Stream(out, "standard output")
    sys.stdout, sys.stderr = cast(TextIO, shown), cast(TextIO, Stream(err, "standard error"))
    return shown
