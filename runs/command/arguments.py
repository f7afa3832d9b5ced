"""tyro, with its errors in one line: what was wrong, with which value, and what would be right."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import tyro

T = TypeVar("T")

PLAINER = (  # Python's words, and a person's
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')", r"\1 is \2; it must be a whole number"),
    (r"Error parsing (\S+): could not convert string to float: ('.*')", r"\1 is \2; it must be a number"),
    (r"Error parsing (\w[\w.]*): ", ""),
    (r"invalid choice (\S+) for argument '(\S+)'\. Expected one of \((.*)\)\.", r"\2 is \1; choose from \3"),
    (r"Unrecognized options: (--[\w-]+)[^;]*", r"option \1 is unknown"),
    (r"Unrecognized options: ([^;]*)", r"argument '\1' is not understood"),
    (r"Missing from [\w -]+: (\S+) .*", r"\1 is missing"),
)
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)  # a switch takes True or False, as in FIELD=VALUE


class UsageError(Exception):
    """A command line that cannot be understood; its text is the one line a person reads."""


def parse(cls: type[T], args: Sequence[str], *, default: Any = tyro.MISSING_NONPROP, prog: str) -> T:
    """A dataclass from command-line arguments. Raises UsageError in place of tyro's box; --help prints and exits as usual."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return cast(T, tyro.cli(cls, args=list(args), default=default, prog=prog, config=CONFIG))
    except SystemExit as stop:
        if stop.code:
            raise UsageError(f"{_one_line(errors.getvalue())} (see {prog} --help)") from None
        raise


def _one_line(box: str) -> str:
    """The first part of tyro's box, and the first option that it would have understood."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    rules = [i for i, line in enumerate(lines) if re.fullmatch("[─-]+", line)] + [len(lines)]
    parts = [lines[a:b] for a, b in zip([0, *(i + 1 for i in rules)], rules, strict=False)]  # in ASCII a rule comes first too
    text = " ".join(next(part for part in parts if part)).strip()
    if "Perhaps you meant:" in lines:
        near = [line.split()[0] for line in lines[lines.index("Perhaps you meant:") :] if re.match(r"--\w", line)]
        text += f"; did you mean {' or '.join(dict.fromkeys(near[:3]))}?"
    for pattern, words in PLAINER:
        text = re.sub(pattern, words, text)
    return text
