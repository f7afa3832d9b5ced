"""Saved policies: every agent's state comes back bit for bit, and every damaged or foreign file is refused in one line."""

import ctypes
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as parse
from safetensors.torch import save as serialize

from wgf.agents import es
from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint
from wgf.agents.training.descent import Adam
from wgf.agents.training.population import Iteration, Population
from wgf.agents.training.protocol import Batch, Streams
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.scores import Scores
from wgf.shards import Shards

CPU = torch.device("cpu")
PRESETS = [(name, preset) for name in AGENTS for preset in AGENTS[name] if preset != "strong"]  # which is strong-small with other sizes
SMALL = {"hidden": (8, 8), "batch": 4, "envs": 2, "horizon": 2, "critic_steps": 2}


def experience(agent, cfg, draw):
    """A minibatch, the segment of an agent that learns from rollouts, or the iteration of a population."""
    memory = agent.memory(cfg, Schedule())
    if isinstance(memory, Population):
        return Iteration(draw.normal(memory.envs), draw.normal(memory.envs, 3))
    rollout = isinstance(memory, Rollout)
    axes = (memory.policies, memory.steps, memory.envs // memory.policies) if rollout else (memory.batch,)
    obs, action, reward, next_obs = draw.normal(*axes, 3), 2 * draw.uniform(*axes, 2) - 1, draw.normal(*axes), draw.normal(*axes, 3)
    discount = torch.full_like(reward, 0.9)
    if rollout:
        return Segment(obs, action, reward, discount, reward > 0.5, next_obs)
    return Batch(obs, action, reward, discount, next_obs)


def trained(name, preset, seeds, updates=2):
    """A state of small networks after a few updates."""
    agent, cfg = find(name, preset)
    cfg = replace(cfg, **{field: value for field, value in SMALL.items() if hasattr(cfg, field)})
    state = agent.init(cfg, 3, 2, [torch.Generator().manual_seed(k) for k in seeds], CPU)
    draw = Streams([torch.Generator().manual_seed(k) for k in seeds])
    for _ in range(updates):
        agent.update(cfg, state, experience(agent, cfg, draw), agent.noise(cfg, 2, draw))
    return agent, cfg, state


def test_a_reader_beside_a_training_reads_again_and_what_is_damaged_stays_damaged(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"policy": torch.zeros(2)}, {"step": 1})
    read = checkpoint.read_tensors

    def overtaken(*args):
        monkeypatch.undo()
        checkpoint.save(tmp_path, {"policy": torch.ones(2)}, {"step": 2})
        return read(*args)

    monkeypatch.setattr(checkpoint, "read_tensors", overtaken)
    about, tensors = checkpoint.load(tmp_path)
    assert about["step"] == 2
    assert torch.equal(tensors["policy"], torch.ones(2))
    (tmp_path / "policy-2.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"policy-2.safetensors is damaged: its sha256 is not the one in policy.json"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_agent_comes_back_bit_for_bit(name, preset, tmp_path):
    agent, cfg, state = trained(name, preset, (0, 1))
    for s in (0, 1):
        (tmp_path / str(s)).mkdir()
        checkpoint.save(tmp_path / str(s), checkpoint.seed_slice(state, s), {"step": 2})
    fresh = agent.init(cfg, 3, 2, [torch.Generator().manual_seed(k) for k in (7, 8)], CPU)
    checkpoint.restore_(fresh, [checkpoint.load(tmp_path / str(s))[1] for s in (0, 1)])
    own, back = checkpoint.tensors(state), checkpoint.tensors(fresh)
    assert own.keys() == back.keys()
    for tensor_name, t in own.items():
        assert torch.equal(t, back[tensor_name]), tensor_name
    # and goes on as the one that was saved: optimisers are whole
    batch = experience(agent, cfg, Streams([torch.Generator().manual_seed(k) for k in (5, 6)]))
    noise = agent.noise(cfg, 2, Streams([torch.Generator().manual_seed(k) for k in (3, 4)]))
    for one in (state, fresh):
        agent.update(cfg, one, batch, noise)
    assert all(torch.equal(t, checkpoint.tensors(fresh)[n]) for n, t in checkpoint.tensors(state).items())


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_parameter_and_every_moment_is_in_the_file(name, preset):
    _, _, state = trained(name, preset, (0,))
    named = checkpoint.tensors(state)
    pointers = {t.data_ptr() for t in named.values()}
    for value in vars(state).values():
        if isinstance(value, (Adam, es.Damping, Scores)):
            assert {t.data_ptr() for t in vars(value).values() if isinstance(t, torch.Tensor)} <= pointers
        elif isinstance(value, torch.Tensor):
            assert value.data_ptr() in pointers
        else:  # functions of theta and the ranks' shares hold no tensor
            assert value is None or value is state.nets or isinstance(value, Shards)


def test_a_slice_is_its_seed():
    _, _, both = trained("sac", "paper", (0, 1), updates=0)
    _, _, one = trained("sac", "paper", (1,), updates=0)
    for name, t in checkpoint.tensors(one).items():
        assert torch.equal(checkpoint.seed_slice(both, 1)[name], t)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "seed-0"
    folder.mkdir()
    checkpoint.save(folder, {"w": torch.arange(12.0).reshape(1, 12)}, {"step": 7, "agent": "toy"})
    return folder


def reseal(folder, **changes):
    """What a person who knows the format could write: a policy.json whose seal fits."""
    about = json.loads((folder / "policy.json").read_text())
    del about["seal"]
    about |= changes
    (folder / "policy.json").write_text(json.dumps({**about, "seal": checkpoint._seal(about)}))


def refused(folder, words):
    with pytest.raises(ValueError, match=words) as caught:
        checkpoint.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_comes_back(saved):
    about, tensors = checkpoint.load(saved)
    assert about["step"] == 7
    assert tensors["w"].tolist() == [list(map(float, range(12)))]
    assert sorted(p.name for p in saved.iterdir()) == ["policy-7.safetensors", "policy.json"]


def test_the_next_policy_takes_the_place_of_the_last(saved):
    checkpoint.save(saved, {"w": torch.zeros(1)}, {"step": 9})
    assert sorted(p.name for p in saved.iterdir()) == ["policy-9.safetensors", "policy.json"]
    assert checkpoint.load(saved)[0]["step"] == 9


def test_a_save_that_fails_leaves_the_last_policy(saved, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(saved, {"w": torch.zeros(1)}, {"step": 9})
    assert checkpoint.load(saved)[0]["step"] == 7
    assert sorted(p.name for p in saved.iterdir()) == ["policy-7.safetensors", "policy.json"]


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_what_follows(tmp_path, monkeypatch):
    done, fsync, rename = [], os.fsync, os.replace

    def synced(fd):
        where = Path(os.readlink(f"/proc/self/fd/{fd}"))
        done.append((where.name, where.is_dir() or where.read_bytes()))
        fsync(fd)

    def renamed(one, other):
        done.append((one.name, other.name))
        rename(one, other)

    monkeypatch.setattr(checkpoint.os, "fsync", synced)
    monkeypatch.setattr(checkpoint.os, "replace", renamed)
    held = os.listdir("/proc/self/fd")
    checkpoint.replace(tmp_path / "a.json", b"new")
    assert done == [(".a.json.tmp", b"new"), (".a.json.tmp", "a.json"), (tmp_path.name, True)]
    assert os.listdir("/proc/self/fd") == held


def test_files_of_ever_new_sizes_leave_nothing_behind(tmp_path):
    """A training saves for as long as it runs, each time other numbers of rows: no type of ctypes may stay for each of them."""
    kept = len(ctypes._pointer_type_cache)
    for n in range(5000, 5030):
        given = {"a": torch.rand(n, 3).t(), "b": torch.arange(n) > 7, "c": torch.tensor(float(n), dtype=torch.float64)}
        checkpoint.write_tensors(tmp_path / "t.safetensors", given)
        found = parse((tmp_path / "t.safetensors").read_bytes())
        assert found.keys() == given.keys()
        assert all(torch.equal(found[name], t) and found[name].dtype == t.dtype for name, t in given.items())
    assert len(ctypes._pointer_type_cache) == kept


def test_an_error_of_a_disk_names_the_file_that_is_written():
    for own, name in ((OSError(28, "full"), "a"), (OSError(28, "full", "b"), "b")):
        with pytest.raises(OSError, match="full") as caught, checkpoint.named(Path("a")):
            raise own
        assert caught.value.filename == name


def test_a_file_is_believed_by_what_a_sealed_one_says_of_it(tmp_path):
    path = tmp_path / "metrics.csv"
    for data in (b"", b"step\n"):
        path.write_bytes(data)
        named = checkpoint.digest(path)
        assert named == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert checkpoint.read_whole(path, named, "result.json") == data
    for other in (None, {}, [5], {"bytes": -1}, {"bytes": True}, {"bytes": 5.0}):
        with pytest.raises(ValueError, match=r"metrics\.csv cannot be believed: result\.json does not say what it held; move them away"):
            checkpoint.read_whole(path, other, "result.json")
    for other in (named | {"bytes": 6}, named | {"sha256": "0" * 64}, {"bytes": 5}):
        with pytest.raises(ValueError, match=r"metrics\.csv is damaged: its sha256 is not the one in result\.json; restore it from a copy"):
            checkpoint.read_whole(path, other, "result.json")
    path.unlink()
    with pytest.raises(ValueError, match=r"metrics\.csv cannot be read: No such file or directory$"):
        checkpoint.read_whole(path, named, "result.json")


@pytest.mark.parametrize("name", ["policy-7.safetensors", "policy.json"])
def test_every_flipped_bit_and_every_cut_is_noticed(saved, name):
    data = (saved / name).read_bytes()
    about, tensors = checkpoint.load(saved)
    draws = torch.randint(len(data) * 8, (150,), generator=torch.Generator().manual_seed(0)).tolist()
    for bit in draws:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (saved / name).write_bytes(flipped)
        try:
            again = checkpoint.load(saved)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most flips raise; a blank turned into another blank means the same
        else:
            assert (again[0], again[1]["w"].tolist()) == (about, tensors["w"].tolist())
    for size in (0, 1, 8, len(data) // 2, len(data) - 1):
        (saved / name).write_bytes(data[:size])
        refused(saved, "is damaged|is not JSON")


def test_swapped_files_are_noticed(saved, tmp_path):
    other = tmp_path / "seed-1"
    other.mkdir()
    checkpoint.save(other, {"w": torch.zeros(1, 12)}, {"step": 7, "agent": "toy"})
    (saved / "policy-7.safetensors").write_bytes((other / "policy-7.safetensors").read_bytes())
    refused(saved, "is damaged: its sha256 is not the one in policy.json")


def test_missing_files_are_named(saved, tmp_path):
    (saved / "policy-7.safetensors").unlink()
    refused(saved, r"policy-7\.safetensors cannot be read: No such file or directory")
    refused(tmp_path / "nowhere", r"policy\.json cannot be read: No such file or directory; give the folder of a run")


def test_an_edited_json_is_noticed(saved):
    path = saved / "policy.json"
    path.write_text(path.read_text().replace('"step": 7', '"step": 8'))
    refused(saved, "is damaged or was edited")


@pytest.mark.parametrize(
    "name", ["../policy-7.safetensors", "/etc/passwd", "policy-7.pt", "policy-7.safetensors\n", "", None, 3, ["policy-7.safetensors"]]
)
def test_a_file_outside_the_folder_is_not_opened(saved, name):
    reseal(saved, file=name)
    refused(saved, "policy.json names the file .*, which no version of wgf writes")


@pytest.mark.parametrize("number", [1, 2, 4, "3"])
def test_an_older_or_a_newer_format_is_refused(saved, number):
    reseal(saved, format=number)
    refused(saved, "is not a policy of format 3")


@pytest.mark.parametrize("text", ['{"format": 1, "format": 1}', "[" * 100_000, "[1]", '"text"', "", "\x00", "{'a': 1}", "\ud800"])
def test_what_is_no_json_object_is_refused(saved, text):
    (saved / "policy.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(saved, "is not JSON|holds no JSON object")


def test_what_is_nested_without_end_is_refused(saved):
    value = []
    for _ in range(48):
        value = [value]
    reseal(saved, env=value)
    assert checkpoint.load(saved)[0]["env"] == value
    reseal(saved, env=[value])
    refused(saved, "policy.json has more than 50 objects or lists in one another")


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{}" + b"x"]
)
def test_what_is_no_safetensors_file_is_refused(saved, data):
    (saved / "policy-7.safetensors").write_bytes(data)
    reseal(saved, sha256=hashlib.sha256(data).hexdigest())
    refused(saved, "is not a safetensors file")


def test_a_tensor_larger_than_its_file_is_refused(saved):
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    data = len(header).to_bytes(8, "little") + header
    (saved / "policy-7.safetensors").write_bytes(data)
    reseal(saved, sha256=hashlib.sha256(data).hexdigest())
    refused(saved, "is not a safetensors file")


def test_tensors_that_do_not_fit_the_agent_are_named():
    _, _, state = trained("sac", "paper", (0,))
    good = checkpoint.seed_slice(state, 0)
    name = next(n for n in good if n.endswith(".theta"))
    short = good | {name: good[name][:, :-1]}
    with pytest.raises(
        ValueError, match=rf"tensor '{name}' is torch.float32 of shape .* in the checkpoint; the agent needs torch.float32 of shape"
    ):
        checkpoint.restore_(state, [short])
    with pytest.raises(ValueError, match=rf"tensor '{name}' is torch.float64 of shape"):
        checkpoint.restore_(state, [good | {name: good[name].double()}])
    with pytest.raises(ValueError, match="differ in tensor 'extra'"):
        checkpoint.restore_(state, [good | {"extra": torch.zeros(1)}])
    assert torch.equal(checkpoint.tensors(state)[name], good[name])


def test_numbers_that_json_does_not_know_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_loading_runs_no_code(saved, tmp_path):
    trap = serialize({"w": torch.zeros(1)}, metadata={"__reduce__": "os.system('touch owned')"})
    (saved / "policy-7.safetensors").write_bytes(trap)
    reseal(saved, sha256=hashlib.sha256(trap).hexdigest())
    assert checkpoint.load(saved)[1]["w"].tolist() == [0.0]
    assert [p.name for p in tmp_path.iterdir()] == ["seed-0"]
