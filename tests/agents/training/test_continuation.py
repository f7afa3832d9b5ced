"""A training that was stopped or killed goes on as if it had not been, bit by bit; what cannot go on is refused in a line."""

import json
import random
import shutil
import time
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import kills
from tests.agents.training.conftest import Walk
from wgf.agents import Agent, registry
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import checkpoint, envs, loop
from wgf.agents.training.folder import checkpoints, newest
from wgf.agents.training.ring import Ring
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.store import Store
from wgf.snapshot import joined, parted, put_, set_states, states

CPU = torch.device("cpu")
TINY = {"hidden": (8, 8), "batch": 8, "warmup": 20, "log_every": 15, "eval_every": 30, "eval_episodes": 2, "device": "cpu"}
ROLLOUT = TINY | {"hidden": (8,), "envs": 2, "critic_steps": 2}
STEPS = 120


def stop_after(questions):
    """A person who asks to stop at the given question."""
    asked = iter([False] * questions)
    return lambda: next(asked, True)


def same(one, other):
    assert kills.differences(one, other) == []


@pytest.mark.parametrize(
    ("agent", "env", "settings"),
    [
        ("sac", "Hopper-v5", TINY | {"preset": "modern"}),
        ("sac", "Pendulum-v1", TINY | {"normalize": "both", "envs": 3}),
        ("ddpg", "toy/Limited-v0", TINY | {"n_step": 3, "replay": 40}),  # the rings go round
        ("dp-wgf", "Pendulum-v1", TINY | {"previous": "average", "w2": "common_noise", "particles": 4}),
        ("dp-wgf-v", "wgf/CartPole-v0", TINY | {"preset": "modern", "particles": 4, "envs": 2}),
        ("wpo", "Pendulum-v1", TINY | {"critic_hidden": (8, 8), "samples": 2, "copy_every": 5, "fisher": 4, "n_step": 1}),
        ("ppo", "Pendulum-v1", ROLLOUT | {"horizon": 20, "hidden": (8,), "epochs": 2, "normalize": "observations"}),
        ("ip-wgf", "wgf/CartPole-v0", ROLLOUT | {"particles": 3, "weight_noise": 0.1, "inner_steps": 2}),
        ("es", "wgf/PointWall-v0", ROLLOUT | {"preset": "nsr-es", "centres": 3, "pairs": 1, "horizon": 1, "hidden": (4,)}),
    ],
)
def test_a_training_that_was_stopped_three_times_is_the_one_that_was_not(agent, env, settings, tmp_path):
    calm, hard = (tmp_path / name / "runs" / "main" / "env" / "agent" for name in ("calm", "hard"))
    known = {f.name for f in fields(registry.find(agent, "paper")[1])} | {f.name for f in fields(Schedule)} | {"preset", "device"}
    settings = {name: value for name, value in settings.items() if name in known}
    Agent(agent, env, seeds=(1, 4), **settings).learn(STEPS, log=calm)
    one = Agent(agent, env, seeds=(1, 4), **settings)
    one.train(STEPS, log=hard, stopping=stop_after(25))
    for questions in (40, 3):
        one = Agent(agent, env, seeds=(1, 4), **settings).resume(hard)
        one.train(STEPS, log=hard, stopping=stop_after(questions))
    one = Agent.load(hard)
    one.learn(STEPS - Agent(agent, env, seeds=(1, 4), **settings).resume(hard).step, log=hard)
    assert one.endings == ["finished"] * 2
    same(kills.left(tmp_path / "calm"), kills.left(tmp_path / "hard"))


@pytest.mark.parametrize(
    ("agent", "env", "seeds"), [("sac", "Hopper-v5", 1), ("dp-wgf-v", "Pendulum-v1", 3), ("trpo", "wgf/CartPole-v0", 3)]
)
def test_a_training_that_was_killed_ends_in_the_same_bytes(agent, env, seeds, tmp_path):
    """tests/kills.py does this for all agents and a few hundred kills."""
    _, saves, odd = kills.case(kills.command(agent, env, seeds, steps=160), 6, 3, random.Random(0), tmp_path)
    assert saves >= 2  # by a count of writes; the clock's may come after its end
    assert odd == []


