"""On a one-step task Q is the reward, so the law that each agent must reach is known: exp(r / alpha) / Z on (-1, 1)."""

from dataclasses import replace

import pytest
import torch

from agents import dp_wgf, dp_wgf_v, sac, sac_v, soft_q
from agents.training.protocol import Batch, Streams

SMALL = {"hidden": (32, 32), "activation": "tanh", "batch": 64, "lr": 2e-3, "tau": 0.05}
PARTICLES = {**SMALL, "w2": "common_noise", "squash": "exact"}
CASES = {
    "sac": (sac, replace(sac.Config(), **SMALL)),
    "sac_v": (sac_v, replace(sac_v.Config(), **SMALL)),
    "soft_q": (soft_q, replace(soft_q.Config(), **SMALL, squash="exact")),
    "dp_wgf": (dp_wgf, replace(dp_wgf.Config(), **PARTICLES)),
    "dp_wgf_v": (dp_wgf_v, replace(dp_wgf_v.Config(), **PARTICLES)),
}


def gaussian(a):
    """One goal at 0.2: exp(r) is a Gaussian of standard deviation 0.15."""
    return -0.5 * ((a - 0.2) / 0.15) ** 2


def two_goals(a):
    """Two goals at -0.5 and 0.5, each of standard deviation 0.2."""
    return torch.logsumexp(-0.5 * ((a[..., None] - torch.tensor([-0.5, 0.5])) / 0.2) ** 2, -1)


def trained(agent, cfg, reward, updates, device):
    """State of two seeds after updates on uniform actions of a one-step task."""
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    state = agent.init(cfg, 1, 1, generators, torch.device(device))
    draw = Streams([torch.Generator(device).manual_seed(k) for k in range(2)])
    obs = torch.zeros(2, cfg.batch, 1, device=device)
    for _ in range(updates):
        action = 2.0 * draw.uniform(cfg.batch, 1) - 1.0
        batch = Batch(obs, action, reward(action[..., 0].cpu()).to(device), torch.zeros_like(action[..., 0]), obs)
        info = agent.update(cfg, state, batch, agent.noise(cfg, 1, draw))
    return state, draw, info


def draws(agent, cfg, state, draw, n=4000):
    """n actions a seed (S, n) from the policy that explores."""
    obs = torch.zeros(2, n, 1, device=draw.device)
    return agent.act(cfg, state, obs, agent.act_noise(cfg, 1, n, draw))[..., 0].detach()


def law(reward, alpha):
    """Mean and standard deviation of exp(r / alpha) / Z by the trapezoid rule."""
    a = torch.linspace(-1.0, 1.0, 20001, dtype=torch.float64)
    p = torch.softmax(reward(a) / alpha, 0)
    mean = (p * a).sum()
    return mean.item(), (p * (a - mean) ** 2).sum().sqrt().item()


@pytest.mark.parametrize("name", ["sac_v", "soft_q", "dp_wgf", "dp_wgf_v"])
def test_policy_reaches_the_energy_based_law(name, device):
    agent, cfg = CASES[name]
    state, draw, _ = trained(agent, cfg, gaussian, 1500, device)
    a = draws(agent, cfg, state, draw)
    mean, std = law(gaussian, 1.0)
    print(name, a.mean(-1), mean, a.std(-1), std)


if __name__ == "__main__":
    import time
    torch.set_num_threads(1)
    for name in CASES:
        agent, cfg = CASES[name]
        for r in (gaussian, two_goals):
            t = time.time()
            state, draw, info = trained(agent, cfg, r, 1500, "cpu")
            a = draws(agent, cfg, state, draw)
            al = info["policy/alpha"] if "policy/alpha" in info else torch.ones(1)
            mean, std = law(r, al[0].item())
            print(name, r.__name__, f"{time.time()-t:.1f}s", a.mean(-1).tolist(), mean, a.std(-1).tolist(), std, (a > 0).float().mean(-1).tolist(), al.tolist())
