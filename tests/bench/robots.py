"""Steps of Gymnasium's robots per second of processor time: by MuJoCo Warp, many at once, and by MuJoCo's C, one after another.

    python tests/bench/robots.py [--name HalfCheetah-v5] [--robots 1 64] [--steps 10]

On a CPU; kernels are compiled before the clock runs. Random actions, from fresh starts.
"""

import argparse
import time

import torch

from wgf.agents.training.envs import Envs, Source
from wgf.agents.training.machine import versions
from wgf.agents.training.making import CPU


def rate(envs: Envs, robots: int, steps: int) -> float:
    """Returns the steps of all robots per second of processor time."""
    envs.reset(range(1))
    action = 2.0 * torch.rand(steps + 1, 1, robots, envs.action_size, generator=torch.Generator().manual_seed(0)) - 1.0
    envs.step(action[0])
    began = time.process_time()
    for row in action[1:]:
        envs.step(row)
    return robots * steps / (time.process_time() - began)


def main() -> None:
    """Prints a line per number of robots and backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="HalfCheetah-v5")
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(args.name, versions())
    for robots in args.robots:
        for backend in ("gymnasium", "warp"):
            found = rate(Source(args.name, backend).make(1, robots, starts=lambda seed, n=robots: range(n), home=CPU), robots, args.steps)
            print(f"{backend}: {robots} robots, {found:,.0f} steps per second", flush=True)


if __name__ == "__main__":
    main()
