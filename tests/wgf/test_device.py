"""What an accelerator would be asked to do: operators are counted on tensors that hold no numbers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wgf import kernels, sinkhorn, svgd, transport, trusted
from wgf.kernels import IMQ, RBF

CALLS = {
    "velocity": lambda x, s, y: svgd.velocity(x, s),
    "velocity, given kernel": lambda x, s, y: svgd.velocity(x, s, IMQ(0.7)),
    "unbiased": lambda x, s, y: svgd.unbiased(x, s),
    "unbiased, groups": lambda x, s, y: svgd.unbiased(x, s, groups=4),
    "unbiased, given kernel": lambda x, s, y: svgd.unbiased(x, s, RBF(kernels.median_svpg(x)), groups=4),
    "blob": lambda x, s, y: svgd.blob(x, s),
    "gfsd": lambda x, s, y: svgd.gfsd(x, s),
    "langevin": lambda x, s, y: svgd.langevin(s, x, lr=0.1),
    "median_svgd": lambda x, s, y: kernels.median_svgd(x),
    "median_full": lambda x, s, y: kernels.median_full(x),
    "median_svpg": lambda x, s, y: kernels.median_svpg(x),
    "median_cross": lambda x, s, y: kernels.median_cross(x, y),
    "median_lam": lambda x, s, y: transport.median_lam(x, y),
    "eq9_sum": lambda x, s, y: transport.eq9_sum(x, y),
    "eq9_mean": lambda x, s, y: transport.eq9_mean(x, y),
    "common_noise": lambda x, s, y: transport.common_noise(x, y),
}


class Seen(TorchDispatchMode):
    """Counts operators, and the dtypes of what they return."""

    def __init__(self):
        super().__init__()
        self.names, self.dtypes = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        self.dtypes |= {t.dtype for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)}
        return out


def seen(call, *shape):
    with trusted(), Seen() as found:
        out = call(*(torch.empty(*shape, device="meta") for _ in range(3)))
    assert out.device.type == "meta"
    assert out.dtype == torch.float32
    return found


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_waits_for_a_device_and_more_seeds_are_no_more_operators(call):
    """Nothing reads a number: there is none to read. 64 seeds of 256 states, as many operators as of one."""
    counts = [len(seen(call, *lead, 32, 6).names) for lead in ((1, 256), (5, 256), (64, 256))]
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_float32_particles_of_few_axes_stay_float32(call):
    assert torch.float64 not in seen(call, 5, 256, 32, kernels.MANY).dtypes


ALL = slice(0, 32)


def test_blocks_of_rows_are_small_in_a_cache_and_bounded_elsewhere():
    x = torch.empty(64, 256, 32, 6, device="meta")
    assert len(list(kernels.row_blocks(x, x, ALL))) == 1  # 2^24 entries
    assert len(list(kernels.row_blocks(torch.empty(4 * 64, 256, 32, 6, device="meta"), x, ALL))) == 2
    assert len(list(kernels.row_blocks(torch.zeros(5, 256, 32, 6), x, ALL))) == 3


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_sinkhorn_waits_once_in_ten_iterations(spread, monkeypatch, draw):
    """As where a wait costs: a number that is read, or places that are searched for. Problems leave, and the plan is left behind."""
    monkeypatch.setattr(sinkhorn, "waits", lambda x: True)
    x, y = draw(6, 20, 2), draw(6, 15, 2, seed=1)
    x[0, 0] += spread
    eps, passes = draw(6).new_tensor([9.0, 1.0, 0.3, 0.1, 0.03, 0.01]), []
    for name in ("softmin", "__call__"):
        call = getattr(sinkhorn._Sweep, name)
        monkeypatch.setattr(sinkhorn._Sweep, name, lambda *args, call=call: passes.append(1) or call(*args))
    with trusted(), Seen() as found:
        plan = sinkhorn.sinkhorn(x, y, eps)
    assert plan.converged.all()
    assert len(passes) > 50
    waits = [name for name in found.names if any(word in name for word in ("_local_scalar", "nonzero", "masked_select"))]
    assert len(waits) <= 1 + len(passes) / 10
    indexed = [name for name in found.names if "index.Tensor" in name]
    assert indexed  # problems that leave
