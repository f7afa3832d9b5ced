"""How a command ends: its exit code, and one line on stderr where it cannot be carried out. Imports nothing heavy."""

import sys
from collections.abc import Callable

UNUSABLE, FAILED, STOPPED = 2, 70, 75  # exit codes


class UsageError(Exception):
    """A command line that cannot be understood; its text is the one line a person reads."""


def answer(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit code: its own; 2, with one line on stderr, for what cannot be carried out; 75 after Ctrl-C."""
    try:
        return command()
    except (UsageError, ValueError) as error:
        return refuse(error)
    except OSError as error:
        if error.filename is None:
            raise
        return refuse(f"{error.filename}: {error.strerror}")
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
