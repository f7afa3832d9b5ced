"""Robots stepped by MuJoCo Warp, beside Gymnasium's own. Where no cache on the disk has its kernels, compiling them comes first."""

import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

from wgf.agents.tasks.fleet import Within, drawn
from wgf.agents.tasks.locomotion import ROBOTS, start
from wgf.agents.training import envs
from wgf.agents.training.agent import Agent
from wgf.agents.training.making import CPU
from wgf.agents.training.warp import WarpFleet, room

CHEETAH = "HalfCheetah-v5"


def fleet(n=2, name=CHEETAH, **more):
    pytest.importorskip("mujoco_warp", reason="needs the extra warp")
    return envs.Source(name, "warp").make(1, n, home=CPU, **more)


def apart(name, again, seed=0, steps=20):
    """How far Warp is from Gymnasium after each of some steps: (contacts, joints, all that is seen, reward); with ``again`` both begin
    each step in Gymnasium's state, rounded to float32, else both go on by themselves from the same start. Both solve by Newton's."""
    side, env, rng = fleet(1, name), gym.make(name).unwrapped, np.random.default_rng(seed)
    env.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    side.reset([seed])
    env.reset(seed=seed)
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(side.data.qpos[0].double().numpy(), side.data.qvel[0].double().numpy())
    np.testing.assert_allclose(side.obs[0], env._get_obs(), rtol=1e-5, atol=1e-5)
    for _ in range(steps):
        if again:
            for mine, theirs in ((side.data.qpos, env.data.qpos), (side.data.qvel, env.data.qvel)):
                mine.copy_(torch.from_numpy(theirs)[None])
                theirs[:] = mine[0].double().numpy()
        action = torch.from_numpy(rng.uniform(-1, 1, side.action_size).astype(np.float32))
        high = float(env.action_space.high[0])
        obs, reward, terminated, *_ = env.step(high * action.numpy())
        outcome = side.step(action[None, None])
        assert outcome.terminated.item() is terminated
        joints = np.abs(side.data.qpos[0].numpy() - env.data.qpos).max() if not terminated else 0.0
        seen = np.abs(outcome.next_obs[0, 0].numpy() - obs) / np.maximum(np.abs(obs), 1.0)
        yield env.data.ncon, joints, seen.max(), abs(outcome.reward.item() - reward)
        if terminated:
            return


def test_from_gymnasiums_state_a_step_is_gymnasiums():
    """Ten ulps of float32 at an angle of one radian; a contact's stiffness makes ten times as much of them."""
    touched = 0
    for contacts, joints, _, reward in apart(CHEETAH, again=True):
        touched += contacts > 0
        assert joints < (1e-5 if contacts else 1e-6)
        assert reward < 1e-5
    assert touched > 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Hopper-v5", "Walker2d-v5", "Humanoid-v5"])
def test_from_gymnasiums_state_a_step_of_others_is_gymnasiums_in_the_air_and_on_the_floor(name):
    """Numbers that are seen of bodies reach 100, and speeds 10: float32 has its last places there."""
    touched = 0
    for contacts, joints, seen, reward in apart(name, again=True, steps=14):
        touched += contacts > 0
        assert joints < 1e-6
        assert seen < 1e-4
        assert reward < 1e-5
    assert touched > 2


@pytest.mark.slow
def test_an_ant_is_gymnasiums_until_it_touches_the_floor():
    """Departs: where a capsule on the floor is steeper than 60 degrees, Warp has its friction pyramid along the axes of the world, and
    MuJoCo's C along the capsule."""
    rows = list(apart("Ant-v5", again=True, steps=3))
    free = [row for row in rows if not row[0]]
    assert len(free) == 2
    for _, joints, seen, reward in free:
        assert joints < 1e-6
        assert seen < 1e-4
        assert reward < 1e-5


def test_by_itself_a_robot_goes_where_gymnasiums_goes_until_rounding_has_grown():
    """MuJoCo's own C, its state rounded to float32 after each step of physics, is 3e-6 from itself after these 20 steps; Warp rounds
    all that it computes between."""
    rows = list(apart(CHEETAH, again=False))
    assert len(rows) == 20
    free = next(i for i, row in enumerate(rows) if row[0])
    assert free > 1
    assert max(row[1] for row in rows[:free]) < 1e-6
    assert max(row[1] for row in rows) < 1e-3


