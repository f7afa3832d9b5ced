"""A fit's direction as machine code, made once for each shape while the process lives."""

import torch
from torch import Tensor

from wgf.bnn.flows import Drive, drive, with_w2
from wgf.bnn.model import Model
from wgf.compiler import machine_code

RECORDED = ("common_noise", "eq9_sum", "eq9_mean")  # the others look at numbers: when to stop, whom to assign
_made: dict[tuple[object, ...], Drive] = {}


def compiled(flow: str, model: Model, n: int, w2: str | None = None, scale: float = 0.0, *, batch: int, device: torch.device) -> Drive:
    """``flows.drive`` for minibatches of ``batch`` rows, compiled at its first call, which takes seconds; equal to it but for rounding.

    A W2 velocity that is not in ``RECORDED`` runs as it is written; on a machine without a C++ compiler all does, with a RuntimeWarning.
    """
    if w2 is not None and w2 not in RECORDED:
        return with_w2(compiled(flow, model, n, batch=batch, device=device), w2, scale)
    key = (flow, model.net.stack, model.net.shapes, model.centred, model.prior, n, batch, device, w2, scale)
    if key not in _made:
        _made[key] = _make(drive(flow, model, n, w2, scale))
    return _made[key]


def _make(plain: Drive) -> Drive:
    found: Drive | None = None

    def call(particles: Tensor, before: Tensor, x: Tensor, y: Tensor) -> Tensor:
        nonlocal found
        args = particles, before, x.contiguous(), y.contiguous()  # one layout, of a slice as of rows picked singly
        if found is None:
            found = machine_code(plain, *args) or plain
        return found(*args)

    return call
