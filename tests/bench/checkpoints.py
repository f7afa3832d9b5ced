"""What a checkpoint costs beside the training between two of them, with a full replay of 1e6 rows per seed.

    python tests/bench/checkpoints.py --out runs/results/speed/checkpoints.md

The replay is filled with random rows. Then 5,000 more are stored, as many as between two evaluations, and the checkpoint after them is
timed, with every flush to the disk; its share is of the time of 5,000 environment steps and updates, from 200 of them, on one thread.
Memory is what the process grew by at its peak while it saved.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from timing import median, report, table

from wgf import trusted
from wgf.agents import Agent
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import loop, machine
from wgf.agents.training.log import NoLog
from wgf.agents.training.record import Record
from wgf.agents.training.store import Store

EVERY = 5_000


def filled(agent: Agent, ring: object, n: int) -> None:
    """Stores ``n`` random transitions per seed, of episodes of 1,000 steps."""
    s, d, a = len(agent.seeds), agent.obs_size, agent.action_size
    obs, action, reward, on = torch.randn(s, 1, d), torch.rand(s, 1, a), torch.randn(s, 1), torch.zeros(s, 1, dtype=torch.bool)
    for i in range(n):
        ring.add(obs, action, Outcome(obs, obs, reward, on, ~on if i % 1000 == 999 else on))  # type: ignore[attr-defined]


def measured(env: str, seeds: int, rounds: int) -> dict[str, str]:
    """One row of the table."""
    agent = Agent("sac", env, seeds=seeds, preset="modern", warmup=EVERY, replay=1_000_000, compile=False, device="cpu")
    task, training = agent._prepared(replace(agent.schedule, steps=2_000_000))
    ring = task.memory.ring
    filled(agent, ring, 1_000_000)
    record = Record([NoLog() for _ in agent.seeds], agent.seeds, agent.about(agent.schedule))
    with tempfile.TemporaryDirectory() as folder, trusted(), machine.tuned():
        store, seconds = Store(Path(folder) / "training"), []
        keeper = loop.Keeper(store, loop.snapshot(task, training, record))  # as if the rows until here had been saved
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(rounds):
            filled(agent, ring, EVERY)
            training.step += EVERY
            start = time.perf_counter()
            keeper.save(task, training, record)
            seconds.append(time.perf_counter() - start)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        size = sum(p.stat().st_size for p in store.folder.glob(f"*-{training.step}.*"))
        start = time.perf_counter()
        for _ in range(200):
            loop.collect(task, training, record)
            loop.learn(task, training)
        step = (time.perf_counter() - start) / 200
    agent.close()
    usual = median(seconds)
    return {
        "environment": env,
        "seeds": str(seeds),
        "a checkpoint, s": f"{usual:.3f}",
        "its share of the time": f"{100.0 * usual / (usual + EVERY * step):.2f} %",
        "memory beside, MiB": f"{most / 1024:.0f}",
        "written, MiB": f"{size / 2**20:,.1f}",
    }


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(env, seeds, args.rounds) for env, seeds in (("Hopper-v5", 1), ("Hopper-v5", 5), ("Humanoid-v5", 1))]
    report(args.out, "Checkpoints", f"Medians of {args.rounds} checkpoints.\n\n{table(rows)}", ["wgflow", "torch"])


if __name__ == "__main__":
    main()