def test_the_comparison_of_the_bytes_sees_a_difference(tmp_path):
    folders = [tmp_path / name / "runs" / "main" / "env" / "agent" for name in ("one", "other")]
    Agent("sac", "Pendulum-v1", **TINY).learn(60, log=folders[0])
    Agent("sac", "Pendulum-v1", **(TINY | {"lr": 1e-3})).learn(60, log=folders[1])
    odd = kills.differences(kills.left(tmp_path / "one"), kills.left(tmp_path / "other"))
    assert {"0 policy policy.theta", "0 metrics", "0 scalar eval/return", "checkpoint state:policy.m"} <= set(odd)
    assert "row 0 3" not in odd  # of the warm-up
    assert "row 0 40" in odd


def random_steps(rng, rings, n, obs=2, action=1):
    """``n`` steps of a simulator without sense, with episodes that end."""
    here = rng.standard_normal((rings, 1, obs)).astype(np.float32)
    for _ in range(n):
        after, first = (rng.standard_normal((rings, 1, obs)).astype(np.float32) for _ in range(2))
        terminated, truncated = rng.random((rings, 1)) < 0.1, rng.random((rings, 1)) < 0.1
        ended = (terminated | truncated)[..., None]
        obs_next = np.where(ended, first, after)
        parts = [obs_next, after, rng.standard_normal((rings, 1)).astype(np.float32), terminated, truncated]
        yield (
            torch.from_numpy(here),
            torch.from_numpy(rng.standard_normal((rings, 1, action)).astype(np.float32)),
            Outcome(*(torch.from_numpy(p) for p in parts)),
        )
        here = obs_next


