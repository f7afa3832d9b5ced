"""Environment steps a second of the project's own tasks, many copies at once, against Gymnasium's one after another.

    python tests/bench/tasks.py [--copies 4096] [--threads 2] [--device cpu] [--rounds 15] [--out FILE.md]

A step is dynamics, reward, ends, time limits, fresh starts and observations, with actions that are given.
"""

import argparse
from functools import partial
from pathlib import Path

import gymnasium
import torch
from timing import alternate, median, ratio, report, table

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet

TOGETHER = 20  # steps a call


def fleet(name: str, copies: int, device: torch.device, compile: bool = False) -> Fleet:
    """So many copies, at their start."""
    found = Fleet(tasks.IDS[name], copies, device, compile)
    found.reset([0])
    return found


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, rows = torch.device(args.device), []
    for name in tasks.IDS:
        one = gymnasium.make(name)
        one.reset(seed=0)
        single = one.action_space.sample()
        action = torch.zeros(1, args.copies, single.size, device=device)

        def together(many: Fleet, action: torch.Tensor = action) -> None:
            for _ in range(TOGETHER):
                many.step(action)
            if device.type == "cuda":
                torch.cuda.synchronize()

        many = {"together": fleet(name, args.copies, device)}
        if device.type == "cpu":
            many["compiled"] = fleet(name, args.copies, device, compile=True)

        def alone(one: gymnasium.Env = one, single: object = single) -> None:
            _, _, terminated, truncated, _ = one.step(single)
            if terminated or truncated:
                one.reset()

        times = alternate({**{case: partial(together, it) for case, it in many.items()}, "alone": alone}, args.rounds)
        each = {"alone": times["alone"], **{case: [t / (TOGETHER * args.copies) for t in times[case]] for case in many}}
        rows.append(
            {
                "task": name,
                **{f"steps per second, {args.copies:,} copies, {case}": f"{1.0 / median(each[case]):,.0f}" for case in many},
                "one at a time, through Gymnasium": f"{1.0 / median(each['alone']):,.0f}",
                **{f"{case} / one at a time": ratio(each, "alone", case) for case in many},
            }
        )
    text = f"{args.copies:,} copies, float32, {args.device}, {args.threads} thread(s).\n\n{table(rows)}"
    report(args.out, "Environment steps", text, ["torch", "gymnasium"])


if __name__ == "__main__":
    main()
