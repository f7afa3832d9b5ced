"""256 policies of 1e5 parameters: memory is a stated multiple of theirs."""

from tests.peak import printed

PROGRAM = """
from wgf.agents import ip_wgf
from wgf.agents.training.rollout import Segment
lead = (1, 256, 4, 1)
draw = lambda *shape: torch.randn(*lead, *shape, device=device)
cfg = ip_wgf.Config(particles=256, hidden=(400, 240), batch=4, envs=1, critic_steps=2)
before = peak()
state = ip_wgf.init(cfg, 4, 1, [torch.Generator().manual_seed(0)], device)
segment = Segment(draw(4), draw(1), draw(), torch.ones(lead, device=device), torch.zeros(lead, dtype=torch.bool, device=device), draw(4))
for _ in range(2):
    info = ip_wgf.update(cfg, state, segment, None)()
assert all(value.isfinite().all() for value in info.values())
print(state.policy.theta.numel(), peak() - before)
"""


def test_sixteen_times_the_paper_s_particles_of_a_hundred_times_its_size_take_the_memory_that_is_stated(device):
    numbers, taken = printed(PROGRAM, device)
    assert numbers > 256 * 98_000
    assert taken < 24 * 4 * numbers  # agents.particles.ParticleSettings.particles
