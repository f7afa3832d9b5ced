"""Draws what a person could write into a file who knows its format: parts removed, of other types, huge, not finite, deep, sealed anew."""

import copy
import csv
import hashlib
import io
import json
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from wgf.agents.training import checkpoint

ROOM = 2**31  # bytes that a reader may take beside what the process has


def misread(content: bytes) -> bytes:
    """Returns a file with the last digit of a number in its middle exchanged, 0 for 1, 2 for 3 and so on: JSON stays JSON."""
    at = next(i for i in range(len(content) // 2, len(content)) if chr(content[i]).isdigit() and not chr(content[i + 1]).isdigit())
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def nested(depth: int) -> Any:
    """Lists in one another."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


LEAVES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 10**9, 2**63, 10**400, 0.5, 1e308, math.nan, math.inf, -math.inf]),
    st.sampled_from(["", "1", "nan", "\0", "\ud800", "é\n", "x" * 5000, "../../x", "a:b", "cpu", "[1]"]),
    st.sampled_from([[], {}, [[1]], [1, 2], {"a": {"b": 1}}, ["a"], [None], [0] * 1000, {"": ""}]),
    st.sampled_from([60, 300, 700]).map(nested),
    st.text(max_size=4),
)
STRANGE = [
    b"", b"\0" * 5000, b"\xff\xfe{", b"[" * 10_000, b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a": 1, "a": 2}', b"9" * 9999,
    b"x" * 10**6, b"1 " * 10**6, b",\n" * 10**5, b"\n" * 10**5, b"{}", b"null", b'{"seal": 1}', b'{"seal": {"a": NaN}}',
]  # fmt: skip
TEXT = st.text(alphabet='{}[],:"\\ \n0123456789eE+-.abc', max_size=60)
RAW = st.one_of(st.binary(max_size=300), TEXT.map(lambda text: text.encode()), st.sampled_from(STRANGE))
KINDS = [torch.bfloat16, torch.float16, torch.bool, torch.int8, torch.int64, torch.float64, torch.float8_e4m3fn, torch.complex64]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of everything within a value of JSON, down to its tenth level."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) and len(path) < 10 else ()
    return [found for key, part in items for found in ((*path, key), *places(part, (*path, key)))]


@st.composite
def edited(draw: Callable[..., Any], value: Any) -> Any:
    """A value of JSON with one to three of its parts removed, renamed, wrapped, exchanged for others, or for what cannot be meant."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        there = places(value)
        if not there:
            return value
        *folders, name = draw(st.sampled_from(there))
        place = value
        for folder in folders:
            place = place[folder]
        how = draw(st.sampled_from(["leaf", "leaf", "gone", "renamed", "wrapped", "other"]))
        if how == "gone" or (how == "renamed" and isinstance(place, list)):
            del place[name]
        elif how == "renamed":
            place[draw(st.text(max_size=3))] = place.pop(name)
        elif how == "wrapped":
            place[name] = [place[name]]
        elif how == "other":
            place[name] = copy.deepcopy(_at(value, draw(st.sampled_from(there))))
        else:
            place[name] = copy.deepcopy(draw(LEAVES))
    return value


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def retyped(draw: Callable[..., Any], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which one or two are gone, renamed, of another type or shape, or hold a number that is not finite."""
    found = dict(tensors)
    for _ in range(draw(st.integers(1, 2))):
        if not found:
            return found
        name = draw(st.sampled_from(sorted(found)))
        how, tensor = draw(st.sampled_from(["gone", "renamed", "type", "shape", "empty", "nan", "large"])), found.pop(name)
        if how == "renamed":
            found[draw(st.sampled_from(["x", "a:b:c", f"{name}:x", ":", "\ud7ff"]))] = tensor
        if how == "type":
            kinds = [
                torch.bfloat16,
                torch.float16,
                torch.bool,
                torch.int8,
                torch.int64,
                torch.float64,
                torch.float8_e4m3fn,
                torch.complex64,
            ]
            found[name] = tensor.to(draw(st.sampled_from(kinds)))
        if how in ("shape", "empty"):
            found[name] = tensor.reshape(1, -1) if how == "shape" else tensor.new_empty(0, 3)
        if how in ("nan", "large"):
            found[name] = (tensor.double() * (math.nan if how == "nan" else 2.0**30)).to(tensor.dtype)
    return found


@st.composite
def tables(draw: Callable[..., Any], content: bytes) -> bytes:
    """A CSV file some of whose cells, rows and names are others, or anything at all."""
    rows = list(csv.reader(content.decode().splitlines()))
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.sampled_from(rows))
        cell = draw(st.sampled_from(["", "nan", "inf", "-1", "1e999", "9" * 400, "x", "\0", '"', "é", "1_0", "x" * 200_000, "step", "tag"]))
        how = draw(st.sampled_from(["cell", "cell", "row", "longer", "shorter", "twice"]))
        if how == "cell" and row:
            row[draw(st.integers(0, len(row) - 1))] = cell
        elif how == "row" and len(rows) > 1:
            rows.remove(row)
        elif how == "longer":
            row.append(cell)
        elif how == "shorter":
            del row[-1:]
        else:
            rows.append(list(row))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return draw(st.one_of(st.just(text.getvalue().encode()), RAW))


def write(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON object with a seal that fits, whatever it holds."""
    path.write_text(json.dumps({**value, "seal": checkpoint._seal(value)}))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Writes tensors, and returns what a sealed file says of them."""
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    path.write_bytes(data)
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}


@contextmanager
def bounded() -> Iterator[None]:
    """Lets this process take no more than ROOM beside what it has: more is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
