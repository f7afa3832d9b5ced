"""An iteration of evolution strategies on the point before a wall: a population at once, against one environment at a time.

    python tests/bench/es.py [--pairs 250] [--seeds 1] [--rounds 9] [--out FILE.md]
    python tests/bench/es.py --hidden 256 256 --ranks 1 4 [--pairs 250] [--rounds 9] [--out FILE.md]

An iteration: perturbations are drawn, every policy plays an episode of 50 steps, and the centre takes a step of ES. One at a time: the same
policies in numpy, one after another, in one environment through Gymnasium: MuJoCo's point, or the project's own as it is registered.
With ranks: perturbations of each of these ranks, against those of every weight, for policies of so many hidden units.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from timing import alternate, median, ratio, report, table

from wgf import trusted
from wgf.agents import es
from wgf.agents.training.envs import Source
from wgf.agents.training.protocol import Actor, Streams
from wgf.agents.training.schedule import Schedule

HORIZON = 50
ALONE = ("wgf/PointWallMuJoCo-v0", "wgf/PointWall-v0")


class Together:
    """ES on a population of so many pairs and seeds; ``compile``: the steps of the task as machine code."""

    def __init__(self, pairs: int, seeds: int, compile: bool = False, **settings: Any) -> None:
        self.cfg, device = es.Config(pairs=pairs, horizon=HORIZON, **settings), torch.device("cpu")
        self.memory = es.memory(self.cfg, Schedule())
        self.state = es.init(self.cfg, 6, 2, [torch.Generator().manual_seed(k) for k in range(seeds)], device)
        self.draw = Streams([torch.Generator().manual_seed(k) for k in range(seeds)])
        envs = Source("wgf/PointWall-v0").make(seeds, self.memory.envs, device=device, compile=compile)
        self.memory.begin(envs, range(seeds), device)
        self.actor = Actor(partial(es.act, self.cfg), self.state, lambda n: None)

    def __call__(self) -> None:
        with trusted():
            self.memory.explore(self.state, self.draw)
            self.memory.collect(self.actor)
            for batch in self.memory.batches():
                es.update(self.cfg, self.state, batch, es.noise(self.cfg, 2, self.draw))()


class Alone:
    """The same in one environment: networks and the step of Adam in numpy."""

    def __init__(self, name: str, sample: int) -> None:
        self.env, self.sample = gymnasium.make(name), sample
        rng = self.rng = np.random.default_rng(0)
        self.theta = rng.normal(0.0, 0.3, 6 * 16 + 16 + 16 * 16 + 16 + 16 * 2 + 2)
        self.m, self.v = np.zeros_like(self.theta), np.zeros_like(self.theta)

    def episode(self, theta: Any) -> float:
        """Return of one policy."""
        w1, b1, w2, b2, w3, b3 = np.split(theta, np.cumsum([96, 16, 256, 16, 32]))
        w1, w2, w3 = w1.reshape(6, 16), w2.reshape(16, 16), w3.reshape(16, 2)
        obs, total, ended = self.env.reset(seed=0)[0], 0.0, False
        while not ended:
            action = np.tanh(np.tanh(np.tanh(obs @ w1 + b1) @ w2 + b2) @ w3 + b3)
            obs, reward, terminated, truncated, _ = self.env.step(action)
            total, ended = total + float(reward), terminated or truncated
        return total

    def __call__(self) -> None:
        eps = self.rng.normal(size=(self.sample, len(self.theta)))
        returns = np.array([[self.episode(self.theta + sign * 0.1 * e) for e in eps] for sign in (1.0, -1.0)])
        fitness = (returns - returns.mean()) / returns.std()
        g = (fitness[0] - fitness[1]) @ eps / (0.2 * self.sample)
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g * g
        self.theta = self.theta + 0.1 * self.m / (np.sqrt(self.v) + 1e-8)


def by_rank(hidden: tuple[int, ...], ranks: list[int], pairs: int, rounds: int) -> str:
    """Times of an iteration with perturbations of every weight, rank 0, and of low rank, single steps and as machine code."""
    kinds = {"single steps": False, "compiled": True}
    cases = {(kind, rank): Together(pairs, 1, compile, hidden=hidden, rank=rank) for kind, compile in kinds.items() for rank in (0, *ranks)}
    times = alternate({f"{kind} {rank}": case for (kind, rank), case in cases.items()}, rounds)
    rows = [
        {
            "rank": str(rank),
            **{f"{kind}, s per iteration": f"{median(times[f'{kind} {rank}']):.4f}" for kind in kinds},
            **{f"rank 0 / this, {kind}": ratio(times, f"{kind} 0", f"{kind} {rank}") for kind in kinds},
        }
        for rank in (0, *ranks)
    ]
    units = " and ".join(map(str, hidden))
    return f"{pairs} pairs, policies of {units} hidden units, episodes of {HORIZON} steps, one thread, float32.\n\n{table(rows)}"


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--sample", type=int, default=10, help="pairs that are played one at a time; the rest takes as long each")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 16], help="hidden units of the policies whose ranks are compared")
    parser.add_argument("--ranks", type=int, nargs="+", help="ranks of perturbations to compare")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.ranks:
        text = by_rank(tuple(args.hidden), args.ranks, args.pairs, args.rounds)
        report(args.out, "Perturbations of low rank", text, ["torch"])
        return
    rows = []
    for seeds in args.seeds:
        for name in ALONE:
            many = {"together": Together(args.pairs, seeds), "compiled": Together(args.pairs, seeds, compile=True)}
            times = alternate({**many, "alone": Alone(name, args.sample)}, args.rounds)
            each = {case: [t / seeds for t in times[case]] for case in many}
            each["alone"] = [t * args.pairs / args.sample for t in times["alone"]]
            rows.append(
                {
                    "seeds": str(seeds),
                    "one at a time": name,
                    "together, s per iteration and seed": f"{median(each['together']):.4f}",
                    "compiled": f"{median(each['compiled']):.4f}",
                    "alone, s per iteration": f"{median(each['alone']):.2f}",
                    "alone / together": ratio(each, "alone", "together"),
                    "alone / compiled": ratio(each, "alone", "compiled"),
                }
            )
    text = (
        f"{args.pairs} pairs, episodes of {HORIZON} steps, one thread; together float32. Alone {args.sample} pairs are played, and counted "
        f"for all.\n\n{table(rows)}"
    )
    report(args.out, "An iteration of evolution strategies", text, ["torch", "gymnasium", "mujoco"])


if __name__ == "__main__":
    main()
