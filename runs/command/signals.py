"""How a person or a scheduler stops a long computation: by Ctrl-C, SIGTERM, SIGUSR1, or the SIGHUP of a terminal that is closed."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["stop_signals"]

URGENT = ("SIGINT", "SIGTERM")  # a second one of these does not wait; a closed terminal may send SIGHUP twice by itself
PATIENT = ("SIGHUP", "SIGUSR1")


@contextmanager
def stop_signals(promise: str, *, muted: bool = False) -> Iterator[Callable[[], bool]]:
    """Makes the first signal set a flag, which the function that it gives returns, and say on stderr, unless ``muted``, what
    comes: ``promise``.

    A second Ctrl-C or SIGTERM raises KeyboardInterrupt, and a third acts as it did before. SIGHUP stays ignored under nohup.
    """
    asked: list[str] = []
    before = {name: signal.getsignal(getattr(signal, name)) for name in (*URGENT, *PATIENT) if hasattr(signal, name)}
    if before.get("SIGHUP") is signal.SIG_IGN:
        del before["SIGHUP"]

    def restore() -> None:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)

    def note(number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        asked.append(name)
        if len(asked) == 1:
            if muted:
                return
            with suppress(RuntimeError):  # it came while something was being printed
                print(f"wgf: {'Ctrl-C' if name == 'SIGINT' else name}: {promise}; Ctrl-C again stops at once", file=sys.stderr)
        elif name in URGENT:
            restore()
            raise KeyboardInterrupt

    for name in before:
        signal.signal(getattr(signal, name), note)
    try:
        yield lambda: bool(asked)
    finally:
        restore()
