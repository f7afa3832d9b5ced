"""The programs in examples/ that train do what they say."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wgf.agents import Agent
from wgf.agents.training.rollout import Segment

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_callback_stops_when_the_boat_is_steered_against_the_current(capsys):
    agent = runpy.run_path(str(EXAMPLES / "from_python.py"))["main"]()
    assert agent.endings == ["interrupted"] * 2
    assert agent.step < 3_000
    assert agent.evaluate(20).returns.mean(1).min() > -2.5  # without any action: E sum (x + t / 20)^2 is about 14
    assert "m/s against the current" in capsys.readouterr().out
    assert -4.0 <= agent.predict(np.array([1.0])).item() < 0.0


def test_an_agent_of_ones_own_is_trained_saved_and_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    river = runpy.run_path(str(EXAMPLES / "from_python.py"))["River"]
    agent = Agent("own_agent:MyAgent", river, seeds=2, device="cpu", eval_every=10**6, eval_episodes=1)
    before = agent.evaluate(10).returns.mean(1)
    agent.learn(320 * 30)
    after = agent.evaluate(10).returns.mean(1)
    assert (after > -3.0).all()
    assert (before < -8.0).all()
    agent.save(tmp_path)
    np.testing.assert_array_equal(Agent.load(tmp_path, env=river, agent="own_agent:MyAgent").evaluate(10).returns.mean(1), after)


def test_its_step_is_that_of_the_paper(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_agent

    monkeypatch.delitem(sys.modules, "own_agent")
    cfg = own_agent.Config(directions=2, lr=0.5)
    state = own_agent.init(cfg, 1, 1, [torch.Generator()], torch.device("cpu"))
    state.directions.copy_(torch.tensor([[[[1.0], [0.0]], [[-2.0], [3.0]]]]))
    reward = torch.tensor([3.0, 1.0, 1.0, -1.0]).view(1, 4, 1, 1)  # forwards 3, 1; backwards 1, -1
    own_agent.update(cfg, state, Segment(*(reward,) * 6), None)
    std = np.sqrt((4.0 + 0.0 + 0.0 + 4.0) / 3.0)  # of 3, 1, 1, -1
    expected = 0.5 / 2.0 * (2.0 * np.array([1.0, 0.0]) + 2.0 * np.array([-2.0, 3.0])) / std
    assert state.weights.flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    acted = own_agent.act(cfg, own_agent.State(torch.zeros(1, 2, 1), state.directions), torch.ones(1, 4, 1), None)
    np.testing.assert_allclose(acted.flatten(), np.tanh(0.3 * np.array([1.0, 1.0, -1.0, -1.0])), rtol=1e-6)


def test_the_command_line_takes_it_too(tmp_path, monkeypatch, capsys):
    from wgf.runs.command.cli import run

    monkeypatch.chdir(EXAMPLES)
    options = "--env Pendulum-v1 --steps 640 --eval-every 320 --eval-episodes 1 --device cpu --threads 1"
    assert run(["train", "own_agent:MyAgent", *options.split(), "--out", str(tmp_path)]) == 0
    assert "segment: 1 x 16 x 1 x 20 steps" in capsys.readouterr().out
    folder = tmp_path / "main" / "Pendulum-v1" / "own_agent:MyAgent" / "seed-0"
    assert run(["eval", str(folder), "--agent", "own_agent:MyAgent", "--episodes", "1"]) == 0
    assert "own_agent:MyAgent on Pendulum-v1, seed 0, step 640: return " in capsys.readouterr().out


def test_a_critic_of_ones_own_is_learnt_saved_and_loaded(tmp_path):
    """Before it learns, episodes return 125 and 113 on average."""
    own = runpy.run_path(str(EXAMPLES / "own_critic.py"))
    agent, loaded = own["main"](tmp_path)
    assert agent.state.q.theta.shape == (2, 2, sum(p.numel() for p in own["critic"]().parameters()))  # seeds, twins, parameters
    returns = agent.evaluate(10).returns.mean(1)
    assert (returns > 200.0).all()
    np.testing.assert_array_equal(loaded.evaluate(10).returns.mean(1), returns)


def test_its_blocks_add_to_what_they_are_given():
    own = runpy.run_path(str(EXAMPLES / "own_critic.py"))
    net, x = own["Residual"](3, width=4, blocks=1), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    (norm, first, _, second), start = net.blocks[0], net.first(x)
    expected = start + second(torch.relu(first(norm(start))))
    torch.testing.assert_close(net(x), net.last(torch.relu(expected)))
