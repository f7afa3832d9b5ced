"""What the machine is asked, and what a run writes down about it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from wgf.agents.training import machine

CPU = torch.device("cpu")


def config(hidden, batch, **more):
    return SimpleNamespace(hidden=hidden, batch=batch, **more)


@pytest.mark.parametrize(
    ("seeds", "cfg", "large"),
    [
        (1, config((128, 128), 64), False),  # SAC of the paper
        (5, config((128, 128), 64), False),
        (1, config((256, 256), 256), False),
        (5, config((256, 256), 256), True),  # 84 million products
        (1, config((128, 128), 64, particles=32), False),
        (5, config((128, 128), 64, particles=32), True),
        (5, config((), 64), False),
        (1, config((256, 256), 256, critic_hidden=(256, 256), samples=4), True),  # WPO
        (1, config((64, 64), 256, critic_hidden=(512, 64)), True),
    ],
)
def test_large_updates_get_more_threads(monkeypatch, seeds, cfg, large):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(16), raising=False)
    assert machine.find_threads(0, seeds, cfg) == (4 if large else 1)
    assert machine.find_threads(3, seeds, cfg) == 3
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(2), raising=False)
    assert machine.find_threads(0, seeds, cfg) == (2 if large else 1)


def test_the_device_is_what_was_asked():
    assert machine.find_device("cpu") == CPU
    assert machine.find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_commit_is_that_of_the_checkouts_own_top(tmp_path):
    def git(*args):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", "-C", str(tmp_path), *identity, *args], check=True, capture_output=True, text=True).stdout.strip()

    assert machine.commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "first")
    git("tag", "v1")
    head = git("rev-parse", "HEAD")
    assert machine.commit(tmp_path) == head
    assert machine.commit(tmp_path / "site-packages") is None  # another project's commit says nothing about this one
    (tmp_path / "a").write_text("2")
    assert machine.commit(tmp_path) == f"{head}-dirty"


def test_where_a_run_was_is_written_down():
    about = machine.about(CPU, 2)
    assert about.items() >= {"device": "cpu", "threads": 2}.items()
    assert about["system"]
    assert machine.versions()["torch"]
    root = Path(__file__).parents[3]
    here = root if (root / "agents" / "training" / "machine.py").samefile(machine.__file__) else Path(machine.__file__).parent
    assert about["commit"] == machine.commit(here)  # through the links inside wgf/ too


def test_tiny_numbers_count_as_zero_while_tuned_and_not_after():
    tiny = torch.tensor([1e-39])
    with machine.tuned():
        assert (tiny * 0.5).item() == 0.0
    assert (tiny * 0.5).item() > 0.0


def test_memory_that_is_freed_is_kept_unless_the_ranks_of_shards_want_it_back(monkeypatch):
    asked = []
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *what: asked.append(what)))
    with machine.tuned(keeps=False):
        assert asked == []
    with machine.tuned():
        assert asked == [(-1, 2**30), (-3, 2**26)]
