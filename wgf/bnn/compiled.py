"""A fit's direction as machine code, made once for each shape while the process lives."""

from torch import Tensor

from wgf.bnn.flows import Drive, drive, with_w2
from wgf.bnn.model import Model
from wgf.compiler import machine_code

__all__ = ["compiled"]

RECORDED = ("common_noise", "eq9_sum", "eq9_mean")  # the others look at numbers: when to stop, whom to assign
_made: dict[tuple[object, ...], Drive] = {}


def compiled(flow: str, model: Model, n: int, w2: str | None = None, scale: float = 0.0) -> Drive:
    """``flows.drive``, compiled at its first call for a shape of the particles and the minibatch, which takes seconds; equal to it but
    for rounding.

    A W2 velocity that is not in ``RECORDED`` runs as it is written; on a machine without a C++ compiler all does, with a RuntimeWarning.
    """
    if w2 is not None and w2 not in RECORDED:
        return with_w2(compiled(flow, model, n), w2, scale)
    plain = drive(flow, model, n, w2, scale)

    def call(*args: Tensor) -> Tensor:
        laid = tuple(t.contiguous() for t in args)  # one layout, of a slice as of rows picked singly
        key = (flow, model, n, w2, scale, *(t.shape for t in laid), laid[0].device)
        if key not in _made:
            _made[key] = machine_code(plain, *laid) or plain
        return _made[key](*laid)

    return call
