"""Many particles in 100 dimensions: memory grows as M, not as M^2 (of 10,000 a float32 matrix has 0.4 GiB)."""

import pytest

from tests.peak import printed

PARTICLES = 10_000
PROGRAM = """
from wgf import svgd, transport
x, y = (torch.randn({particles}, 100, device=device, generator=torch.Generator(device).manual_seed(k)) for k in (0, 1))
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
def test_many_particles_fit_in_two_gib_and_need_no_matrix(call, device):
    """Sinkhorn's memory is that of one iteration; a median cost is 200 here."""
    before, peak = printed(PROGRAM.format(call=call, particles=PARTICLES), device)
    assert peak < 2 * 2**30
    assert peak - before < PARTICLES**2 * 4 / 3  # a third of one float32 matrix
