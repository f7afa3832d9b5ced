"""The file of a fitted regressor: one safetensors file, whose header has the parameters as JSON and a sha256 of all that is in it."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save_file
from torch import Tensor

from wgf.bnn.fit import DTYPE, Fit
from wgf.limits import contents
from wgf.shown import shown

__all__ = ["FORMAT", "field", "read", "whole", "write"]

FORMAT = "wgf-bnn-3"


def write(path: str | Path, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes what is said about a regressor, as JSON knows it, and its tensors."""
    text = json.dumps(about)
    save_file(tensors, path, {"format": FORMAT, "about": text, "sha256": _digest(text, tensors)})


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns what ``write`` wrote. Raises ValueError, in one line with the file's name, for any other file."""
    try:
        data = contents(path)
        tensors = parse(data)
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]]).get("__metadata__", {})
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is not a saved BayesianRegressor of format {FORMAT}: its format is {header.get('format')!r}")
    text = header.get("about")
    if not isinstance(text, str) or header.get("sha256") != _digest(text, tensors):
        raise ValueError(f"{path} is damaged: its sha256 is not that of what it holds; restore it from a copy")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: it does not say what it holds")
    return about, tensors


def field(about: dict[str, Any], name: str, kind: type) -> Any:
    """Returns what is said about a regressor by its name. Raises ValueError where it is of another type, KeyError where it is missing."""
    value = about[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is {shown(value)}; it must be of type {kind.__name__}")
    return value


def whole(fit: Fit, features: int, outputs: int) -> Fit:
    """Returns a fit of one data set. Raises ValueError, naming the tensor, where a shape, a type or a number is none that a fit leaves."""
    shapes = {"particles": (1, fit.model.particles, fit.model.numbers), "log_gamma": (1, fit.model.particles, outputs)}
    shapes |= {f"{what}_{part}": (1, 1, n) for what, n in (("x", features), ("y", outputs)) for part in ("mean", "std")}
    for name, shape in shapes.items():
        tensor, kind = getattr(fit, name), DTYPE if name == "particles" else torch.float64
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; it must be {kind} of shape {shape}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has a number that is not finite")
        scale = {"log_gamma": torch.exp(-0.5 * tensor)}.get(name, tensor)
        if name.endswith(("_std", "_gamma")) and not ((scale > 0.0) & scale.isfinite()).all():
            raise ValueError(f"{name} has a scale of {scale.min().item():g} to {scale.max().item():g}; a scale is above 0 and finite")
    return fit


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())  # numpy does not know every type
    return found.hexdigest()
