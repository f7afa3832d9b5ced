"""Several processes that run one program together, as torchrun starts them, and what each of them prints."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

ROOT = Path(__file__).parents[1]
needs_gloo = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo")


def environment(size, port=None):
    """What torchrun puts into the environment of all ranks, on a port that is free."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    about = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **about, "PYTHONPATH": str(ROOT)}


def together(size, *command, **each):
    """Runs a Python program, ``command``, as so many ranks; ``each``: what else stands in the environment, a value for each rank.

    Returns (exit code, standard output, standard error) of each.
    """
    shared = environment(size)
    runs = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | {name: values[rank] for name, values in each.items()},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [run.communicate(timeout=300) for run in runs]
    return [(run.returncode, *text) for run, text in zip(runs, said, strict=True)]
