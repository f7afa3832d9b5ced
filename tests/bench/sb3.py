"""Returns of Stable-Baselines3's agents under this project's schedule: what our `modern` presets of the same names have to agree with.

    python tests/bench/sb3.py --agent sac --env Hopper-v5 --seeds 5 --steps 30000 --out FILE.csv

Evaluations: 10 deterministic episodes every 5,000 steps. A row a seed and evaluation; seeds already in the file are not trained again.
"""

import argparse
import csv
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import TRPO
from stable_baselines3 import DDPG, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise


class Evaluations(BaseCallback):
    """The mean return of 10 deterministic episodes every ``every`` steps, as (step, return) in ``found``."""

    def __init__(self, env: gym.Env, every: int) -> None:
        super().__init__()
        self.env, self.every, self.found = env, every, []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            mean, _ = evaluate_policy(self.model, self.env, n_eval_episodes=10, deterministic=True)
            self.found.append((self.num_timesteps, mean))
        return True


def ddpg(policy: str, env: gym.Env, **settings: object) -> DDPG:
    """With the noise of its documentation's example: without any it would not explore."""
    size = env.action_space.shape
    return DDPG(policy, env, learning_starts=1_000, action_noise=NormalActionNoise(np.zeros(size), np.full(size, 0.1)), **settings)


# with their own defaults, but 1,000 steps of uniform actions before SAC and DDPG learn, as here
AGENTS = {"ddpg": ddpg, "sac": partial(SAC, learning_starts=1_000), "ppo": PPO, "trpo": TRPO}


def train(agent: str, env: str, seed: int, steps: int) -> list[tuple[int, float]]:
    """The evaluations of one seed."""
    evaluations = Evaluations(Monitor(gym.make(env)), 5_000)
    evaluations.env.reset(seed=seed + 1_000)
    AGENTS[agent]("MlpPolicy", gym.make(env), seed=seed, device="cpu").learn(steps, callback=evaluations)
    return evaluations.found


def main() -> None:
    """Trains the seeds that the file lacks, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", choices=AGENTS, default="sac")
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = set(np.loadtxt(args.out, delimiter=",", skiprows=1, ndmin=2)[:, 0].astype(int).tolist()) if args.out.exists() else set()
    if not done:
        args.out.write_text("seed,step,return\n")
    for seed in sorted(set(range(args.seeds)) - done):
        rows = [(seed, step, f"{value:.2f}") for step, value in train(args.agent, args.env, seed, args.steps)]
        with open(args.out, "a", newline="") as f:
            csv.writer(f).writerows(rows)
        print(*rows[-1], flush=True)


if __name__ == "__main__":
    main()
