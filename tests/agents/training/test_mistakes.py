"""Mistakes at the front door of Python: each is a ValueError of one line that names the argument."""

import math
import re

import numpy as np
import pytest
import torch

from wgf.agents import Agent

CARTPOLE = "wgf/CartPole-v0"
TENSOR, SHOWN = torch.ones(4, 2), r"Tensor of torch.float32, shape \(4, 2\)"


def refused(says, call):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "gpu"}, "device 'gpu' is unknown; use auto, cpu, cuda or cuda:N"),
        ({"device": None}, "device None is unknown"),
        ({"seeds": None}, "seeds is None; it must be a whole number, or several"),
        ({"seeds": "3"}, "seeds is '3'; it must be a whole number, or several"),
        ({"seeds": 1.5}, "seeds is 1.5; it must be a whole number, or several"),
        ({"seeds": True}, "seeds is True; it must be a whole number, or several"),
        ({"seeds": [0.5]}, r"seeds is \[0.5\]; it must be a whole number, or several"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]; it must be at least 1, or different numbers"),
        ({"seeds": b"\x01"}, r"seeds is b'\\x01'; it must be a whole number, or several"),
        ({"seeds": 10**9}, "seeds is 1000000000; it must be at most 1,000,000, or the seeds themselves"),
        ({"seeds": 10**5000}, "seeds is something of type int; it must be at most 1,000,000"),
        ({"seeds": [1_000_000]}, r"seeds is \[1000000\]; seeds must lie from 0 to 999,999"),
        ({"seeds": TENSOR}, rf"seeds is {SHOWN}; it must be a whole number, or several"),
        ({"device": TENSOR}, rf"device {SHOWN} is unknown"),
        ({"preset": None}, "preset None is unknown to sac; choose from paper, modern"),
        ({"preset": ["paper"]}, r"preset \['paper'\] is unknown"),
        ({"backend": "brax"}, "backend is 'brax'; choose from 'gymnasium', 'async', 'envpool', 'warp'"),
        ({"backend": TENSOR}, rf"backend is {SHOWN}; choose from 'gymnasium', 'async', 'envpool', 'warp'"),
        ({"compile": TENSOR}, rf"compile is {SHOWN}; choose from 'auto', True, False"),
        ({"compile": "yes"}, "compile is 'yes'; choose from 'auto', True, False"),
        ({"compile": 1}, "compile is 1; choose from 'auto', True, False"),
        ({"nets": 3}, "nets is 3; it must be a dict of networks by their names"),
        ({"nets": TENSOR}, rf"nets is {SHOWN}; it must be a dict of networks by their names"),
        ({"nets": {1: None}}, r"nets is \{1: None\}; it must be a dict of networks by their names"),
        ({"nets": {"q": TENSOR}}, rf"nets has {SHOWN} for 'q'; it must be a torch module"),
        ({"nets": {"q": None}}, "nets has None for 'q'; it must be a torch module, or a network"),
        ({"hidden": ("a",)}, r"hidden is \('a',\); it must be a list, each a whole number"),
        ({"hidden": (8.5,)}, r"hidden is \(8.5,\); it must be a list, each a whole number"),
        ({"hidden": [8, True]}, r"hidden is \(8, True\); it must be a list, each a whole number"),
        ({"hidden": 8}, "hidden is 8; it must be a list, each a whole number"),
        ({"hidden": (10**18,)}, r"hidden is \(1000000000000000000,\); it must be a list, each a whole number of at most 18 digits"),
        ({"batch": 10**18}, "batch is 1000000000000000000; it must be a whole number of at most 18 digits"),
        ({"batch": -(10**18)}, "batch is -1000000000000000000; it must be a whole number of at most 18 digits"),
        ({"batch": TENSOR}, rf"batch is {SHOWN}; it must be a whole number"),
        ({"lr": 10**400}, r"lr is 1000*\.\.\.; it must be a number of at most 18 digits"),
        ({"normalize": TENSOR}, rf"normalize is {SHOWN}; choose from 'none', 'observations'"),
        ({"normalize": 3}, "normalize is 3; choose from 'none', 'observations'"),
        ({"lr": None}, "lr is None; it must be a number"),
        ({"lr": math.nan}, "lr is nan; it must be above 0"),
        ({"speed": 1}, "setting 'speed' is unknown"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(settings, says):
    refused(says, lambda: Agent("sac", CARTPOLE, **settings))


def test_a_setting_of_another_kind_is_named():
    refused("anneal is 'no'; it must be a whole number", lambda: Agent("svpg", CARTPOLE, anneal="no"))


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (TENSOR, rf"env is {SHOWN}; it must be a Gymnasium id, an environment of Gymnasium, or a function"),
        (int, "environment 'given' cannot be made: 0 has no spaces, as environments of Gymnasium have"),
    ],
)
def test_what_is_no_environment_is_named(env, says):
    refused(says, lambda: Agent("sac", env))


