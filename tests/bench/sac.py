"""Environment steps a second of SAC, environment and update together: this project, Stable-Baselines3 and SBX, in turns on one core.

    python tests/bench/sac.py --out runs/results/speed/sac.md

Batch 256, networks 256-256, twin Q, one update a step, one thread. A process of its own a measurement, pinned to one core: 500 steps to
warm up and compile, then ``--steps`` are timed.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import Times, median, ratio, report, table

WARM = 500


def ours(env: str, steps: int, compile: bool = False) -> float:
    """`wgf train sac --preset modern [--compile True]`, the whole loop with its log and checks; the rate is the one that it logs."""
    from wgf.agents.training.schedule import Schedule
    from wgf.runs import training
    from wgf.runs.options import Place

    schedule = Schedule(steps=WARM + steps, warmup=100, replay=100_000, log_every=WARM, eval_every=WARM + steps, eval_episodes=1)
    with tempfile.TemporaryDirectory() as out:
        place = Place(out, device="cpu", threads=1, compile=compile)
        job = training.Job("sac", "sac", "modern", training.resolve("sac", "modern", env), env, (0,), schedule, place)
        training.run(job, lambda line: None)
        with open(job.folder(0) / "metrics.csv", newline="") as f:
            rates = [float(row["value"]) for row in csv.DictReader(f) if row["tag"] == "charts/steps_per_second"]
    return statistics.harmonic_mean(rates[1:])


def baselines(kind: str) -> Callable[[str, int], float]:
    """SAC of Stable-Baselines3 or of SBX, with their defaults."""

    def run(env: str, steps: int) -> float:
        import gymnasium as gym
        from stable_baselines3.common.callbacks import BaseCallback

        if kind == "sb3":
            import torch
            from stable_baselines3 import SAC

            torch.set_num_threads(1)
        else:
            from sbx import SAC
        marks = {}

        class Clock(BaseCallback):
            def _on_step(self) -> bool:
                marks[self.num_timesteps] = time.perf_counter()
                return True

        SAC("MlpPolicy", gym.make(env), buffer_size=100_000, seed=0, device="cpu").learn(WARM + steps, callback=Clock())
        return steps / (marks[WARM + steps] - marks[WARM])

    return run


RUNNERS = {"wgf": ours, "wgf, compiled": partial(ours, compile=True), "stable-baselines3": baselines("sb3"), "sbx": baselines("sbx")}


def main() -> None:
    """Measures in turns and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "Humanoid-v5"])
    parser.add_argument("--steps", type=int, default=1_000, help="a multiple of 500")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "ENV"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(RUNNERS[args.one[0]](args.one[1], args.steps))
        return
    rows = []
    for env in args.envs:
        times: Times = {name: [] for name in RUNNERS}
        for _ in range(args.rounds):
            for name in RUNNERS:
                times[name].append(1.0 / measure(name, env, args.steps))
                print(env, name, f"{1.0 / times[name][-1]:.1f}", file=sys.stderr)
        for name in RUNNERS:
            rows.append(
                {
                    "environment": env,
                    "library": name,
                    "steps/s": f"{1.0 / median(times[name]):.1f}",
                    "wgf's rate / its": ratio(times, name, "wgf"),
                    "compiled / its": ratio(times, name, "wgf, compiled"),
                }
            )
    text = f"Median of {args.rounds} rounds; ratios: median over rounds [middle half].\n\n{table(rows)}"
    report(args.out, "SAC, environment and update", text, ["wgflow", "torch", "gymnasium", "mujoco", "stable-baselines3", "sbx-rl", "jax"])


def measure(name: str, env: str, steps: int) -> float:
    """Steps a second in a process of its own on one core."""
    pin = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if hasattr(os, "sched_setaffinity") else None
    command = [sys.executable, __file__, "--one", name, env, "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
