"""Several processes that run one program together, as torchrun starts them, and what each of them prints."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
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


def _each(size, each):
    """The environment of each rank."""
    shared = environment(size)
    return [
        shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | {name: values[rank] for name, values in each.items()}
        for rank in range(size)
    ]


def together(size, *command, **each):
    """Runs a Python program, ``command``, as so many ranks; ``each``: what else stands in the environment, a value for each rank.

    Returns (exit code, standard output, standard error) of each.
    """
    runs = [
        subprocess.Popen([sys.executable, *map(str, command)], env=mine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for mine in _each(size, each)
    ]
    said = [run.communicate(timeout=300) for run in runs]
    return [(run.returncode, *text) for run, text in zip(runs, said, strict=True)]


def copies(size, *command, **each):
    """As ``together``, but each rank is a copy of this process, which has torch in its memory already: seconds less a rank."""
    with tempfile.TemporaryDirectory() as folder:
        places = [[Path(folder, f"{name}-{rank}") for name in ("stdout", "stderr")] for rank in range(size)]
        fork = multiprocessing.get_context("fork").Process
        runs = [fork(target=_rank, args=(command, mine, *where)) for mine, where in zip(_each(size, each), places, strict=True)]
        for run in runs:
            run.start()
        for run in runs:
            run.join(timeout=300)
            assert run.exitcode is not None
        return [(run.exitcode, *(place.read_text() for place in where)) for run, where in zip(runs, places, strict=True)]


def _rank(command, environment, *places):
    """Becomes a rank: its environment, its output, and the program as Python itself would run it."""
    os.environ.clear()
    os.environ.update(environment)
    for fd, name, place in zip((1, 2), ("stdout", "stderr"), places, strict=True):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), fd)
        setattr(sys, name, open(fd, "w", buffering=1, closefd=False))  # noqa: SIM115
    sys.argv = [str(part) for part in command]
    runpy.run_path(sys.argv[0], run_name="__main__")