def test_numbers_of_numpy_and_torch_are_numbers():
    assert Agent("sac", CARTPOLE, seeds=[np.int64(3)], hidden=(8,)).seeds == (3,)
    agent = Agent("sac", CARTPOLE, seeds=np.int64(2), hidden=(np.int64(8), 4), batch=torch.tensor(16), lr=np.float32(0.5))
    assert (agent.seeds, agent.cfg.hidden, agent.cfg.batch, agent.cfg.lr) == ((0, 1), (8, 4), 16, 0.5)
    assert {type(value) for value in (*agent.seeds, *agent.cfg.hidden, agent.cfg.batch)} == {int}


def test_what_an_agent_is_asked_for_is_checked(tmp_path):
    agent = Agent("sac", CARTPOLE, hidden=(8,))
    for steps in (1.5, None, "x", True, math.inf, 10**18):
        for ask in (agent.learn, agent.needs, agent.compiles):
            refused(f"steps is {steps!r}; it must be a whole number of at most 18 digits", lambda ask=ask, steps=steps: ask(steps))
        refused(f"total is {steps!r}; it must be a whole number", lambda steps=steps: agent.train(steps))
    for episodes in (0, 1.5, None, "x", 10**18):
        refused(f"episodes is {episodes!r}; it must be at least 1", lambda episodes=episodes: agent.evaluate(episodes))
    for seed in (5, None, 0.5, "x"):
        refused(f"seed is {seed!r}; it must be from 0 to 0", lambda seed=seed: agent.predict([0.0] * 4, seed=seed))
    for obs in ({"a": 1}, "x", [10**400] * 4, torch.ones(4, requires_grad=True)):
        refused(f"obs is a {type(obs).__name__}; it must be numbers", lambda obs=obs: agent.predict(obs))
    refused("deterministic is 1; choose from True, False", lambda: agent.predict([0.0] * 4, deterministic=1))
    refused(f"training is {SHOWN}; choose from True, False", lambda: agent.save(tmp_path / "here", TENSOR))
    assert not (tmp_path / "here").exists()
    for folder in (None, 3):
        refused(f"folder is {folder}; it must be a path", lambda folder=folder: Agent.load(folder))
        refused(f"folder is {folder}; it must be a path", lambda folder=folder: agent.save(folder))
        refused(f"log is {folder}; it must be a path", lambda folder=folder: agent.resume(folder))
    assert torch.isfinite(torch.tensor(agent.predict([0.0] * 4, seed=np.int64(0), deterministic=np.True_))).all()


def test_what_a_training_is_given_is_checked_before_anything_is_written(tmp_path):
    agent = Agent("sac", CARTPOLE, hidden=(8,))
    refused("log is 3; it must be a path", lambda: agent.learn(2, log=3))
    for value in (False, 3, TENSOR):
        says = SHOWN if value is TENSOR else value
        refused(f"callback is {says}; it must be a function", lambda value=value: agent.learn(2, value, log=tmp_path / "log"))
        refused(f"stopping is {says}; it must be a function", lambda value=value: agent.learn(2, stopping=value, log=tmp_path / "log"))
    assert not (tmp_path / "log").exists()
    assert agent.step == 0


def test_what_an_agent_is_loaded_with_is_checked(tmp_path):
    Agent("sac", CARTPOLE, hidden=(8,)).save(tmp_path)
    for seeds in (3, True, None, "0", b"0", [0.5]):
        refused(
            rf"seeds is {re.escape(repr(seeds))}; it must be a sequence of whole numbers",
            lambda seeds=seeds: Agent.load(tmp_path, seeds=seeds),
        )
    refused(f"seeds is {SHOWN}; it must be a sequence of whole numbers", lambda: Agent.load(tmp_path, seeds=TENSOR))
    refused(f"nets is {SHOWN}; it must be a dict of networks by their names", lambda: Agent.load(tmp_path, nets=TENSOR))
    assert Agent.load(tmp_path, seeds=[np.int64(0)]).seeds == (0,)
