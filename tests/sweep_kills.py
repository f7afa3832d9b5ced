"""Kills the driver and the trainings of a sweep at random, calls it again each time, and counts what is complete.

    python -m tests.sweep_kills --kills 10

24 runs: two agents, three step sizes, two environments, two seeds, a process each, two at a time. A kill is a SIGKILL, a SIGTERM or a
SIGINT to the driver, or a SIGKILL to one of its trainings, at a random moment. Right is: each run has finished; no file of a run has
changed after it had; nothing trains on where the driver has died. Exits with 1 unless all of this is so.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wgf.agents.training.checkpoint import read_sealed

FILE = """
environments: [wgf/CartPole-v0, Pendulum-v1]
agents: ["sac:hidden=8,8:batch=8", "ddpg:hidden=8,8:batch=8"]
grid:
  lr: [1e-4, 3e-4, 1e-3]
seeds: 2
stack: 1
slots: 2
threads: 1
steps: 400
warmup: 20
log_every: 50
eval_every: 100
eval_episodes: 1
checkpoint_every: 50
"""
RUNS = 24
WAYS = ("SIGKILL driver", "SIGKILL training", "SIGTERM driver", "SIGKILL training", "SIGINT driver")


def finished(folder: Path) -> dict[Path, str]:
    """Returns the folders of runs that have finished, with the sha256 of what each of their files holds and when it was written."""
    found = {}
    for result in folder.rglob("result.json"):
        if read_sealed(result).get("status") == "finished":
            files = sorted(path for path in result.parent.rglob("*") if path.is_file() and path.name != ".lock")
            held = [(path.name, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
            found[result.parent] = repr(held)
    return found


def trainings(folder: Path) -> list[int]:
    """Returns the processes that train into a folder: those of ``wgf train`` that run in it."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if path.name.isdigit() and b"wgf.runs.command" in words and (path / "cwd").resolve() == folder:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def started(folder: Path) -> "subprocess.Popen[bytes]":
    """Starts the sweep of a folder."""
    with (folder / "driver.txt").open("ab") as log:
        command = [sys.executable, "-m", "wgf.runs.command", "sweep", "kills.yaml"]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def gone(folder: Path, seconds: float = 120.0) -> bool:
    """Waits until nothing trains into a folder; says whether that came to be."""
    end = time.monotonic() + seconds
    while trainings(folder):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def kill(driver: "subprocess.Popen[bytes]", way: str, folder: Path, rng: random.Random) -> bool:
    """Kills a training or the driver; says whether there was one to kill, and for a driver, whether nothing trains on."""
    name, whom = way.split()
    if whom == "driver":
        driver.send_signal(getattr(signal, name))
        driver.wait()
        return gone(folder)
    if not (mine := [process for process in trainings(folder) if process != driver.pid]):
        return False
    os.kill(rng.choice(mine), signal.SIGKILL)
    return True


def main() -> None:
    """Kills as often as asked for, lets the sweep end, and says what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--after", type=float, default=20.0, help="seconds between two kills, at most")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "kills.yaml").write_text(FILE)
        done, left, changed, orphans = 0, dict[Path, str](), 0, 0
        driver = started(folder)
        while done < args.kills and len(left) < RUNS:
            time.sleep(rng.uniform(0.2, 1.0) * args.after)
            if driver.poll() is not None:
                driver = started(folder)
                continue
            way = WAYS[done % len(WAYS)]
            right = kill(driver, way, folder, rng)
            if way.endswith("training") and not right:
                continue
            orphans += way.endswith("driver") and not right
            done += 1
            now = finished(folder)
            changed += sum(now.get(run) != held for run, held in left.items())
            left |= now
            print(f"kill {done}: {way}; {len(now)} of {RUNS} runs have finished", flush=True)
        while driver.poll() is None or len(finished(folder)) < RUNS:
            if driver.poll() not in (None, 75) and driver.returncode >= 0:
                break
            driver = driver if driver.poll() is None else started(folder)
            driver.wait()
        now = finished(folder)
        changed += sum(now.get(run) != held for run, held in left.items())
        aside = len(list(folder.rglob("*.unfinished-*")))
        print(f"{done} kills: {len(now)} of {RUNS} runs complete, {changed} changed after they had finished")
        print(f"{orphans} drivers left a training behind")
        print(f"{aside} runs had no checkpoint yet when they were killed, and began again")
        sys.exit(len(now) != RUNS or bool(changed) or bool(orphans))


if __name__ == "__main__":
    main()
