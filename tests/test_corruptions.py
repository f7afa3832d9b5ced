"""A hundred corruptions of the files that commands read; the recipe of a thousand is tests/corruptions.py. And files of any content.

What stands in a file is read as it is, or refused by a ValueError of one line that names the file; nothing else is raised, and no memory
is taken beyond a bound, whoever wrote it.
"""

import io
import shutil
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from tests import corruptions, forgeries
from wgf.agents import Agent
from wgf.agents.training import checkpoint
from wgf.agents.training.folder import SNAPSHOT, newest
from wgf.agents.training.store import Store
from wgf.bnn import BayesianRegressor, saved
from wgf.runs.trainer import training


def test_every_corruption_is_refused_in_a_line_or_answered_by_a_correct_fall_back(tmp_path):
    answers, faults = corruptions.attack(tmp_path, 100, seed=1)
    assert faults == []
    assert answers.total() == 100
    assert answers["refused in a line"] >= 60


def test_a_reader_that_believes_everything_is_found_out(tmp_path):
    """The count would show it: other content, a traceback, a line without the file."""
    (tmp_path / "file").write_text("12")
    reader = corruptions.Reader(tmp_path, ("file",), lambda folder: int((folder / "file").read_text()))
    answers = {}
    for content in ("12", " 12", "13", "x"):
        (tmp_path / "file").write_text(content)
        answers[content] = corruptions.answered(reader, tmp_path, 12, corruptions.Step(30, ""))
    assert answers == {
        "12": "read as it was written", " 12": "read as it was written", "13": "fault: other content was believed",
        "x": "fault: invalid literal for int() with base 10: 'x'",
    }  # fmt: skip


def test_every_corruption_is_one():
    random, content = np.random.default_rng(0), bytes(range(1, 101))
    found = [corruptions.corrupted(content, [b"other"], random) for _ in range(300)]
    assert {kind for kind, _ in found} == {"flip", "flips", "cut", "empty", "zeros", "zeroed", "longer", "swapped", "other", "gone"}
    flips = [after for kind, after in found if kind == "flip"]
    assert all(sum((a ^ b).bit_count() for a, b in zip(after, content, strict=True)) == 1 for after in flips)
    assert all(len(after) < len(content) for kind, after in found if kind == "cut")
    assert sum(after == content for _, after in found) < 15  # blocks of no length


class Kinds(dict):
    """A dict that is no page of text where a test fails."""

    def __repr__(self):
        return "readers"


FORMATS = Path(__file__).parent / "formats"


def test_files_of_an_earlier_version_are_read(tmp_path):
    """They stand in tests/formats as they were written, and stay so: a version that cannot read them gives its files another number."""
    shutil.copytree(FORMATS, tmp_path / "formats")
    agent = Agent.load(tmp_path / "formats" / "policy-3", device="cpu")
    assert (agent.name, agent.source.name, agent.step, agent.seeds) == ("sac", "Pendulum-v1", 10, (0,))
    last = newest(Store(tmp_path / "formats" / "training-1"))
    last.check(tmp_path, SNAPSHOT)
    held = checkpoint.tensors(agent.state)
    checkpoint.alike(held, last.snapshot["state"])
    assert all(torch.equal(t, last.snapshot["state"][name]) for name, t in held.items())
    assert [len(piece["data"]) for piece in last.pieces()] == [8]  # all of its replay
    model = BayesianRegressor.load(tmp_path / "formats" / "regressor-3.safetensors")
    assert model.fit_.particles.shape == (1, 2, 9)  # 2 networks of 4 + 3 weights, and two precisions
    np.testing.assert_allclose(model.predict([[0.0]]), model.fit_.y_mean.flatten(), atol=3.0 * model.fit_.y_std.item())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Every kind of file."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def readers(home):
    """Their readers, and what these return."""
    found = corruptions.made(home / "made")
    return Kinds({name: (reader, reader.read(corruptions._copied(reader.folder, home / "copy"))) for name, reader in found.items()})


NAMES = ("policy", "run", "checkpoint", "regressor", "half a fit", "fit", "set", "packed set")


@settings(max_examples=60)
@given(name=st.sampled_from(NAMES), which=st.integers(0, 30), content=forgeries.RAW)
def test_a_file_of_any_content_is_refused_in_a_line(home, readers, name, which, content):
    (reader, right), copy = readers[name], home / "copy"
    before = corruptions.earlier(readers["checkpoint"][0], copy)
    corruptions._copied(reader.folder, copy)
    files = sorted(path for pattern in reader.files for path in copy.glob(pattern) if path.is_file())
    files[which % len(files)].write_bytes(content)
    with forgeries.bounded():
        answer = corruptions.answered(reader, copy, right, before)
    assert not answer.startswith("fault"), f"{files[which % len(files)]}: {answer}"


def read(function, copy):
    """Reads what was forged: as it is, or it is refused in a line that names a file of the copy."""
    with forgeries.bounded(), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            function(copy)
        except ValueError as error:
            said = str(error)
            assert str(copy) in said
            assert "\n" not in said
            assert len(said) < 1000


