"""An agent's whole state on disk: safetensors and JSON, written whole or not at all, loaded without running code."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor, nn

FORMAT = 1


def tensors(state: Any) -> dict[str, Tensor]:
    """Every tensor of a state by name, "policy.net.weights.0" or "q_adam.3.exp_avg": the tensors themselves, not copies."""
    found: dict[str, Tensor] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, nn.Module):
            found |= {f"{field.name}.{name}": p.detach() for name, p in value.named_parameters()}
        elif isinstance(value, torch.optim.Optimizer):
            for i, p in enumerate(value.param_groups[0]["params"]):
                found |= {f"{field.name}.{i}.{key}": m for key, m in _moments(value, p).items()}
        else:
            found[field.name] = value.detach()
    return found


def _moments(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, Tensor]:
    """Adam's state of one parameter; made where no step has been taken yet."""
    if not optimizer.state[p]:
        optimizer.state[p] = {"step": torch.zeros((), device=p.device), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    return optimizer.state[p]


def seed_slice(state: Any, s: int) -> dict[str, Tensor]:
    """The tensors of seed s of a stack, as a stack of one. Step counts, which have no axes, belong to every seed."""
    return {name: (t[s : s + 1] if t.ndim else t).cpu().contiguous() for name, t in tensors(state).items()}


@torch.no_grad()
def restore_(state: Any, slices: Sequence[dict[str, Tensor]]) -> None:
    """Fills a state of S seeds from S slices. Raises ValueError, naming the tensor, where names or shapes differ."""
    own = tensors(state)
    for values in slices:
        if odd := sorted(own.keys() ^ values.keys()):
            raise ValueError(f"the checkpoint and the agent differ in tensor {odd[0]!r}: it belongs to another agent or version")
    for name, t in own.items():
        value = torch.cat([v[name] for v in slices]) if t.ndim else slices[0][name]
        if value.shape != t.shape:
            raise ValueError(f"tensor {name!r} has shape {tuple(value.shape)} in the checkpoint; the agent needs {tuple(t.shape)}")
        t.copy_(value)


def save(folder: Path, values: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Writes policy-<step>.safetensors, then policy.json, which names it with its sha256; only then are older files removed."""
    data = serialize(values)
    file = folder / f"policy-{about['step']}.safetensors"
    replace(file, data)
    replace(
        folder / "policy.json",
        json.dumps({"format": FORMAT, "file": file.name, "sha256": hashlib.sha256(data).hexdigest(), **about}, indent=1).encode(),
    )
    for old in folder.glob("policy-*.safetensors"):
        if old != file:
            old.unlink()


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(about, tensors) of a folder that ``save`` wrote. Raises ValueError, in one line, for anything else."""
    about = read_json(folder / "policy.json")
    name = about.get("file")
    if about.get("format") != FORMAT or not isinstance(name, str) or not re.fullmatch(r"policy-\d+\.safetensors", name):
        raise ValueError(
            f"{folder / 'policy.json'} is not a policy of format {FORMAT}; give the folder of a run, such as runs/main/ENV/AGENT/seed-0"
        )
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder / name} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != about.get("sha256"):
        raise ValueError(f"{folder / name} is damaged: its sha256 is not the one in policy.json; restore it from a copy")
    try:
        return about, parse(data)
    except SafetensorError as error:
        raise ValueError(f"{folder / name} is not a safetensors file: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ValueError, in one line."""
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give the folder of a run, such as runs/main/ENV/AGENT/seed-0") from None
    except ValueError:
        raise ValueError(f"{path} is not JSON: it was not written by wgf, or is damaged") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object: it was not written by wgf")
    return value


def replace(path: Path, data: bytes) -> None:
    """Writes a file whole: to a temporary name, to the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
