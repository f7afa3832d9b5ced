"""An agent's whole state on disk: safetensors and JSON, written whole or not at all, loaded without running code."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.numpy import save as serialize
from safetensors.torch import load as parse
from torch import Tensor

from wgf.agents.training.descent import Adam
from wgf.limits import contents

__all__ = [
    "A_RUN", "again", "alike", "compare", "digest", "doubted", "load", "named", "read_json", "read_sealed", "read_tensors", "read_whole",
    "replace", "restore_", "save", "seed_slice", "serialized", "tensors", "unsealed", "write_json", "write_sealed", "write_tensors",
]  # fmt: skip

T = TypeVar("T")
FORMAT = 3
LARGEST = 2**24  # bytes of a JSON file that is read
DEEPEST = 50  # objects and lists in one another
A_RUN = "give the folder of a run, such as runs/main/ENV/AGENT/seed-0"


def tensors(state: Any) -> dict[str, Tensor]:
    """Returns every tensor of a state by name, "policy.theta", "policy.m" or "q_target": the tensors themselves, not copies."""
    found: dict[str, Tensor] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Adam):
            found |= {f"{field.name}.{part}": getattr(value, part) for part in ("theta", "m", "v", "steps")}
        elif is_dataclass(value):
            found |= {f"{field.name}.{name}": t for name, t in tensors(value).items()}
        elif isinstance(value, Tensor):
            found[field.name] = value
    return found


def seed_slice(state: Any, s: int) -> dict[str, Tensor]:
    """Returns the tensors of seed s of a stack, as a stack of one. Step counts, which have no axes, belong to every seed."""
    return {name: (t[s : s + 1] if t.ndim else t).cpu().contiguous() for name, t in tensors(state).items()}


def restore_(state: Any, slices: Sequence[dict[str, Tensor]]) -> None:
    """Fills a state of S seeds from S slices. Raises ValueError as ``compare`` does."""
    compare(own := tensors(state), slices)
    for name, t in own.items():
        t.copy_(torch.cat([v[name] for v in slices]) if t.ndim else slices[0][name])


def alike(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises ValueError, naming the first tensor that only one of an agent and a checkpoint has."""
    if odd := sorted(own.keys() ^ found.keys()):
        raise ValueError(f"the checkpoint and the agent differ in tensor {odd[0]!r}: it belongs to another agent or version")


def compare(own: Mapping[str, Tensor], slices: Sequence[dict[str, Tensor]]) -> None:
    """Raises ValueError, naming the tensor, where slices of one seed differ from a state's tensors in names, shapes or types."""
    for values in slices:
        alike(own, values)
        for name, t in own.items():
            needed = f"{t.dtype} of shape {(1, *t.shape[1:]) if t.ndim else ()}"
            if (found := f"{values[name].dtype} of shape {tuple(values[name].shape)}") != needed:
                raise ValueError(f"tensor {name!r} is {found} in the checkpoint; the agent needs {needed}")


