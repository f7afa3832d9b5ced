"""Steps of Gymnasium's environments in processes (backend async) against one after another (backend gymnasium), in turns in one run.

    python tests/bench/workers.py [--envs 4] [--steps 20] [--rounds 7] [--beside WORDS] [--out FILE.md]

Processor time is that of the program and of all its processes, by Linux' /proc/PID/schedstat: what other work takes of the cores is not
in it. ``waits 20 ms`` is a task that waits so long at each step, as for a server or a device, and computes nothing.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from timing import ratio, report, table

from wgf.agents.training.envs import Source

TASKS = ("Pendulum-v1", "Hopper-v5", "Humanoid-v5", "dm_control/humanoid-walk-v0", "wgf/HumanoidStand5-v0")


class Waits(gym.Env):  # type: ignore[misc]
    """A step takes 20 milliseconds and no processor."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begins at zero."""
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Waits."""
        time.sleep(0.02)
        return np.zeros(1, np.float32), 0.0, False, False, {}


def spent(pids: list[int]) -> float:
    """Processor time of some processes so far, in seconds."""
    return 1e-9 * sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", default="nothing")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows, each = [], 1e3 / (args.steps * args.envs)
    for name, env in {**{task: task for task in TASKS}, "waits 20 ms": Waits}.items():
        both = {backend: Source(env, backend).simulators(args.envs) for backend in ("gymnasium", "async")}
        for side in both.values():
            side.reset(range(args.envs))
        action = np.random.default_rng(0).uniform(-1.0, 1.0, (args.envs, both["async"].action_size)).astype(np.float32)
        pids = [os.getpid(), *(worker.processes[0].pid for worker in both["async"]._workers)]
        times, processor = ({backend: list[float]() for backend in both} for _ in range(2))
        for turn in range(args.rounds + 1):
            for backend, side in both.items():
                began, before = time.perf_counter(), spent(pids)
                for _ in range(args.steps):
                    side.step(action)
                if turn:  # the first warms up
                    times[backend].append(time.perf_counter() - began)
                    processor[backend].append(spent(pids) - before)
        for side in both.values():
            side.close()
        more = [b - a for a, b in zip(*processor.values(), strict=True)]
        rows.append(
            {
                "task": name,
                "one step, ms of processor time": f"{each * statistics.median(processor['gymnasium']):.2f}",
                "more in a process, ms": f"{each * statistics.median(more):.2f}",
                "times faster by the clock": ratio(times, "gymnasium", "async"),
            }
        )
        print(rows[-1], flush=True)
    text = f"""{args.envs} environments side by side, {args.steps} steps of each in a turn, {args.rounds} rounds; medians over
rounds, with the middle half of the last. A step is that of one environment. Beside it ran: {args.beside}.

{table(rows)}"""
    report(args.out, "Environments in processes", text, ["gymnasium", "mujoco", "dm-control", "numpy"])


if __name__ == "__main__":
    main()
