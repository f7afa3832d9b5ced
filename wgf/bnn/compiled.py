"""The one switch of ``torch.compile``: a fit's direction as compiled code, made once for each shape while the process lives."""

import warnings

import torch
from torch import Tensor

from wgf.bnn.flows import Drive, drive
from wgf.bnn.model import Model

LIMIT = 256  # shapes of one process; torch's own limit of 8 would refuse the ninth
_made: dict[tuple[object, ...], Drive] = {}


def compiled(flow: str, model: Model, n: int, batch: int, device: torch.device) -> Drive:
    """``flows.drive`` for minibatches of ``batch`` rows, compiled at its first call, which takes seconds; equal to it but for rounding.

    Whole or not at all: on a machine without a C++ compiler it runs as it is, with a RuntimeWarning.
    """
    key = (flow, model.net.stack, model.net.shapes, model.centred, model.prior, n, batch, device)
    if key not in _made:
        _made[key] = _make(drive(flow, model, n))
    return _made[key]


def _make(plain: Drive) -> Drive:
    found, tried = torch.compile(plain, fullgraph=True, dynamic=False), False

    def call(particles: Tensor, x: Tensor, y: Tensor) -> Tensor:
        nonlocal found, tried
        x, y = (t.clone(memory_format=torch.contiguous_format) for t in (x, y))  # one layout, of a slice as of rows picked singly
        if tried:
            return found(particles, x, y)
        tried = True
        try:
            with torch._dynamo.config.patch(recompile_limit=LIMIT):
                return found(particles, x, y)
        except RuntimeError as error:
            warnings.warn(f"the fit runs uncompiled: {' '.join(str(error).split())[:200]}", RuntimeWarning, stacklevel=2)
            found = plain
            return plain(particles, x, y)

    return call
