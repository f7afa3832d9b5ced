"""``wgf bnn`` whose particles several processes share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ranks as started
from tests.runs.studies import sharded_study
from wgf.runs.command.cli import run

pytestmark = started.needs_gloo
PROGRAM = Path(sharded_study.__file__)
STUDY = ["bnn", "--sets", "small", "--methods", "wgf", "--iterations", "160", "--particles", "7", "--device", "cpu"]
SHARED = [PROGRAM, *STUDY, "--shards", "True"]
FILES = ("curves.csv", "splits.csv", "predictions.csv")


def read(folder, name):
    return {file: (folder / "runs" / name / "small" / "wgf" / file).read_bytes() for file in FILES}


def said(done):
    """The lines on standard error of all ranks that are ours, and the exit codes."""
    return [line for _, _, err in done for line in err.splitlines() if line.startswith("wgf:")], [code for code, _, _ in done]


@pytest.fixture
def shared(folder):
    """The files of a study on two ranks."""
    done = started.copies(2, *SHARED, "--name", "two")
    assert [code for code, _, _ in done] == [0, 0], done
    assert not done[1][1]  # the first rank speaks
    return read(folder, "two")


def test_ranks_write_the_fit_of_one_process_and_one_that_is_killed_changes_nothing(folder, shared):
    assert run([*STUDY, "--name", "one"]) == 0
    for name, text in read(folder, "one").items():
        mine, other = (np.array([row.split(",")[-1] for row in t.decode().split()[1:]], dtype=float) for t in (text, shared[name]))
        np.testing.assert_allclose(other, mine, rtol=1e-4, atol=1e-5)  # float32, after 160 steps
    assert not (folder / "runs" / "two" / "small" / "wgf" / "training").exists()
    assert json.loads((folder / "runs" / "two" / "small" / "wgf" / "config.json").read_text())["ranks"] == 2

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    again = {**os.environ, "DIES": "1", "PYTHONPATH": str(started.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *map(str, SHARED), "--name", "killed"], env=again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "goes on from iteration" in done.stdout  # and not from the beginning
    assert read(folder, "killed") == shared


@pytest.mark.parametrize(
    ("size", "args", "each", "says"),
    [
        (2, ("--particles", "1"), {}, "2 ranks are too many for 1 particles; start at most 1"),
        (2, ("--methods", "smi"), {}, "flow is 'smi'; shards are for"),
        (2, (), {"WGF_DATA": ("sets", "nowhere")}, "rank 1: data is 'nowhere', which is not a folder"),
        (2, (), {"ATEN_CPU_CAPABILITY": ("default", "avx2")}, "the ranks disagree: processor is 'DEFAULT' on rank 0 and 'AVX2' on rank 1"),
    ],
)
def test_what_ranks_cannot_do_is_one_line_of_the_first(folder, size, args, each, says):
    start = started.together if "ATEN_CPU_CAPABILITY" in each else started.copies  # torch asks once a process for its processor
    lines, codes = said(start(size, *SHARED, *args, **each))
    assert len(lines) == 1
    assert says in lines[0]
    assert 0 not in codes
    assert not list(folder.glob("runs/**/result.json"))


def test_ranks_with_other_settings_are_one_line(folder):
    (folder / "seeds.py").write_text(f"""
import os, sys, runpy
sys.argv = [{str(PROGRAM)!r}, *{[*STUDY, "--shards", "True"]!r}, "--seed", os.environ["RANK"]]
runpy.run_path(sys.argv[0], run_name="__main__")
""")
    lines, codes = said(started.copies(2, folder / "seeds.py"))
    assert len(lines) == 1
    assert "the ranks disagree: seed is 0 on rank 0 and 1 on rank 1; give all the same" in lines[0]
    assert codes == [2, 2]


def test_shards_without_torchrun_are_one_line(folder, capsys, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert run([*STUDY, "--shards", "True"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "shards is True, but the environment has no RANK and no WORLD_SIZE; start the command by: torchrun" in said
