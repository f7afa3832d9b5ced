"""tyro, with its errors in one line: what was wrong, with which value, and what would be right."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


class UsageError(Exception):
    """A command line that cannot be understood; its text is the one line a person reads."""


def parse(cls: type[T], args: Sequence[str], *, default: T, prog: str, config: tuple[Any, ...] = (tyro.conf.OmitArgPrefixes,)) -> T:
    """A dataclass from command-line arguments. Raises UsageError in place of tyro's box; --help prints and exits as usual."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(cls, args=list(args), default=default, prog=prog, config=config)
    except SystemExit as stop:
        if stop.code:
            raise UsageError(f"{_one_line(errors.getvalue())} (see {prog} --help)") from None
        raise


def _one_line(box: str) -> str:
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    first = []
    for line in lines:
        if line.startswith("──"):
            break
        first.append(line)
    text = " ".join(first)
    if "Perhaps you meant:" in lines:
        text += f"; did you mean {lines[lines.index('Perhaps you meant:') + 1].split()[0]}?"
    return text
