"""What each rank of tests/agents/training/test_team.py runs: short trainings that they share, which rank 0 writes beside collectives.

With a second argument it trains in environments that break.
"""

import os
import sys

import gymnasium as gym
import numpy as np
import torch

from wgf import ranks
from wgf.agents import Agent
from wgf.agents.training.checkpoint import tensors

SMALL = {"env": "wgf/CartPole-v0", "seeds": (0, 3), "device": "cpu", "hidden": (8, 5), "eval_episodes": 2, "compile": False}
# 14 policies, which three ranks do not share evenly
ES = SMALL | {"pairs": 7, "horizon": 30, "eval_every": 1000, "log_every": 1, "taught": 20, "features": 30}
# five particles, of which two ranks have three and two, and three ranks two, two and one
IP = SMALL | {"particles": 5, "batch": 20, "envs": 2, "critic_steps": 3, "eval_every": 10**4, "log_every": 300}
STEPS = {"es": 3 * 14 * 30, "ip-wgf": 9 * 5 * 20}
TRAININGS = {
    "es": ES,
    "es paper, wide": ES | {"hidden": (64, 64), "pairs": 3},
    "es nsr-es": ES | {"preset": "nsr-es"},
    "es centres": ES | {"preset": "nsr-es", "centres": 3},
    "es bges": ES | {"preset": "bges"},
    "es wasserstein": ES | {"guide": "wasserstein", "embedding": "actions"},
    "es bg-wnes": ES | {"preset": "bg-wnes", "embedding": "reward_to_go"},
    "es rank": ES | {"rank": 1},
    "ip-wgf": IP,
    "ip-wgf exact": IP | {"w2": "exact", "w2_scale": 0.1, "inner_steps": 2, "weight_noise": 0.1, "sigma": "learned", "preset": "modern"},
    "ip-wgf debiased": IP | {"w2": "debiased", "weight_noise": 0.1, "prior": 1.0},
    "ip-wgf without": IP | {"w2_scale": 0.0},
    "ip-wgf gymnasium": IP | {"env": "Hopper-v5"},
    "es gymnasium": ES | {"env": "Pendulum-v1", "gamma": 0.9},
}


def trained(name, shards):
    """A training's tensors, what it told at each look, and how many collectives there had been then."""
    counts, seen = [], []

    def tell(step, metrics, agent):
        counts.append(TAKEN[0])
        seen.append({tag: torch.from_numpy(value) for tag, value in metrics.items() if tag != "charts/steps_per_second"})

    agent = Agent(name.split()[0], **TRAININGS[name], shards=shards).learn(STEPS[name.split()[0]], tell)
    agent.close()
    return {"state": tensors(agent.state), "seen": seen, "counts": counts, "episodes": agent.evaluate(2)}


def everything(shards):
    """All trainings by name, in float32 and in float64."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        names = [name for name in TRAININGS if dtype == torch.float32 or "gymnasium" not in name]  # whose numbers are float32
        found |= {(name, dtype): trained(name, shards) for name in names}
    torch.set_default_dtype(torch.float32)
    return found


class Breaks(gym.Env):
    """It raises in the fourth step of an episode, on the second rank alone."""

    observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.t == 4 and os.environ["RANK"] == "1":
            raise RuntimeError("a wheel came off")
        return np.zeros(2, np.float32), 1.0, False, False, {}


def broken():
    """How trainings end whose environments break on one rank."""
    found = {}
    for name, settings in {"es": ES, "ip-wgf": IP}.items():
        try:
            Agent(name, **settings | {"env": Breaks}, shards=True).learn(1000)
        except RuntimeError as error:
            found[name] = str(error)
    return found


TAKEN, _real = [0], ranks._all_gather


def _counted(*args):
    TAKEN[0] += 1
    return _real(*args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks._all_gather = _counted
    whole = everything(True) if len(sys.argv) == 2 else broken()
    if ranks.is_first():
        torch.save(whole, sys.argv[1])