def test_actions_beyond_the_bounds_are_those_at_the_bounds():
    side, controls = fleet(1), []
    for action in (1.0, 3.0, -1.0, -3.0):
        side.reset([0])
        side.step(torch.full((1, 1, side.action_size), action))
        controls.append(side._ctrl.clone())
    torch.testing.assert_close(controls[1], controls[0], rtol=0.0, atol=0.0)
    torch.testing.assert_close(controls[3], controls[2], rtol=0.0, atol=0.0)
    assert not controls[0].equal(controls[2])


def test_float32_takes_mujocos_own_c_past_a_millionth_of_itself_in_twenty_steps():
    """Its state rounded after each step of physics, and nothing else."""
    env, rng = gym.make(CHEETAH).unwrapped, np.random.default_rng(0)
    middle = (torch.as_tensor(x, dtype=torch.float32) for x in (env.init_qpos, env.init_qvel))
    first = start(ROBOTS[CHEETAH], *middle, 1, torch.Generator().manual_seed(0))
    exact, rounded = sides = mujoco.MjData(env.model), mujoco.MjData(env.model)
    for side in sides:
        side.qpos[:], side.qvel[:] = first[0][0], first[1][0]
        mujoco.mj_forward(env.model, side)
    apart = []
    for _ in range(20):
        exact.ctrl[:] = rounded.ctrl[:] = rng.uniform(-1, 1, 6)
        for _ in range(env.frame_skip):
            for side in sides:
                mujoco.mj_step(env.model, side)
            for state in (rounded.qpos, rounded.qvel):
                state[:] = state.astype(np.float32)
        apart.append(np.abs(exact.qpos - rounded.qpos).max())
    assert max(apart[:5]) < 1e-7 < 1e-6 < max(apart) < 1e-5


def test_a_seed_in_a_stack_is_the_seed_alone_and_its_environments_differ():
    stack, alone, draw = fleet(3), fleet(3), torch.Generator().manual_seed(0)
    both, one = stack.reset([4, 9]), alone.reset([9])
    assert torch.equal(both[1], one[0])
    assert not torch.equal(one[0, 0], one[0, 1])
    for k in range(6):
        action = 2.0 * torch.rand(2, 3, 6, generator=draw) - 1.0
        if k == 3:
            stack.age[:2], alone.age[2], stack.age[5] = 999, 999, 999
        for mine, other in zip(stack.step(action), alone.step(action[1:]), strict=True):
            assert torch.equal(mine[1], other[0])


def test_an_episode_that_ends_begins_anew_within_the_step():
    side, twin = fleet(2), fleet(2)
    side.reset([0]), twin.reset([0])
    side.age[1] = side.horizon - 1
    action = torch.full((1, 2, 6), 0.5)
    ended, other = side.step(action), twin.step(action)
    assert ended.truncated.tolist() == [[False, True]]
    assert torch.equal(ended.next_obs, other.next_obs)
    assert torch.equal(ended.obs[0, 0], ended.next_obs[0, 0])
    assert ((ended.obs[0, 1, :8] - torch.from_numpy(gym.make(CHEETAH).unwrapped.init_qpos[1:])).abs() <= 0.1).all()
    assert side.age.tolist() == [1, 0]
    assert not side._warmstart[1].any()
    # the speed of its first step is that from its start
    before = side.data.qpos[1, 0].item()
    step = side.step(action)
    np.testing.assert_allclose(step.reward[0, 1], (side.data.qpos[1, 0].item() - before) / 0.05 - 0.1 * 6 * 0.25, rtol=1e-5, atol=1e-5)


def test_robots_come_back_to_a_snapshot_bit_by_bit():
    side, other, draw = fleet(2), fleet(2), torch.Generator().manual_seed(0)
    side.reset([5])
    actions = 2.0 * torch.rand(8, 1, 2, 6, generator=draw) - 1.0
    for action in actions[:4]:
        side.step(action)
    kept = side.snapshot()
    side.age[0] = kept["age"][0] = 997
    seen = [side.step(action) for action in actions[4:]]
    other.reset([5])
    assert torch.equal(other.restore(kept).flatten(0, 1), kept["obs"])
    for action, expected in zip(actions[4:], seen, strict=True):
        for mine, theirs in zip(other.step(action), expected, strict=True):
            assert torch.equal(mine, theirs)
    assert torch.stack([one.truncated for one in seen]).sum() == 1
    with pytest.raises(ValueError, match=r"^the robots' qpos is torch.float32 of shape \(1, 9\) in the checkpoint; it must be"):
        other.restore({**kept, "qpos": kept["qpos"][:1]})


def test_starts_of_a_number_are_alike_for_all_of_a_seed():
    side = fleet(3)
    first = side.reset([1, 2], common=7)
    assert torch.equal(first, first[:, :1].expand(-1, 3, -1))
    assert not torch.equal(first[0], first[1])
    side.age[:] = 999
    assert torch.equal(side.step(torch.zeros(2, 3, 6)).obs, first)
    assert torch.equal(side.reset([drawn(1, 7), 0])[0, 0], first[0, 0])