def parts(path):
    """What stands in a sealed file beside its seal."""
    return {name: value for name, value in checkpoint.read_json(path).items() if name != "seal"}


def retyped(draw, folder, named):
    """Writes other tensors into the file that is named, and returns what is said of them."""
    path = folder / named["file"]
    return forgeries.write_tensors(path, draw(forgeries.retyped(load(path.read_bytes()))))


@settings(max_examples=40)
@given(data=st.data())
def test_a_policy_that_somebody_wrote_is_read_or_refused_in_a_line(home, readers, data):
    copy = corruptions._copied(readers["policy"][0].folder, home / "copy")
    path = copy / "seed-0" / "policy.json"
    about = parts(path)
    if data.draw(st.booleans(), "tensors"):
        about |= retyped(data.draw, path.parent, about)
    else:
        about = data.draw(forgeries.edited(about))
    forgeries.write(path, about)
    read(corruptions.policy, copy)


def forged_table(draw, path, facts, said):
    """Writes another table, and lets a sealed file say that it is right."""
    path.write_bytes(draw(forgeries.tables(path.read_bytes())))
    about = parts(facts)
    place = about[said] if said == "files" else about
    place[path.name if said == "files" else said] |= checkpoint.digest(path)
    forgeries.write(facts, about)


@settings(max_examples=40)
@given(data=st.data(), name=st.sampled_from(["config.json", "result.json", "metrics.csv"]))
def test_a_run_that_somebody_wrote_is_read_or_refused_in_a_line(home, readers, data, name):
    reader, _ = readers["run"]
    copy = corruptions._copied(reader.folder, home / "copy")
    (folder,) = copy.glob("main/*/*/seed-0")
    if name == "metrics.csv":
        forged_table(data.draw, folder / name, folder / "result.json", "metrics")
    else:
        forgeries.write(folder / name, data.draw(forgeries.edited(parts(folder / name))))
    read(reader.read, copy)
    if name == "config.json":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "finish", lambda *args: ["finished"])
            read(lambda _: training.resume(folder, None, lambda line: None), copy)


@settings(max_examples=40)
@given(data=st.data())
def test_a_checkpoint_that_somebody_wrote_is_read_or_refused_in_a_line(home, readers, data):
    copy = corruptions._copied(readers["policy"][0].folder, home / "copy")
    path = copy / "seed-0" / "training" / "training-60.json"
    about = parts(path)
    what = data.draw(st.sampled_from(["facts", "facts", "whole", "state", "rows"]))
    if what in ("state", "rows"):
        named = about["state"] if what == "state" else about["rows"][-1]
        named |= retyped(data.draw, path.parent, named)
    elif what == "facts":
        about["facts"] = data.draw(forgeries.edited(about["facts"]))
    else:
        about = data.draw(forgeries.edited(about))
    forgeries.write(path, about)
    (path.parent / "training-30.json").unlink()
    read(lambda folder: Agent.load(folder, device="cpu").resume(folder).close(), copy)


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(["config.json", "result.json", *corruptions.bnn_report.FILES]))
def test_a_fit_that_somebody_wrote_is_read_or_refused_in_a_line(home, readers, data, name):
    reader, _ = readers["fit"]
    copy = corruptions._copied(reader.folder, home / "copy")
    if name.endswith(".csv"):
        forged_table(data.draw, copy / name, copy / "result.json", "files")
    else:
        forgeries.write(copy / name, data.draw(forgeries.edited(parts(copy / name))))
    read(reader.read, copy)


@settings(max_examples=40)
@given(data=st.data())
def test_half_a_fit_that_somebody_wrote_is_taken_up_or_begun_anew(home, readers, data):
    reader, _ = readers["half a fit"]
    copy = corruptions._copied(reader.folder, home / "copy")
    path = copy / "fit" / "training" / "training-20.json"
    about = parts(path)
    if data.draw(st.booleans(), "tensors"):
        about["state"] |= retyped(data.draw, path.parent, about["state"])
    else:
        about = data.draw(forgeries.edited(about))
    forgeries.write(path, about)
    with forgeries.bounded(), warnings.catch_warnings(), redirect_stderr(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        found = reader.read(copy)
    assert isinstance(found, corruptions.Step) or f"{copy / 'fit'} begins anew: " in said.getvalue()


@settings(max_examples=100)
@given(data=st.data())
def test_a_regressor_that_somebody_wrote_is_read_or_refused_in_a_line(home, readers, data):
    reader, _ = readers["regressor"]
    copy = corruptions._copied(reader.folder, home / "copy")
    path = copy / "model.safetensors"
    about, tensors = saved.read(path)
    if data.draw(st.booleans(), "tensors"):
        tensors = data.draw(forgeries.retyped(tensors))
    else:
        about = data.draw(forgeries.edited(about))
    saved.write(path, about, tensors)
    read(reader.read, copy)