@pytest.mark.parametrize(("rows", "n_step"), [(400, 1), (30, 1), (30, 3), (5, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_replay_comes_back_from_its_pieces(rows, n_step, seed):
    rng = np.random.default_rng(seed)
    ring, back = (Ring((7, 8, 9), rows, 2, 1, 0.9, CPU, n_step) for _ in range(2))
    pieces, snapshot = [], None
    for i, step in enumerate(random_steps(rng, 3, 150)):
        ring.add(*step)
        if rng.random() < 0.05 or i == 120:
            ring.sample(2)
            pieces.append({name: t.clone() for name, t in ring.rows(snapshot).items()})
            tensors, facts = parted({"ring": ring.snapshot()})
            snapshot = joined(tensors, json.loads(json.dumps(facts)))["ring"]
        if i == 120:
            break
    for piece in pieces:
        if (piece["last"] > pieces[-1]["oldest"]).any():
            back.put(piece)
    back.restore(snapshot)
    for _ in range(2):
        for step in random_steps(rng, 3, 60):
            ring.add(*step), back.add(*step)
            for one, other in zip(ring.sample(16), back.sample(16), strict=True):
                assert torch.equal(one, other)


def test_a_piece_holds_what_is_new(tmp_path):
    rng, ring = np.random.default_rng(0), Ring((1,), 1000, 2, 1, 0.9, CPU)
    for step in random_steps(rng, 1, 300):
        ring.add(*step)
    before = ring.snapshot()
    for step in random_steps(rng, 1, 10):
        ring.add(*step)
    assert len(ring.rows(before)["data"]) <= 22  # at most two rows a step, and two from before
    assert ring.rows(before)["starts"].shape == (1, 10)
    assert len(ring.rows(None)["data"]) > 300


def test_the_checkpoint_before_is_taken_where_the_last_is_damaged(tmp_path):
    calm, hard = tmp_path / "calm" / "runs" / "main" / "e" / "a", tmp_path / "hard" / "runs" / "main" / "e" / "a"
    Agent("sac", "Pendulum-v1", **TINY).learn(STEPS, log=calm)
    Agent("sac", "Pendulum-v1", **TINY, checkpoint_every=20).learn(90, log=hard)
    for k, name in enumerate(("state-90.safetensors", "rows-90.safetensors", "training-90.json")):
        shutil.copytree(hard, tmp_path / f"{k}" / "runs" / "main" / "e" / "a")
        path = tmp_path / f"{k}" / "runs" / "main" / "e" / "a" / "seed-0" / "training" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        one = Agent("sac", "Pendulum-v1", **TINY)
        with pytest.warns(RuntimeWarning, match="^checkpoint 90 cannot be used: .*damaged"):
            one.resume(path.parents[2])
        assert one.step == 80
        one.learn(STEPS - 80, log=path.parents[2])
        same(kills.left(tmp_path / "calm"), kills.left(tmp_path / f"{k}"))


def numbered(last, oldest):
    """A piece of two rings' rows that says no more than which they are."""
    return {"last": torch.tensor(last), "oldest": torch.tensor(oldest)}


@pytest.fixture
def store(tmp_path):
    """Four checkpoints; the rows of the first are needed until the third, those of the second until the last."""
    store = Store(tmp_path / "training")
    store.folder.mkdir()
    (store.folder / ".state-1.safetensors.tmp").write_bytes(b"half")
    (store.folder / "training-notes.json").write_text("a person's")
    rows = {0: ([4, 4], [-9, -9]), 5: ([9, 8], [-4, -5]), 9: ([14, 13], [4, 3]), 12: ([19, 18], [9, 8])}
    for step, (last, oldest) in rows.items():
        store.save(step, {"a": {"b": torch.full((2,), float(step)), "c": step}}, numbered(last, oldest), fresh=step == 0)
    return store


def names(store):
    return sorted(p.name.removesuffix(".safetensors").removesuffix(".json") for p in store.folder.iterdir())


def test_two_checkpoints_are_kept_and_nothing_that_none_of_them_needs(store):
    held = ["state-12", "state-9", "training-12", "training-9"]
    assert names(store) == ["rows-0", "rows-12", "rows-5", "rows-9", *held, "training-notes"]
    assert [len(list(Store(store.folder).load(12).pieces()))] == [2]
    store.save(15, {}, numbered([24, 23], [14, 13]), fresh=False)
    held = ["state-12", "state-15", "training-12", "training-15", "training-notes"]
    assert names(store) == ["rows-12", "rows-15", "rows-9", *held]


def test_a_training_that_goes_back_forgets_what_came_later(store):
    again = Store(store.folder)
    assert again.steps() == [12, 9]
    saved = again.load(9)
    assert (saved.step, saved.snapshot["a"]["c"], saved.snapshot["a"]["b"].tolist()) == (9, 9, [9.0, 9.0])
    assert [piece["last"].tolist() for piece in saved.pieces()] == [[4, 4], [9, 8], [14, 13]]
    assert names(again) == ["rows-0", "rows-5", "rows-9", "state-9", "training-9", "training-notes"]
    again.save(11, {}, numbered([16, 15], [6, 5]), fresh=False)
    assert [piece["last"].tolist() for piece in again.load(11).pieces()] == [[9, 8], [14, 13], [16, 15]]


def test_a_training_that_begins_anew_needs_no_rows_of_before(store):
    store.save(15, {}, numbered([24, 23], [-9, -9]), fresh=True)
    assert [piece["last"].tolist() for piece in store.load(15).pieces()] == [[24, 23]]
    Store(store.folder).save(3, {}, {}, fresh=True)
    assert names(store) == ["state-3", "training-3", "training-notes"]  # what came later is another training's
    Store(store.folder / "new" / "training").save(3, {"c": 1}, {}, fresh=True)
    assert newest(Store(store.folder / "new" / "training")).snapshot == {"c": 1}


def test_a_damaged_checkpoint_needs_no_file(store):
    (store.folder / "training-12.json").write_text("{")
    store.save(15, {}, numbered([24, 23], [20, 20]), fresh=False)
    assert names(store) == ["rows-15", "state-15", "training-12", "training-15", "training-notes"]


def test_a_checkpoint_that_is_anothers_or_lacks_a_part_is_refused(store):
    path = store.folder / "training-12.json"
    about = checkpoint.read_sealed(path)
    for change, words in (({"format": 2}, "format 1"), ({"step": 9}, "step 12"), ({"rows": None}, "step 12"), ({"facts": [1]}, "step 12")):
        checkpoint.write_sealed(path, about | change)
        with pytest.raises(ValueError, match=rf"training-12\.json is not a checkpoint of {words}"):
            store.load(12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": [1]}, "is not a checkpoint of step 12"),
        ({"rows": [{"file": 5}]}, "is not a checkpoint of step 12"),
        ({"facts": {"a": 3}}, "state-12.safetensors has tensors whose names do not fit training-12.json"),
        ({"facts": {"a": [3]}}, "state-12.safetensors has tensors whose names do not fit training-12.json"),
    ],
)
def test_a_checkpoint_that_somebody_wrote_is_no_checkpoint(store, change, words):
    path = store.folder / "training-12.json"
    checkpoint.write_sealed(path, checkpoint.read_sealed(path) | change)
    with pytest.raises(ValueError, match=words):
        store.load(12)


def test_a_checkpoint_of_another_thing_names_what_it_lacks(store):
    store.load(12).check(store.folder, {"a": dict})
    with pytest.raises(ValueError, match=r"training holds another kind of checkpoint, or one of another version: its seeds is no list$"):
        store.load(12).check(store.folder, {"a": dict, "seeds": list})


FACTS = {
    ("record", "endings"): ["running"],
    ("record", "seconds"): "long",
    ("record", "logs"): {"0": {"bytes": "5"}},
    ("record", "latest"): {"other": 3.0},
    ("about", "schedule"): {"speed": 1},
    ("memory", "envs"): {},
    ("memory", "ring"): {"added": 3},
    ("memory", "envs", "0", "seed"): "x",
    ("memory", "envs", "0"): {"seed": None, "generator": 5},
    ("streams",): {},
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder of a training."""
    log = tmp_path_factory.mktemp("walked")
    Agent("sac", "Pendulum-v1", seeds=2, **TINY).learn(30, log=log)
    return log


@pytest.mark.parametrize(("path", "value"), FACTS.items())
def test_a_training_that_somebody_wrote_does_not_go_on(walked, tmp_path, path, value):
    folder = tmp_path / "run"
    shutil.copytree(walked, folder)
    file = folder / "seed-0" / "training" / "training-30.json"
    about = checkpoint.read_sealed(file)
    *folders, name = path
    place = about["facts"]
    for part in folders:
        place = place[part]
    place[name] = value
    checkpoint.write_sealed(file, about)
    with pytest.raises(ValueError, match=rf"^{folder}[^\n]+$"):
        Agent("sac", "Pendulum-v1", seeds=2, **TINY).resume(folder)


def test_a_replay_takes_no_more_rows_than_there_are():
    ring = Ring((7,), 40, 2, 1, 0.9, CPU)
    rows = {name: torch.zeros(1, dtype=torch.int64) for name in ("first", "last", "added", "ends")} | {"data": torch.zeros(1, 5)}
    for last in (-1, 10**12):
        with pytest.raises(ValueError, match="the replay's rows are not as many as their numbers say"):
            ring.put(rows | {"last": torch.tensor([last])})


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 1, "step": 5}', "[1]"])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, text):
    store = Store(tmp_path)
    (tmp_path / "training-5.json").write_text(text)
    with pytest.raises(ValueError, match=r"training-5\.json") as caught:
        store.load(5)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="holds no whole checkpoint: train again in another folder"), pytest.warns(RuntimeWarning):
        newest(store)


def test_a_snapshot_comes_apart_and_together():
    whole = {"a": 1, "b": {"c": torch.arange(3), "d": {"e/f": torch.ones(1, 2)[:, 0], "g": None}}, "h": {}}
    tensors, rest = parted(whole)
    assert sorted(tensors) == ["b:c", "b:d:e/f"]
    assert rest == {"a": 1, "b": {"d": {"g": None}}, "h": {}}
    back = joined(tensors, rest)
    assert rest == {"a": 1, "b": {"d": {"g": None}}, "h": {}}
    assert torch.equal(back["b"]["c"], whole["b"]["c"])
    assert torch.equal(back["b"]["d"]["e/f"], torch.ones(1))
    assert (back["a"], back["b"]["d"]["g"], back["h"]) == (1, None, {})


def test_a_tensor_of_another_shape_or_type_is_refused():
    own = torch.zeros(2)
    wide = torch.zeros(2, dtype=torch.float64)
    for found, words in (
        (torch.zeros(3), r"torch.float32 of shape \(3,\)"),
        (wide, r"torch.float64 of shape \(2,\)"),
        (1.0, "1.0"),
        (None, "None"),
    ):
        with pytest.raises(ValueError, match=rf"^the thing is {words} in the checkpoint; it must be torch.float32 of shape \(2,\)$"):
            put_(own, found, "the thing")
    put_(own, torch.ones(2), "the thing")
    assert own.tolist() == [1.0, 1.0]


def test_generators_go_on_where_they_were():
    ours = [torch.Generator().manual_seed(k) for k in (3, 4)]
    torch.rand(5, generator=ours[0])
    at = states(ours)
    expected = [torch.rand(3, generator=g) for g in ours]
    other = [torch.Generator() for _ in ours]
    set_states(other, at)
    assert all(torch.equal(torch.rand(3, generator=g), e) for g, e in zip(other, expected, strict=True))
    with pytest.raises(ValueError, match="a generator's state in the checkpoint is none: "):
        set_states(other, at + 1)


@pytest.mark.parametrize(
    ("env", "steps"),
    [
        ("Hopper-v5", 40),
        ("InvertedDoublePendulum-v5", 30),
        ("Reacher-v5", 60),
        ("MountainCarContinuous-v0", 20),
        ("wgf/DoublePendulum-v0", 90),
    ],
)
def test_environments_come_back_in_the_middle_of_an_episode(env, steps):
    def fresh():
        return envs.Source(env).make(2, 2, starts=lambda k: [k, k + 10])

    one, other, rng = fresh(), fresh(), np.random.default_rng(0)
    one.reset([3, 4])

    def action():
        return torch.from_numpy(rng.uniform(-1, 1, (2, 2, one.action_size)).astype(np.float32))

    for _ in range(steps):
        obs = one.step(action()).obs
    tensors, facts = parted(one.snapshot())
    other.reset([0, 1])
    assert torch.equal(other.restore(joined(tensors, json.loads(json.dumps(facts)))), obs)
    for _ in range(120):  # over the ends of episodes, whose starts are drawn
        now = action()
        for a, b in zip(one.step(now), other.step(now), strict=True):
            assert torch.equal(a, b)


def test_an_environment_that_does_not_come_back_is_refused(tmp_path):
    """Walk tells how many episodes it has begun, which follows from neither its generator nor its actions."""
    Agent("sac", Walk, **TINY).learn(50, log=tmp_path)
    with pytest.raises(ValueError, match=r"training: the environment does not come back to where it was: its episodes"):
        Agent("sac", Walk, **TINY).resume(tmp_path)


def test_what_a_training_was_is_what_it_goes_on_as(tmp_path):
    Agent("sac", "Pendulum-v1", seeds=(1, 2), **TINY).learn(50, log=tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with config.lr = 0.0003, not 0.001: give the same settings, or another folder$"):
        Agent("sac", "Pendulum-v1", seeds=(1, 2), **TINY, lr=1e-3).resume(tmp_path)
    with pytest.raises(ValueError, match="holds a run with compile = False, not True"):
        Agent("sac", "Pendulum-v1", seeds=(1, 2), **TINY, compile=True).resume(tmp_path)
    with pytest.raises(ValueError, match="holds seeds 1, 2 as one stack, which goes on as a whole: give these seeds"):
        Agent("sac", "Pendulum-v1", seeds=(1,), **TINY).resume(tmp_path)
    with pytest.raises(ValueError, match="holds no checkpoint: train again in another folder"):
        Agent("sac", "Pendulum-v1", seeds=(2,), **TINY).resume(tmp_path)
    one = Agent("sac", "Pendulum-v1", seeds=(1, 2), **TINY, checkpoint_every=7).resume(tmp_path)  # which changes no number
    assert one.learn(10, log=tmp_path).step == 60


def test_a_program_with_other_threads_is_told_and_no_training_takes_over_one_that_lives(tmp_path):
    Agent("sac", "Pendulum-v1", **TINY).learn(30, log=tmp_path)
    with FileLock(tmp_path / "seed-0" / ".lock"):
        before = sorted(path.name for path in (tmp_path / "seed-0" / "training").iterdir())
        with pytest.raises(ValueError, match="is being written by another process; wait for it"):
            Agent.load(tmp_path).learn(10)
        assert sorted(path.name for path in (tmp_path / "seed-0" / "training").iterdir()) == before
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(RuntimeWarning, match=rf"was begun with threads = {threads}, not {threads + 1}: its numbers may differ"):
            Agent.load(tmp_path).learn(10, log=tmp_path)
    finally:
        torch.set_num_threads(threads)


def test_the_log_goes_on_in_the_same_files(tmp_path):
    one = Agent("sac", "toy/Limited-v0", **TINY)
    one.train(60, log=tmp_path, stopping=stop_after(40))
    step = one.step
    begun = json.loads((tmp_path / "seed-0" / "config.json").read_text())
    with open(tmp_path / "seed-0" / "metrics.csv", "a") as f:
        f.write("99,eval/return,3.0\n")  # after the checkpoint
    events = EventAccumulator(str(tmp_path / "seed-0"))
    two = Agent("sac", "toy/Limited-v0", **TINY).resume(tmp_path)
    assert two.step == step
    two.learn(60 - step, log=tmp_path).learn(30, log=tmp_path)
    rows = (tmp_path / "seed-0" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows if ",eval/return," in row] == ["30", "60", "90"]
    events.Reload()
    assert [e.step for e in events.Scalars("eval/return")] == [30, 60, 90]
    config = json.loads((tmp_path / "seed-0" / "config.json").read_text())
    assert config["started"] == begun["started"]
    assert len(config["continued"]) == 2
    assert config["schedule"]["steps"] == 90
    assert json.loads((tmp_path / "seed-0" / "result.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("years", [-3, 3])
def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch, years):
    calm, hard = (tmp_path / name / "runs" / "main" / "env" / "agent" for name in ("calm", "hard"))
    Agent("sac", "Pendulum-v1", **TINY).learn(60, log=calm)
    Agent("sac", "Pendulum-v1", **TINY).train(60, log=hard, stopping=stop_after(40))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years * 3e7)
    one = Agent("sac", "Pendulum-v1", **TINY).resume(hard)
    one.learn(60 - one.step, log=hard)
    same(kills.left(tmp_path / "calm"), kills.left(tmp_path / "hard"))


def test_a_log_does_not_go_on_behind_steps_that_it_lacks(tmp_path):
    def breaks(step, metrics, agent):
        if step == 45:
            raise RuntimeError("enough")

    one = Agent("sac", "toy/Limited-v0", **TINY, checkpoint_every=15)
    with pytest.raises(RuntimeError, match="enough"):
        one.learn(60, breaks, log=tmp_path)
    with pytest.raises(ValueError, match="seed-0 already holds a run; write to another folder"):
        one.learn(30, log=tmp_path)  # the checkpoint is that of step 30, the training in memory stands at 45
    two = Agent("sac", "toy/Limited-v0", **TINY, checkpoint_every=15).resume(tmp_path)
    assert two.step == 30
    two.learn(60, log=tmp_path).learn(10).learn(10, log=tmp_path.with_name("other"))
    with pytest.raises(ValueError, match="seed-0 already holds a run; write to another folder"):
        two.learn(10, log=tmp_path)


def test_a_log_that_was_cut_short_is_refused(tmp_path):
    Agent("sac", "toy/Limited-v0", **TINY).learn(60, log=tmp_path)
    path = tmp_path / "seed-0" / "metrics.csv"
    path.write_bytes(path.read_bytes()[:-20])
    one = Agent("sac", "toy/Limited-v0", **TINY).resume(tmp_path)
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: it does not begin with what the checkpoint says"):
        one.learn(30, log=tmp_path)


def test_a_seed_that_failed_stays_failed_and_the_others_go_on(train_toy):
    calm = train_toy("toy/NanSoon-v0", (0, 1), out="calm")
    assert calm.endings[0] == "finished"
    assert calm.endings[1].startswith("failed")
    record = newest(Store(calm.folders[0] / "training")).snapshot["record"]
    assert record["endings"][0] == "running"
    assert record["endings"][1] == calm.endings[1]
    assert sorted(record["logs"]) == ["0"]


def test_a_saved_agent_goes_on_with_its_replay_where_its_training_is_saved_too(tmp_path):
    whole, parts = (Agent("dp-wgf-v", "Pendulum-v1", seeds=(3, 5), particles=4, **TINY) for _ in range(2))
    whole.learn(100)
    parts.learn(70).save(tmp_path, training=True)
    loaded = Agent.load(tmp_path)
    assert loaded.step == 70
    loaded.learn(30, log=tmp_path.with_name("log"))
    tensors = [checkpoint.tensors(agent.state) for agent in (whole, loaded)]
    assert all(torch.equal(t, tensors[1][name]) for name, t in tensors[0].items())
    with pytest.raises(ValueError, match="seed-3 already holds a run; write to another folder"):  # which has no log to go on with
        Agent.load(tmp_path).learn(30, log=tmp_path)
    with pytest.raises(ValueError, match="training is True; there is none before learn"):
        Agent("sac", "Pendulum-v1", **TINY).save(tmp_path, training=True)


def test_checkpoints_are_taken_when_they_are_due(monkeypatch):
    keeper, every, now = loop.Keeper(None), Schedule(checkpoint_every=10), [100.0]
    assert [step for step in range(1, 41) if keeper.due(every, step - 1, step, False)] == [10, 20, 30, 40]
    assert keeper.due(every, 9, 31, False)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "snapshot", lambda *given: {"step": 1, "memory": {}, "record": {}})
    keeper.store, now[0] = SimpleNamespace(save=lambda *given, fresh: now.__setitem__(0, 20.0)), 18.0
    keeper.save(SimpleNamespace(memory=SimpleNamespace(rows=lambda since: {})), SimpleNamespace(step=1), None)
    now[0] = 100.0
    assert keeper.due(Schedule(), 0, 1, True)  # 80 seconds after one that took 2
    assert not keeper.due(Schedule(), 0, 1, False)
    now[0] = 99.9
    assert not keeper.due(Schedule(), 0, 1, True)


def test_environments_that_leave_no_way_back_leave_no_checkpoint(tmp_path):
    pytest.importorskip("envpool")
    one = Agent("sac", "Pendulum-v1", backend="envpool", **TINY).learn(40, log=tmp_path)
    assert not (tmp_path / "seed-0" / "training").exists()
    with pytest.raises(ValueError, match="environments of backend envpool do not come back to where they were; use backend gymnasium"):
        one.save(tmp_path.with_name("again"), training=True)
    assert checkpoints(tmp_path, [0]).steps() == []
