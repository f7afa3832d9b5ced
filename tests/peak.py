"""Peak memory of a program in a process of its own, where nothing else was allocated before."""

import subprocess
import sys

HEAD = """
from pathlib import Path
import torch
torch.set_num_threads(1)
device = torch.device({device!r})
def peak():
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    # of this program alone: getrusage's peak is at least that of the process that started it
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) * 1024
"""


def printed(program, device):
    """The whole numbers that a program prints, which may call ``peak()``, in bytes, and use ``torch`` and ``device``."""
    whole = HEAD.format(device=str(device)) + program
    run = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return map(int, run.stdout.split())
