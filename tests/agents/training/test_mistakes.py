"""Mistakes at the front door of Python: each is a ValueError of one line that names the argument."""

import math

import numpy as np
import pytest
import torch

from wgf.agents import Agent

CARTPOLE = "wgf/CartPole-v0"


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
        ({"preset": None}, "preset None is unknown; choose from paper, modern"),
        ({"preset": ["paper"]}, r"preset \['paper'\] is unknown"),
        ({"backend": "brax"}, "backend is 'brax'; choose from 'gymnasium', 'envpool'"),
        ({"compile": "yes"}, "compile is 'yes'; choose from 'auto', True, False"),
        ({"compile": 1}, "compile is 1; choose from 'auto', True, False"),
        ({"nets": 3}, "nets is 3; it must be a dict of networks by their names"),
        ({"nets": {"q": None}}, "nets has None for 'q'; it must be a torch module, or a network"),
        ({"hidden": ("a",)}, r"hidden is \('a',\); it must be a list, each a whole number"),
        ({"hidden": (8.5,)}, r"hidden is \(8.5,\); it must be a list, each a whole number"),
        ({"hidden": [8, True]}, r"hidden is \(8, True\); it must be a list, each a whole number"),
        ({"hidden": 8}, "hidden is 8; it must be a list, each a whole number"),
        ({"lr": None}, "lr is None; it must be a number"),
        ({"lr": math.nan}, "lr is nan; it must be above 0"),
        ({"speed": 1}, "setting 'speed' is unknown"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(settings, says):
    refused(says, lambda: Agent("sac", CARTPOLE, **settings))


def test_a_setting_of_another_kind_is_named():
    refused("anneal is 'no'; it must be a whole number", lambda: Agent("svpg", CARTPOLE, anneal="no"))


def test_a_whole_number_of_numpy_is_a_whole_number():
    assert Agent("sac", CARTPOLE, seeds=[np.int64(3)], hidden=(8,)).seeds == (3,)


def test_what_an_agent_is_asked_for_is_checked(tmp_path):
    agent = Agent("sac", CARTPOLE, hidden=(8,))
    for steps in (1.5, None, "x", True):
        refused(f"steps is {steps!r}; it must be a whole number", lambda steps=steps: agent.learn(steps))
    for episodes in (0, 1.5, None, "x"):
        refused(f"episodes is {episodes!r}; it must be at least 1", lambda episodes=episodes: agent.evaluate(episodes))
    for seed in (5, None, 0.5, "x"):
        refused(f"seed is {seed}; it must be from 0 to 0", lambda seed=seed: agent.predict([0.0] * 4, seed=seed))
    refused("obs is a dict; it must be numbers", lambda: agent.predict({"a": 1}))
    for folder in (None, 3):
        refused(f"folder is {folder}; it must be a path", lambda folder=folder: Agent.load(folder))
        refused(f"folder is {folder}; it must be a path", lambda folder=folder: agent.save(folder))
    assert torch.isfinite(torch.tensor(agent.predict([0.0] * 4, seed=np.int64(0)))).all()
