"""Parses command lines by tyro, and tells errors in one line: what was wrong, with which value, and what would be right."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar, cast, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from wgf.runs.command.answers import UsageError

__all__ = ["CONFIG", "REGISTRY", "UsageError", "parse"]

T = TypeVar("T")

PLAINER = (  # Python's words, and a person's
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')", r"\1 is \2; it must be a whole number"),
    (r"Error parsing (\S+): could not convert string to float: ('.*')", r"\1 is \2; it must be a number"),
    (r"Error parsing (\S+): ('.*' in )", r"\1: \2"),
    (r"Error parsing (\S+): no type matching \{None\}\|FLOAT .* from \[('.*')\]\.  Got .*", r"\1 is \2; it must be a number"),
    (r"Error parsing (\S+): no type matching \{None\}\|INT .* from \[('.*')\]\.  Got .*", r"\1 is \2; it must be a whole number"),
    (r"Error parsing (\w[\w.]*): ", ""),
    (r"Missing value for argument '(\S+)'\. Expected 1 values\.", r"\1 needs a value"),
    (r"Unrecognized options: (-?[\d.]+(?:e[-+]?\d+)?)$", r"argument '\1' is not understood; put commas between numbers, as in 64,64"),
    (r"invalid choice (\S+) for argument '(\S+)'\. Expected one of \((.*)\) ?\.", r"\2 is \1; choose from \3"),
    (r"Unrecognized options: (--[\w-]+)[^;]*", r"option \1 is unknown"),
    (r"Unrecognized options: ([^;]*)", r"argument '\1' is not understood"),
    (r"Missing from [\w .-]+: (\S+) .*", r"\1 is missing"),
)
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)  # a switch takes True or False, as in FIELD=VALUE


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Several numbers in one setting are one argument with commas: 64,64. Names stay apart: --agents sac dp-wgf-v."""
    kinds = {(int, ...): ("a whole number", "INT,INT,..."), (float, ...): ("a number", "FLOAT,FLOAT,...")}
    found = kinds.get(get_args(info.type)) if info.type_origin is tuple else None
    if found is None:
        return None
    (kind, _), (what, metavar) = get_args(info.type), found

    def read(args: list[str]) -> tuple[Any, ...]:
        numbers = []
        for part in args[0].split(",") if args[0] else []:
            try:
                numbers.append(kind(part))
            except ValueError:
                raise ValueError(f"{part!r} in {args[0]!r} is not {what}; put commas between numbers, as in 64,64") from None
        return tuple(numbers)

    def told(values: tuple[Any, ...]) -> list[str]:
        return [",".join(str(value) for value in values)]

    def fits(values: Any) -> bool:
        return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)

    return PrimitiveConstructorSpec(nargs=1, metavar=metavar, instance_from_str=read, is_instance=fits, str_from_instance=told)


def parse(cls: type[T], args: Sequence[str], *, default: Any = tyro.MISSING_NONPROP, prog: str) -> T:
    """Makes a dataclass from command-line arguments. Raises UsageError in place of tyro's box; --help prints and exits as usual."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return cast(T, tyro.cli(cls, args=list(args), default=default, prog=prog, config=CONFIG, registry=REGISTRY))
    except SystemExit as stop:
        if stop.code:
            told = _told(stop.__context__) or _one_line(errors.getvalue())
            raise UsageError(f"{told} (see {prog} --help)") from None
        raise


def _told(error: BaseException | None) -> str | None:
    """Returns what a dataclass itself said, word by word, where tyro tells it: its box breaks lines, at commas too."""
    if isinstance(getattr(error, "arg", None), str):
        return str(getattr(error, "message", None))
    return str(error) if type(error) is ValueError else None


def _one_line(box: str) -> str:
    """Makes one line of tyro's box: its first part, and the nearest options that exist."""
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
