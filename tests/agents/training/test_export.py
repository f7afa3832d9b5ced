"""Policies as ONNX models, run by onnxruntime: what ``predict`` computes, on observations of any size."""

import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from wgf.agents import Agent, sac
from wgf.agents.training.checkpoint import read_sealed


class Reach(gymnasium.Env):
    """Two actions of different bounds."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gymnasium.spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([3.0, 10.0], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        return self.np_random.normal(5.0, 3.0, 3).astype(np.float32), 0.0, False, self.t == 20, {}


def observations(rows):
    draw = np.random.default_rng(0)
    return (draw.normal(size=(rows, 3)) * draw.choice([1.0, 100.0, 1e4], (rows, 1))).astype(np.float32)


def session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def run(file, obs):
    (found,) = session(file).run(["actions"], {"observations": obs})
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, agent) of two seeds of SAC that have learned a little, with normalised observations."""
    folder = tmp_path_factory.mktemp("export")
    agent = Agent("sac", Reach, seeds=2, preset="modern", hidden=(8, 8), batch=8, warmup=30, normalize="observations", eval_every=60)
    agent.learn(60, log=folder)
    agent.export(folder / "policy.onnx", seed=1)
    return folder, agent


@pytest.mark.parametrize("rows", [1, 64])
def test_a_model_computes_what_predict_does_within_the_bounds_of_the_environment(made, rows):
    folder, agent = made
    obs = observations(rows)
    found = run(folder / "policy.onnx", obs)
    assert found.dtype == np.float32
    assert found.shape == (rows, 2)
    np.testing.assert_allclose(found, agent.predict(obs, seed=1), rtol=0, atol=1e-5)
    if rows > 1:
        assert np.abs(found - agent.predict(obs, seed=0)).max() > 1e-3  # which is another policy
        assert np.ptp(found, axis=0).min() > 0.1


def test_what_is_beyond_all_bounds_gives_the_action_of_predict(made):
    folder, agent = made
    obs = np.array([[1e30, -1e30, 0.0], [np.inf, 0.0, 0.0], [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    found = run(folder / "policy.onnx", obs)
    np.testing.assert_allclose(found, agent.predict(obs, seed=1), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[2], [1.0, 6.0])  # nan is no action: the middle of the bounds


def test_the_properties_say_which_policy_it_is(made):
    folder, _ = made
    about = read_sealed(folder / "seed-1" / "policy.json")
    assert session(folder / "policy.onnx").get_modelmeta().custom_metadata_map == {
        "environment": "Reach", "agent": "sac", "preset": "modern", "seed": "1", "policy": "0", "step": "60",
        "wgf": about["versions"]["wgflow"], "sha256": about["sha256"],
    }  # fmt: skip
    model = onnx.load(str(folder / "policy.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(x.name, x.type.tensor_type.shape.dim[1].dim_value) for x in (*model.graph.input, *model.graph.output)] == [
        ("observations", 3),
        ("actions", 2),
    ]


@pytest.mark.parametrize(
    ("name", "preset", "settings", "policy"),
    [
        ("dp-wgf", "modern", {"hidden": (8, 8), "particles": 4}, 0),  # draws of a generator of its own, and the best of them by Q
        ("svpg", "modern", {"hidden": (8, 8), "particles": 3}, 2),
        ("wpo", "paper", {"hidden": (8, 8), "critic_hidden": (8, 8)}, 0),  # LayerNorm and ELU
    ],
)
def test_other_policies_too(tmp_path, name, preset, settings, policy):
    agent = Agent(name, Reach, preset=preset, **settings)
    agent.export(tmp_path / "policy.onnx", policy=policy)
    obs = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "policy.onnx", obs), agent.predict(obs, policy=policy), rtol=0, atol=1e-5)


def other(greedy):
    names = ("Config", "PRESETS", "memory", "init", "act_noise", "act", "noise", "update", "networks")
    return SimpleNamespace(**{name: getattr(sac, name) for name in names}, greedy=greedy, __qualname__="other")


@pytest.mark.parametrize(
    ("greedy", "words"),
    [
        (
            lambda cfg, state, obs: torch.rand(*obs.shape[:2], 2),
            "other cannot be exported: its deterministic actions differ from call to call",
        ),
        (lambda cfg, state, obs: torch.special.airy_ai(obs)[..., :2], "other cannot be exported: "),
        (
            lambda cfg, state, obs: obs[..., :2] * (0.5 if torch.compiler.is_exporting() else 1.0),
            r"the model's actions differ from the agent's by 0\.\d+ of half their range",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(tmp_path, greedy, words):
    agent = Agent(other(greedy), Reach, preset="modern", hidden=(8,))
    with pytest.raises(ValueError, match=words) as caught:
        agent.export(tmp_path / "policy.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_tells_the_largest_difference_in_halves_of_the_range(tmp_path):
    """The agent does a = obs, the model half of it; both are cut at 1, and looked at for eight draws of a generator with seed 0."""
    half = other(lambda cfg, state, obs: obs[..., :2] * (0.5 if torch.compiler.is_exporting() else 1.0))
    agent = Agent(half, Reach, preset="modern", hidden=(8,))
    obs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))[:, :2]
    apart = (obs.clamp(-1.0, 1.0) - (0.5 * obs).clamp(-1.0, 1.0)).abs().max().item()
    with pytest.raises(ValueError, match=f"the model's actions differ from the agent's by {apart:.2g} of half their range"):
        agent.export(tmp_path / "policy.onnx")


def test_actions_beyond_the_bounds_are_cut_as_predict_cuts_them(tmp_path):
    agent = Agent(other(lambda cfg, state, obs: 3.0 * obs[..., :2]), Reach, preset="modern", hidden=(8,))
    agent.export(tmp_path / "policy.onnx")
    obs = np.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.1, -0.2, 0.0]], np.float32)
    found = run(tmp_path / "policy.onnx", obs)
    np.testing.assert_array_equal(found[:2], [[3.0, 2.0], [-1.0, 10.0]])  # 1.5 is above 1, and -1.5 below -1
    np.testing.assert_allclose(found, agent.predict(obs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "places", "words"),
    [
        ("policy.pt", {}, r"file '.*policy\.pt' must be an \.onnx file in a folder that exists"),
        ("no/policy.onnx", {}, r"must be an \.onnx file in a folder that exists"),
        ("policy.onnx", {"seed": 2}, "seed is 2; it must be from 0 to 1, a place in the stack"),
        ("policy.onnx", {"policy": 1}, "policy is 1; it must be from 0 to 0, a place in the stack"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(made, tmp_path, file, places, words):
    with pytest.raises(ValueError, match=words):
        made[1].export(tmp_path / file, **places)


def test_without_the_packages_a_line_says_what_to_install(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"^an export needs the packages onnx and onnxscript: pip install 'wgflow\[onnx\]'$"):
        made[1].export(tmp_path / "policy.onnx")
