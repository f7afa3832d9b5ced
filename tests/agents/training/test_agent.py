"""The front door: training, acting, saving and loading from Python."""

import csv
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.agents.training.conftest import AGENT, Chain, Walk
from wgf.agents import Agent, sac
from wgf.agents.training import checkpoint

TINY = {"hidden": (8, 8), "batch": 8, "warmup": 20, "log_every": 15, "eval_every": 30, "eval_episodes": 2, "device": "cpu"}


def tensors(agent):
    return {name: t.clone() for name, t in checkpoint.tensors(agent.state).items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, t in one.items():
        assert torch.equal(t, other[name]), name


def test_train_load_and_predict_in_six_lines(tmp_path):
    agent = Agent("sac", "Pendulum-v1", preset="modern", hidden=(8, 8), batch=8, warmup=20)
    agent.learn(40)
    agent.save(tmp_path)
    obs, _ = gym.make("Pendulum-v1").reset(seed=0)
    action = Agent.load(tmp_path).predict(obs)
    assert action.shape == (1,)
    assert np.array_equal(action, agent.predict(obs))


def test_two_trainings_one_after_another_are_one(tmp_path):
    whole, parts = (Agent("dp-wgf-v", "Pendulum-v1", seeds=(3, 5), **TINY) for _ in range(2))
    whole.learn(300)
    parts.learn(50).learn(30).learn(220)  # an episode has 200 steps: the last part goes past one
    same(tensors(whole), tensors(parts))
    assert (whole.step, parts.step) == (300, 300)
    assert parts.endings == ["finished"] * 2


def test_a_seed_of_a_stack_is_the_agent_of_that_seed():
    stack, alone = Agent("sac", "Pendulum-v1", seeds=(3, 5), **TINY), Agent("sac", "Pendulum-v1", seeds=[5], **TINY)
    stack.learn(40), alone.learn(40)
    obs = np.array([0.6, 0.8, -0.3])
    np.testing.assert_allclose(stack.predict(obs, seed=1), alone.predict(obs), atol=1e-5)  # float32 sums in another order
    assert abs(stack.predict(obs, seed=0) - alone.predict(obs)) > 1e-4
    np.testing.assert_allclose(stack.evaluate(2).returns[1:], alone.evaluate(2).returns, rtol=1e-3)


def test_actions_are_in_the_environments_own_units():
    agent = Agent("sac", Walk(), preset="modern", seeds=2, **TINY)
    obs = np.array([[1.0, 2.0, 0.5], [3.0, 0.0, -2.0]])
    raw = agent.module.greedy(agent.cfg, agent.state, torch.tensor(obs, dtype=torch.float32).expand(2, 2, 3)).detach().double().numpy()
    for s in (0, 1):
        np.testing.assert_allclose(agent.predict(obs, seed=s), np.array([0.0, 5.0]) + raw[s] * np.array([2.0, 5.0]), rtol=1e-6)
        np.testing.assert_allclose(agent.predict(obs[1], seed=s), agent.predict(obs, seed=s)[1], atol=1e-6)
    draws = np.array([agent.predict(obs[0], deterministic=False) for _ in range(200)])
    assert ((draws >= [-2.0, 0.0]) & (draws <= [2.0, 10.0])).all()
    assert draws.std(0).min() > 0.3  # of a fresh policy, whose deviation is of order one
    again = Agent("sac", Walk(), preset="modern", seeds=2, **TINY)
    np.testing.assert_array_equal(again.predict(obs[0], deterministic=False), draws[0])


def test_each_policy_of_a_seed_acts():
    agent = Agent("svpg", "wgf/CartPole-v0", seeds=2, particles=3, hidden=(4,), batch=8, envs=2, critic_steps=2, device="cpu")
    assert agent.policies == 3
    obs = torch.tensor([[0.1, 0.2, -0.1, 0.4], [1.0, 0.0, 0.0, 0.0]])
    raw = agent.module.greedy(agent.cfg, agent.state, obs.repeat(2, 3, 1)).detach()
    half = gym.make("wgf/CartPole-v0").action_space.high
    for policy in range(3):
        expected = half * raw[1, 2 * policy : 2 * policy + 2].clamp(-1.0, 1.0).numpy()
        np.testing.assert_allclose(agent.predict(obs.numpy(), seed=1, policy=policy), expected, rtol=1e-6)
    assert agent.evaluate(2).returns.shape == (2, 6)


def test_an_observation_of_parts_is_taken_as_it_comes():
    parts = gym.spaces.Dict(a=gym.spaces.Box(-9.0, 9.0, (2,)), b=gym.spaces.Box(-9.0, 9.0, ()))

    class Parts(Chain):
        observation_space = parts

    agent = Agent("sac", Parts, **TINY)
    assert agent.obs_size == 3
    action = agent.module.greedy(agent.cfg, agent.state, torch.tensor([[[1.0, 2.0, 3.0]]]))[0, 0].detach().numpy()
    np.testing.assert_allclose(agent.predict({"a": np.array([1.0, 2.0]), "b": np.float32(3.0)}), action, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^obs must be a dict of a, b, as the environment gives it$"):
        agent.predict(np.array([1.0, 2.0, 3.0]))


def test_an_environment_is_copied_and_stays_as_it_is(tmp_path):
    env = Chain(length=3)
    agent = Agent("sac", env, seeds=2, **TINY)
    agent.learn(30)
    assert env.total == 0
    assert not hasattr(env, "t")
    np.testing.assert_array_equal(agent.evaluate(3).lengths, np.full((2, 3), 3.0))
    agent.save(tmp_path)
    with pytest.raises(ValueError, match="it was trained on an environment that a program gave, 'Chain': load it with env="):
        Agent.load(tmp_path)
    same(tensors(Agent.load(tmp_path, env=lambda: Chain(length=3))), tensors(agent))


def test_a_registered_environment_keeps_its_name():
    assert Agent("sac", gym.make("toy/Limited-v0"), **TINY).source.name == "toy/Limited-v0"
    assert Agent("sac", lambda: gym.make("toy/Limited-v0"), **TINY).source.name == "toy/Limited-v0"


def test_what_a_program_gives_trains_as_its_id_does():
    agents = [Agent("sac", env, **TINY) for env in ("Pendulum-v1", gym.make("Pendulum-v1"), lambda: gym.make("Pendulum-v1"))]
    for agent in agents:
        agent.learn(60)
    same(tensors(agents[0]), tensors(agents[1]))
    same(tensors(agents[0]), tensors(agents[2]))


def test_the_callback_sees_every_metric_and_may_stop():
    seen = []

    def callback(step, metrics, agent):
        assert agent is mine
        assert agent.step == step
        seen.append((step, metrics))
        return step >= 45

    mine = Agent("sac", "toy/Limited-v0", seeds=3, **TINY)
    mine.learn(90, callback)
    assert [step for step, _ in seen] == [15, 30, 45]
    assert all(value.shape == (3,) for _, metrics in seen for value in metrics.values())
    assert "losses/q" not in seen[0][1]
    assert seen[1][1]["eval/return"].tolist() == [5.0] * 3
    assert np.isfinite(seen[2][1]["losses/q"]).all()
    assert mine.endings == ["interrupted"] * 3
    assert mine.step == 45


def test_an_error_of_the_callback_reaches_the_caller():
    def callback(step, metrics, agent):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Agent("sac", "toy/Limited-v0", **TINY).learn(30, callback)


def test_an_environment_that_raises_is_one_line_in_a_training_and_in_an_evaluation():
    agent = Agent("sac", "toy/Raises-v0", **TINY)
    with pytest.raises(RuntimeError, match=r"every seed failed: .* raised RuntimeError: the gearbox broke at step 30$"):
        agent.learn(60)
    with pytest.raises(ValueError, match="raised RuntimeError: the gearbox broke"):
        Agent("sac", Chain(fault="raises"), **TINY).evaluate(1)


def test_when_every_seed_fails_the_caller_hears_of_it_and_of_one_in_endings():
    small = {name: TINY[name] for name in ("batch", "warmup", "log_every", "eval_every", "eval_episodes", "device")}
    toy = Agent(AGENT, "toy/Limited-v0", seeds=(4, 5), poison=5, **small).learn(80)
    assert toy.endings[0] == "finished"
    assert toy.endings[1].startswith("failed: losses/q is nan for seed 5")
    with pytest.raises(RuntimeError, match="every seed failed: losses/q is nan for seed 5"):
        Agent(AGENT, "toy/Limited-v0", seeds=(5,), poison=5, **small).learn(80)


def test_a_log_is_a_run_folder_which_is_not_overwritten(tmp_path):
    agent = Agent("sac", "toy/Limited-v0", seeds=(2, 4), **TINY)
    agent.learn(60, log=tmp_path / "mine")
    for seed in (2, 4):
        folder = tmp_path / "mine" / f"seed-{seed}"
        files = {"config.json", "metrics.csv", "policy-60.safetensors", "policy.json", "best", "result.json", ".lock"}
        assert {p.name for p in folder.iterdir() if "tfevents" not in p.name} == files | ({"training"} if seed == 2 else set())
        config = json.loads((folder / "config.json").read_text())
        assert config.items() >= {"agent": "sac", "preset": "paper", "env": "toy/Limited-v0", "seed": seed, "stack": [2, 4]}.items()
        assert config["schedule"]["steps"] == 60
        with open(folder / "metrics.csv", newline="") as f:
            assert [row["step"] for row in csv.DictReader(f) if row["tag"] == "eval/return"] == ["30", "60"]
    loaded = Agent.load(tmp_path / "mine")
    assert loaded.seeds == (2, 4)
    same(tensors(loaded), tensors(agent))
    assert Agent.load(tmp_path / "mine" / "seed-4").seeds == (4,)
    with pytest.raises(ValueError, match="already holds a run; write to another folder, or move it away"):
        Agent("sac", "toy/Limited-v0", seeds=(2, 4), **TINY).learn(60, log=tmp_path / "mine")
    assert agent.learn(30, log=tmp_path / "more").step == 90


def test_a_loaded_agent_learns_again_and_collects_its_warmup_with_its_policy_first(tmp_path):
    agent = Agent("sac", "Pendulum-v1", **TINY).learn(60)
    agent.save(tmp_path)
    loaded = Agent.load(tmp_path)
    before = tensors(loaded)
    loaded.learn(19)
    same(tensors(loaded), before)  # no update before the warm-up of the fresh replay is over
    assert loaded.step == 79
    loaded.learn(1)
    assert not torch.equal(tensors(loaded)["policy.steps"], before["policy.steps"])


def test_a_seed_whose_policy_is_gone_is_named_and_what_was_moved_aside_is_no_seed(tmp_path):
    Agent("sac", "Pendulum-v1", seeds=2, **TINY).save(tmp_path)
    shutil.copytree(tmp_path / "seed-1", tmp_path / "seed-1.unfinished-1")
    assert Agent.load(tmp_path).seeds == (0, 1)
    (tmp_path / "seed-1" / "policy.json").unlink()
    with pytest.raises(ValueError, match=r"seed-1/policy.json cannot be read: No such file or directory"):
        Agent.load(tmp_path)


def test_seeds_of_different_trainings_are_not_taken_for_one_agent(tmp_path):
    for seeds, batch in ((3, 24), (2, 16)):
        Agent("sac", "Pendulum-v1", seeds=seeds, hidden=(4,), batch=batch).save(tmp_path)
    words = rf"{tmp_path} holds seeds of different trainings: 2 has config.batch = 24, not 16 as 0 has; name those of one, as in seeds="
    with pytest.raises(ValueError, match=words):
        Agent.load(tmp_path)
    assert Agent.load(tmp_path, seeds=[0, 1]).cfg.batch == 16


def test_an_agent_of_ones_own_comes_by_name_or_as_an_object(tmp_path, monkeypatch):
    (tmp_path / "mypkg.py").write_text("from wgf.agents import sac\n\nclass Mine:\n    pass\n\nMyAgent = sac\n")
    monkeypatch.chdir(tmp_path)
    named, given = Agent("mypkg:MyAgent", "toy/Limited-v0", preset="modern", **TINY), Agent(sac, "toy/Limited-v0", preset="modern", **TINY)
    assert (named.name, given.name) == ("mypkg:MyAgent", "wgf.agents:sac")
    named.learn(40), given.learn(40)
    same(tensors(named), tensors(given))
    for agent, folder in ((named, "named"), (given, "given")):
        agent.save(tmp_path / folder)
        same(tensors(Agent.load(tmp_path / folder, agent=agent.name)), tensors(agent))
        with pytest.raises(ValueError, match=rf"its agent is '{agent.name}', and no file makes this program import a module"):
            Agent.load(tmp_path / folder)
    same(tensors(Agent.load(tmp_path / "named", agent=sac)), tensors(given))
    with pytest.raises(ValueError, match=r"^agent 'mypkg:Mine' has no Config; an agent has Config, PRESETS, memory, init, "):
        Agent("mypkg:Mine", "toy/Limited-v0")
    with pytest.raises(ValueError, match=r"^agent 'mypkg:Nobody' cannot be imported: No module named 'mypkg.Nobody'"):
        Agent("mypkg:Nobody", "toy/Limited-v0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"agent": "sacc"}, "agent 'sacc' is unknown; .* .did you mean 'sac'?"),
        ({"preset": "papr"}, "preset 'papr' is unknown to sac; .* .did you mean 'paper'?"),
        ({"env": "Hoper-v5"}, "did you mean 'Hopper-v5'?"),
        ({"env": "CartPole-v1"}, r"environment 'CartPole-v1' has Discrete\(2\) actions"),
        ({"env": 7}, "env is 7; it must be a Gymnasium id, an environment of Gymnasium, or a function that makes one"),
        ({"env": lambda: 1 / 0}, "cannot be made: ZeroDivisionError: division by zero$"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1, or different numbers"),
        ({"seeds": (1, 1)}, "seeds is .1, 1.; it must be at least 1, or different numbers"),
        ({"seeds": (-1,)}, "seeds must lie from 0 to 999,999"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"lr": "fast"}, "lr is 'fast'; it must be a number"),
        ({"lr": 0}, "lr is 0; it must be above 0"),
        ({"batch": 8.5}, "batch is 8.5; it must be a whole number"),
        ({"batch": True}, "batch is True; it must be a whole number"),
        ({"hidden": 64}, "hidden is 64; it must be a list, each a whole number"),
        ({"hidden": (64, 8.5)}, r"hidden is \(64, 8.5\); it must be a list, each a whole number"),
        ({"hidden": (64, True)}, r"hidden is \(64, True\); it must be a list, each a whole number"),
        ({"learning_rate": 1.0}, "setting 'learning_rate' is unknown; choose from "),
        ({"activaton": "tanh"}, "setting 'activaton' is unknown; did you mean 'activation'?"),
        ({"agent": "dp-wgf", "w2": "none"}, "w2 is 'none'; choose from 'common_noise', "),
        ({"steps": 5}, "setting 'steps' is unknown"),
        ({"log_every": 0}, "log_every is 0; it must be at least 1"),
    ],
)
def test_what_is_of_no_use_is_refused_in_one_line(change, words):
    settings = {"agent": "sac", "env": "toy/Limited-v0", **TINY, **change}
    with pytest.raises(ValueError, match=words) as caught:
        Agent(settings.pop("agent"), settings.pop("env"), **settings)
    assert "\n" not in str(caught.value)


def test_wrong_shapes_places_and_numbers_are_refused_in_one_line(tmp_path):
    agent = Agent("sac", "Pendulum-v1", **TINY)
    for call, words in (
        (lambda: agent.predict(np.zeros(4)), r"obs has shape \(4,\); it must be \(3,\) or \(n, 3\)"),
        (lambda: agent.predict(np.zeros((1, 2, 3))), r"obs has shape \(1, 2, 3\)"),
        (lambda: agent.predict(np.zeros(3), seed=1), "seed is 1; it must be from 0 to 0"),
        (lambda: agent.predict(np.zeros(3), policy=-1), "policy is -1; it must be from 0 to 0"),
        (lambda: agent.evaluate(0), "episodes is 0; it must be at least 1"),
        (lambda: agent.learn(0), "steps is 0; it must be at least 1"),
        (lambda: agent.learn(-3), "steps is -3; it must be at least 1"),
        (lambda: Agent.load(tmp_path), "policy.json cannot be read: No such file or directory; give the folder of a run"),
        (
            lambda: Agent("sac", "Humanoid-v5", replay=10**9, device="cpu").learn(10**8),
            "are free; give a smaller --replay or fewer --seeds",
        ),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapper", [gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward])
def test_a_wrapper_with_running_statistics_is_refused_wherever_it_is(wrapper):
    env = gym.wrappers.ClipAction(wrapper(Chain()))
    with pytest.raises(ValueError, match=rf"wraps itself in {wrapper.__name__}, whose .* leave the wrapper out and use normalize"):
        Agent("sac", env)


def test_an_environment_that_cannot_be_copied_says_what_to_give():
    class Held(Chain):
        def __deepcopy__(self, memo):
            raise RuntimeError("it holds a socket")

    with pytest.raises(ValueError, match=r"it cannot be copied \(RuntimeError: it holds a socket\); give a function that makes it"):
        Agent("sac", Held())
    assert Agent("sac", Held, **TINY).learn(20).step == 20


class Residual(torch.nn.Module):
    """A critic with a skip connection and LayerNorm: s and a side by side -> one number."""

    def __init__(self, inputs):
        super().__init__()
        self.first, self.second, self.norm = torch.nn.Linear(inputs, 8), torch.nn.Linear(8, 8), torch.nn.LayerNorm(8)
        self.last = torch.nn.Linear(8, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + torch.relu(self.second(self.norm(x))))


@pytest.mark.parametrize("normalize", ["none", "both"])
def test_a_network_of_ones_own_takes_the_place_of_the_agents(tmp_path, normalize):
    small = {"hidden": (8,), "batch": 8, "warmup": 10, "device": "cpu", "preset": "modern", "normalize": normalize}
    agent = Agent("sac", "Pendulum-v1", nets={"q": Residual(4)}, seeds=2, **small)
    inner = getattr(agent.state, "inner", agent.state)
    before = inner.q.theta.clone()
    assert before.shape == (2, 2, sum(p.numel() for p in Residual(4).parameters()))
    agent.learn(15)
    assert not torch.equal(inner.q.theta[0], before[0])
    agent.save(tmp_path)
    with pytest.raises(ValueError, match=r"its networks of its own are \['q'\], and \[\] are given: load it with nets="):
        Agent.load(tmp_path)
    loaded = Agent.load(tmp_path, nets={"q": Residual(4)})
    obs = np.zeros(3, np.float32)
    assert np.array_equal(loaded.predict(obs, seed=1), agent.predict(obs, seed=1))


def test_a_network_that_the_agent_does_not_have_is_refused():
    with pytest.raises(ValueError, match="nets has 'critic'; the networks of sac are policy, q"):
        Agent("sac", "Pendulum-v1", preset="modern", nets={"critic": Residual(4)})


def test_plans_that_stopped_short_are_said_once():
    from wgf import transport

    def stop_short(step, metrics, agent):
        transport._count(torch.tensor([False, True, False]), torch.ones(3))

    agent = Agent("sac", "Pendulum-v1", preset="modern", hidden=(8,), batch=8, warmup=10, log_every=5, device="cpu")
    with pytest.warns(
        RuntimeWarning, match="2 transport plans stopped short of their tolerance by step 10; common_noise and exact"
    ) as said:
        agent.learn(25, callback=stop_short)
    assert len([w for w in said if "stopped short" in str(w.message)]) == 1


def test_a_training_that_goes_on_asks_for_memory_and_machine_code_for_what_is_still_to_come(tmp_path, monkeypatch):
    Agent("sac", "Pendulum-v1", **TINY).learn(40).save(tmp_path)
    asked = []
    for name in ("needs", "compiles"):
        monkeypatch.setattr(Agent, name, lambda self, steps, name=name: bool(asked.append((name, steps))))
    loaded = Agent.load(tmp_path)
    assert loaded.step == 40
    loaded.learn(30)
    assert asked == [("needs", 30), ("compiles", 30)]


@pytest.mark.parametrize(("preset", "refused"), [("strong-small", True), ("modern", False)])
def test_policies_of_a_preset_that_has_had_another_value_since_are_refused(tmp_path, preset, refused):
    """As an earlier version wrote them, which had no such setting; `modern` leaves it at its default."""
    small = {"hidden": (4, 4), "policy_hidden": (4,), "batch": 4, "atoms": 5, "replay": 8, "eval_every": 10}
    Agent("sac", "Pendulum-v1", preset=preset, **small).save(tmp_path)
    path = tmp_path / "seed-0" / "policy.json"
    about = json.loads(path.read_text())
    del about["config"]["start_std"], about["seal"]
    path.write_text(json.dumps({**about, "seal": checkpoint._seal(about)}))
    if refused:
        words = r"seed-0/policy.json is of an earlier version: since then preset 'strong-small' has start_std 0.15, [^\n]*; train again$"
        with pytest.raises(ValueError, match=words):
            Agent.load(tmp_path)
    else:
        assert Agent.load(tmp_path).cfg.start_std == 0.0
