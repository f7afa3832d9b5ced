"""What each rank of tests/agents/training/test_team.py runs: short trainings that they share, which rank 0 writes beside collectives."""

import sys

import torch

from wgf import ranks
from wgf.agents import Agent
from wgf.agents.training.checkpoint import tensors

SMALL = {"env": "wgf/CartPole-v0", "seeds": (0, 3), "device": "cpu", "hidden": (8, 5), "eval_episodes": 2, "compile": False}
# 14 policies, which three ranks do not share evenly
ES = SMALL | {"pairs": 7, "horizon": 30, "eval_every": 1000, "log_every": 1, "taught": 20, "features": 30}
STEPS = {"es": 3 * 14 * 30}
TRAININGS = {
    "es": ES,
    "es paper, wide": ES | {"hidden": (64, 64), "pairs": 3},
    "es nsr-es": ES | {"preset": "nsr-es"},
    "es bges": ES | {"preset": "bges"},
    "es wasserstein": ES | {"guide": "wasserstein", "embedding": "actions"},
    "es bg-wnes": ES | {"preset": "bg-wnes", "embedding": "reward_to_go"},
    "es rank": ES | {"rank": 1},
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


TAKEN, _real = [0], ranks._all_gather


def _counted(*args):
    TAKEN[0] += 1
    return _real(*args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks._all_gather = _counted
    whole = everything(True)
    if ranks.is_first():
        torch.save(whole, sys.argv[1])
