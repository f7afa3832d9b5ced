"""What compiling an update costs, in processor time: the first time on a machine, and again in another process.

    python tests/bench/compiling.py --out runs/results/speed/compiling.md

Each agent has an empty folder for what torch keeps. Headers that the compiler prepared once for all are there already where anything was
compiled on this machine before.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import report, table

PROGRAM = """
import resource, sys
import torch
from updates import update
torch.set_num_threads(1)
def spent():
    return [t.ru_utime + t.ru_stime for t in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))]
began = spent()
update(*sys.argv[1:], compile=True)
print(*(now - then for now, then in zip(spent(), began)))
"""


def seconds(agent: str, preset: str, folder: str) -> tuple[float, float]:
    """Processor seconds of a process that compiles an update, and of the compilers that it starts."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, agent, preset]
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    own, compilers = done.stdout.split()
    return float(own), float(compilers)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=["sac:modern", "sac:strong-small", "wgf-sac:strong-small"], help="AGENT:PRESET")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for token in args.agents:
        with tempfile.TemporaryDirectory() as folder:
            first, again = (seconds(*token.split(":"), folder) for _ in range(2))
        rows.append(
            {
                "update": token.replace(":", ", "),
                "torch, s": f"{first[0]:.0f}",
                "C++ compiler, s": f"{first[1]:.0f}",
                "again, both, s": f"{sum(again):.0f}",
            }
        )
    text = f"Seconds of processor time, one of each; other work on the machine lengthens them.\n\n{table(rows)}"
    report(args.out, "Compiling an update", text, ["wgflow", "torch"])


if __name__ == "__main__":
    main()