@pytest.mark.parametrize("common", [None, 1])
def test_robots_that_stand_within_more_begin_as_these_do_and_begin_anew_as_they_do(common):
    whole, part = fleet(3), fleet(2, within=Within(1, 3))
    assert torch.equal(part.reset([0, 4], common), whole.reset([0, 4], common)[:, 1:])
    for side in (whole, part):
        side.age[:] = 999
    assert torch.equal(part.step(torch.zeros(2, 2, 6)).obs, whole.step(torch.zeros(2, 3, 6)).obs[:, 1:])


def test_tensors_share_the_memory_of_warps_arrays():
    side = fleet(2)
    side.reset([0])
    assert side.data.qpos.data_ptr() == side._simulation.qpos.ptr
    assert side._ctrl.data_ptr() == side._simulation.ctrl.ptr


@pytest.mark.parametrize("name", ROBOTS)
def test_there_is_room_for_more_contacts_and_constraints_than_a_fall_makes(name):
    env, most = gym.make(name).unwrapped, [0, 0]
    env.reset(seed=0)
    for _ in range(300):
        env.do_simulation(env.action_space.sample(), env.frame_skip)
        most = [max(most[0], env.data.ncon), max(most[1], env.data.nefc)]
    assert all(there >= needed for there, needed in zip(room(env.model), most, strict=True))
    env.close()


def test_room_counts_pairs_that_may_touch_and_rows_of_their_pyramids():
    """A sphere and two capsules in a row over a floor: the floor's pairs and the one pair that is no family, and one limit."""
    model = mujoco.MjModel.from_xml_string("""<mujoco><worldbody><geom type="plane" size="1 1 1" condim="3"/>
      <body><freejoint/><geom type="sphere" size=".1" condim="1"/>
      <body pos="1 0 0"><joint range="0 1" limited="true"/><geom type="capsule" size=".1 .1" condim="1"/>
      <body pos="1 0 0"><joint/><geom type="capsule" size=".1 .1" condim="1"/></body></body></body>
      </worldbody></mujoco>""")
    assert room(model) == (1 + 2 + 2 + 1, 4 * (1 + 2 + 2) + 1 + 1)


def test_training_is_warps_and_evaluation_gymnasiums(tmp_path):
    pytest.importorskip("mujoco_warp", reason="needs the extra warp")
    source = envs.Source(CHEETAH, "warp")
    assert isinstance(source.make(2, 3, home=CPU), WarpFleet)
    assert isinstance(source.make(2, 3).rows, envs.Gymnasium)
    settings = {"seeds": 2, "backend": "warp", "device": "cpu", "hidden": (8,), "horizon": 4, "envs": 4, "batch": 16, "epochs": 1}
    settings |= {"log_every": 16, "eval_every": 32, "eval_episodes": 1}
    whole = Agent("ppo", CHEETAH, **settings).learn(32, log=tmp_path / "whole")
    Agent("ppo", CHEETAH, **settings).learn(16, log=tmp_path / "parts").close()
    parts = Agent.load(tmp_path / "parts", device="cpu").learn(16, log=tmp_path / "parts")
    assert torch.equal(whole.state.policy.theta, parts.state.policy.theta)


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("Hoper-v5", 0, r"^environment 'Hoper-v5' is not one of backend warp's, HalfCheetah-v5, .*; did you mean 'Hopper-v5'\?; or use "),
        (CHEETAH, 5, r"^step_limit is 5; environments of backend warp have none: give 0, or use backend async$"),
    ],
)
def test_what_warp_has_not_is_one_line(name, limit, words):
    for home in (None, CPU):
        with pytest.raises(ValueError, match=words):
            envs.Source(name, "warp").make(1, home=home, limit=limit)


def test_robots_that_do_not_fit_the_memory_are_refused_before_they_take_any(monkeypatch):
    monkeypatch.setattr(envs, "free_memory", lambda device: 4 * 2**13)
    fleet(4)
    with pytest.raises(ValueError, match=r"^5 environments 'HalfCheetah-v5' side by side take about 0.0 MiB, but 0.0 MiB are free; give"):
        envs.Source(CHEETAH, "warp").make(1, 5, home=CPU)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(
        ValueError, match=r"^backend 'warp' needs the extra warp: pip install 'wgflow\[warp\]', or use --backend gymnasium$"
    ):
        envs.Source(CHEETAH, "warp").simulators(1)
