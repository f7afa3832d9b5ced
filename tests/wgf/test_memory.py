"""20,000 particles in 100 dimensions: memory grows as M, not as M^2 (1.5 GiB a float32 matrix, 3 GiB a float64 one)."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from wgf import svgd, transport
torch.set_num_threads(1)
device = torch.device({device!r})
def peak():
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
x, y = (torch.randn(20_000, 100, device=device, generator=torch.Generator(device).manual_seed(k)) for k in (0, 1))
before = peak()
v = {call}
assert v.isfinite().all()
print(before, peak())
"""


@pytest.mark.parametrize(
    "call",
    ["svgd.velocity(x, -x)", "svgd.unbiased(x, -x, groups=4)", "transport.sinkhorn(x, y, 20.0, max_iters=1).barycentre"],
    ids=["svgd", "unbiased", "sinkhorn"],
)
def test_twenty_thousand_particles_fit_in_two_gib_and_need_no_matrix(call, device):
    """Sinkhorn's memory is that of one iteration; a median cost is 200 here."""
    program = PROGRAM.format(device=str(device), call=call)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, peak = map(int, run.stdout.split())
    assert peak < 2 * 2**30
    assert peak - before < 20_000**2 * 4 / 3  # a third of one float32 matrix
