"""How a command ends: its exit code, and one line on stderr where it cannot be carried out. Imports nothing heavy."""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from wgf.runs.command.streams import open_standard

__all__ = ["FAILED", "FOUND", "STOPPED", "UNUSABLE", "UsageError", "answer", "launch", "refuse", "say", "wait_asleep"]

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
FOUND, UNUSABLE, FAILED, STOPPED = 1, 2, 70, 75  # exit codes


class UsageError(Exception):
    """A command line that cannot be understood; its text is the one line a person reads."""


def launch(run: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs this process's command line and leaves with its exit code; 70 too where standard output was lost. A warning is one line."""
    wait_asleep()
    warnings.formatwarning = lambda message, *about, **more: f"wgf: {' '.join(str(message).split())}\n"
    out = open_standard()
    try:
        code = run(sys.argv[1:])
    finally:
        out.flush()
    sys.exit(code or (FAILED if out.lost else 0))


def wait_asleep() -> None:
    """Lets threads that wait for each other sleep: by default they spin, and take the processor from those they wait for.

    **Limits** it counts where torch has not been imported yet, and does nothing where a person has chosen by the environment.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = "0"


def answer(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit code: its own; 2, with one line on stderr, for what cannot be carried out; 75 after Ctrl-C."""
    try:
        return command()
    except (UsageError, ValueError) as error:
        return refuse(error)
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        return refuse(f"{error.filename or 'a file cannot be written'}: {error.strerror}")
    except KeyboardInterrupt:
        print("wgf: stopped", file=sys.stderr)
        return STOPPED


def refuse(reason: object) -> int:
    """Says on stderr, in one line, why a command is not carried out; returns its exit code."""
    print(f"wgf: {' '.join(str(reason).split())}", file=sys.stderr)
    return UNUSABLE


def say(line: str) -> None:
    """Prints a line at once: a person sees it before a long computation ends."""
    print(line, flush=True)