def save(folder: Path, values: dict[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes policy-<step>.safetensors, then policy.json, which names it with its sha256; only then are older files removed."""
    file = folder / f"policy-{about['step']}.safetensors"
    write_sealed(folder / "policy.json", {"format": FORMAT, **write_tensors(file, values), **about})
    for old in folder.glob("policy-*.safetensors"):
        if old != file:
            old.unlink()


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns (about, tensors) of a folder that ``save`` wrote. Raises ValueError, in one line, for anything else."""
    path = folder / "policy.json"

    def both() -> tuple[dict[str, Any], dict[str, Tensor]]:
        about = read_sealed(path, lambda found: found.get("format") == FORMAT, f"a policy of format {FORMAT}; {A_RUN}")
        return about, read_tensors(folder, about, r"policy-\d+\.safetensors", path.name)

    return again(both)


@contextmanager
def doubted(what: str) -> Iterator[None]:
    """Makes of any error that content of a file leads to a ValueError of one line, which begins with ``what``."""
    try:
        yield
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        raise ValueError(f"{what}: {lacks}{' '.join(str(error).split())}") from None


def again(read: Callable[[], T]) -> T:
    """Reads files that belong together, once more where they do not fit: a training beside may have written between the reads."""
    try:
        return read()
    except ValueError:
        return read()


def write_tensors(file: Path, values: dict[str, Tensor]) -> dict[str, str]:
    """Writes tensors into a file, whole; returns its name and sha256."""
    data, sha256 = serialized(values)
    replace(file, data)
    return {"file": file.name, "sha256": sha256}


def serialized(values: dict[str, Tensor]) -> tuple[bytes, str]:
    """Returns the bytes of a safetensors file, and their sha256.

    As arrays: what safetensors does with tensors leaves a type behind for every new size, some kilobytes each, for as long as it runs.
    """
    data = serialize({name: t.detach().cpu().contiguous().numpy() for name, t in values.items()})
    return data, hashlib.sha256(data).hexdigest()


def digest(path: Path) -> dict[str, Any]:
    """Returns how many bytes a file has, and their sha256: what a sealed file says of one that stands beside it."""
    data = contents(path)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_whole(path: Path, named: Any, by: str) -> bytes:
    """Reads the file that ``digest`` was asked about. Raises ValueError, in one line, for any other content."""
    size = named.get("bytes") if isinstance(named, Mapping) else None
    if type(size) is not int or size < 0:
        raise ValueError(f"{path} cannot be believed: {by} does not say what it held; move them away to make them again")
    try:
        data = contents(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if (len(data), hashlib.sha256(data).hexdigest()) != (size, named.get("sha256")):
        raise ValueError(
            f"{path} is damaged: its sha256 is not the one in {by}; restore it from a copy, or move them away to make them again"
        )
    return data


def read_tensors(folder: Path, named: Mapping[str, Any], pattern: str, by: str) -> dict[str, Tensor]:
    """Reads the file that ``write_tensors`` named. Raises ValueError, in one line, for any other name or content."""
    name = named.get("file")
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f"{folder / by} names the file {name!r}, which no version of wgf writes; restore it from a copy")
    try:
        data = contents(folder / name)
    except OSError as error:
        raise ValueError(f"{folder / name} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != named.get("sha256"):
        raise ValueError(f"{folder / name} is damaged: its sha256 is not the one in {by}; restore it from a copy")
    try:
        return parse(data)
    except SafetensorError as error:
        raise ValueError(f"{folder / name} is not a safetensors file: {error}") from None


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object with a seal, which tells damage: the sha256 of its text."""
    write_json(path, {**value, "seal": _seal(value)})


def read_sealed(path: Path, fits: Callable[[dict[str, Any]], bool] = bool, kind: str = "written by wgf") -> dict[str, Any]:
    """Reads what ``write_sealed`` wrote. Raises ValueError, in one line, where it is not of the kind, or damaged."""
    value = read_json(path)
    if not fits({name: part for name, part in value.items() if name != "seal"}):
        raise ValueError(f"{path} is not {kind}")
    return unsealed(value, path)


def unsealed(value: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns what a file held beside its seal. Raises ValueError, in one line, where there is none or another one."""
    found = dict(value)
    seal = found.pop("seal", None)
    if seal is None:
        raise ValueError(f"{path} has no seal: another version of wgf wrote it, or it was edited; move it away to make it again")
    if seal != _seal(found):
        raise ValueError(f"{path} is damaged or was edited: its seal does not fit its text; restore it from a copy")
    return found


def _seal(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file. Raises ValueError, in one line; no key may come twice."""
    try:
        data = contents(path, LARGEST)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; {A_RUN}") from None
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON: it was not written by wgf, or is damaged") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object: it was not written by wgf")
    if _deeper(value, DEEPEST):
        raise ValueError(f"{path} has more than {DEEPEST} objects or lists in one another: it was not written by wgf")
    return value


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        parts = (part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole))
        level = [part for part in parts if isinstance(part, (dict, list))]
    return bool(level)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object into a file, whole; numbers must be finite."""
    replace(path, json.dumps(value, indent=1, allow_nan=False).encode())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Gives an OSError the name of the file that is written, where the system gives none, as for a disk that is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def replace(path: Path, data: bytes) -> None:
    """Writes a file whole: to a temporary name, to the disk, then renamed. Where that fails, the old file stands.

    The name too is on the disk when it returns: what is written afterwards is never there without it.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with named(path), open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is written through
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
