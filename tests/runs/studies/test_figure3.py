"""The recipe of Figure 3: its Hessian against differences of a loss written out, what its table says, and a tiny one."""

import csv
import itertools
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from matplotlib import image
from torch.autograd.functional import hessian
from torch.distributions import Normal

from wgf.agents import Agent
from wgf.agents.training.normal import LIMIT
from wgf.mlp import MLP
from wgf.policies.diagonal import DiagonalPolicy
from wgf.runs.studies import figure2, figure3
from wgf.runs.studies.main import run
from wgf.runs.trainer.figures import figure

TINY = {"hidden": (4,), "horizon": 30, "batch": 10, "epochs": 1, "metric": "none", "normalize": "both"}
COMMAS, PLAIN = "horizon=20,batch=10,epochs=1,hidden=2", "wnpg,preset=paper,metric=none"


def written_out(phi, theta, obs, action, gain):
    """-mean_b (prod_a N(a; tanh network, std) / the same at theta) A_b of a network with two hidden units and one action, in numpy."""

    def density(t):
        w1, b1, w2, b2, log_std = np.split(t, [6, 8, 10, 11])
        mean = np.tanh(obs @ w1.reshape(3, 2) + b1) @ w2.reshape(2, 1) + b2
        return np.exp(-0.5 * ((action - mean) / np.exp(log_std)) ** 2).prod(-1) / np.exp(log_std).prod()

    return -np.mean(density(phi) / density(theta) * gain)


def test_the_hessian_is_that_of_differences_of_the_loss_written_out():
    """A central difference errs by c h^2, and so by a third of what halving h moves it, and by rounding, 4 eps |L| / (4 h^2) each."""
    rng, policy = np.random.default_rng(0), DiagonalPolicy(MLP((3, 2, 1)), 1)
    theta, obs, action, gain = (rng.normal(size=shape) for shape in ((12,), (9, 3), (9, 1), (9,)))
    loss = figure3.objective(policy, *(torch.from_numpy(x)[None, None] for x in (theta, obs, action, gain)))
    found = figure3.dense(figure3.natural.hessian(loss, torch.from_numpy(theta)[None, None]), torch.from_numpy(theta)[None, None])

    def differences(h):
        moves = h * np.eye(12)
        corner = {
            (s, t): np.array([[written_out(theta + s * a + t * b, theta, obs, action, gain) for b in moves] for a in moves])
            for s, t in itertools.product((1, -1), repeat=2)
        }
        return (corner[1, 1] - corner[1, -1] - corner[-1, 1] + corner[-1, -1]) / (4.0 * h * h)

    coarse, fine = differences(2e-3), differences(1e-3)
    rounding = 100.0 * np.finfo(float).eps / 1e-6  # some 25 operations behind each of four losses of about 1
    error = np.abs(fine - coarse) + rounding
    assert (np.abs(found.numpy() - fine) <= error).all()
    assert np.abs(found.numpy()).max() > 1e3 * error.max()


def test_eigenvalues_of_a_quadratic_are_those_of_its_matrix_by_size(monkeypatch):
    monkeypatch.setattr(figure3, "BLOCK", 2)
    q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    matrix = q @ torch.diag(torch.tensor([1.0, -5.0, 0.5, 3.0, -2.0], dtype=torch.float64)) @ q.T
    theta = torch.ones(1, 1, 5, dtype=torch.float64)
    found = figure3.spectrum(lambda phi: 0.5 * ((phi @ matrix) * phi).sum(-1), theta)
    np.testing.assert_allclose(found, [-5.0, 3.0, -2.0, 1.0, 0.5], rtol=1e-12)  # a few dozen roundings of 1e-16


def test_experience_is_new_and_is_what_the_agent_would_learn_from():
    agent = Agent("wnpg", "Pendulum-v1", seeds=(3, 5), **TINY).learn(60)
    count = agent.state.obs.count.clone()
    segment = figure3.experience(agent)
    assert segment.obs.shape == (2, 1, 30, 1, 3)
    assert torch.equal(agent.state.obs.count, count)
    theta, policy = agent.state.inner.policy.theta, agent.state.inner.nets.policy
    for s, seed in enumerate(agent.seeds):
        mine = Agent("wnpg", "Pendulum-v1", seeds=(seed,), **TINY)
        raw = mine.source.make(1, 1, starts=lambda k: [10_000_000 + 1_000 * k])
        start = raw.reset([1_000_000 + seed])[0, 0].double()
        seen = ((start - agent.state.obs.mean[s]) / agent.state.obs.deviation()[s]).clamp(-LIMIT, LIMIT).float()
        torch.testing.assert_close(segment.obs[s, 0, 0, 0], seen, rtol=1e-5, atol=1e-6)  # float32
        xi = torch.randn(1, 1, generator=torch.Generator().manual_seed(1_000_000 + seed))
        action = policy.draw(theta[s : s + 1], seen.view(1, 1, 1, 3), xi.view(1, 1, 1, 1)).action
        torch.testing.assert_close(segment.action[s, 0, 0, 0], action[0, 0, 0], rtol=1e-5, atol=1e-5)
        reward = raw.step(action.view(1, 1, 1)).reward[0, 0] / agent.state.returns.deviation()[s].float()
        torch.testing.assert_close(segment.reward[s, 0, 0, 0], reward, rtol=1e-5, atol=1e-6)
        raw.close()


def test_spectra_are_those_of_each_saved_policy_on_its_own_advantages(tmp_path):
    agent = Agent("wnpg", "Pendulum-v1", seeds=3, **TINY).learn(60)
    agent.save(tmp_path)
    found = figure3.spectra(tmp_path, (0, 2))
    segment, state, cfg = figure3.experience(agent), agent.state.inner, agent.cfg
    for row, s in zip(found, (0, 2), strict=True):
        obs, action, reward, discount, ended = (t[s, 0, :, 0] for t in segment[:5])
        v = [state.nets.v(state.v.theta, t.flatten(2, 3))[s, 0] for t in (segment.obs, segment.next_obs)]
        advantage, later = torch.zeros(30), 0.0
        for t in reversed(range(30)):
            later = advantage[t] = reward[t] + discount[t] * v[1][t] - v[0][t] + cfg.gamma * cfg.lam * (not ended[t]) * later
        gain = ((advantage - advantage.mean()) / advantage.std(correction=0)).double()
        theta = state.policy.theta[s, 0].double()

        def loss(phi, old=theta, obs=obs, action=action, gain=gain):
            laws = []
            for t in (phi, old):
                w1, b1, w2, b2, log_std = torch.split(t, [12, 4, 4, 1, 1])
                mean = torch.tanh(obs.double() @ w1.view(3, 4) + b1) @ w2.view(4, 1) + b2
                laws.append(Normal(mean, log_std.exp()).log_prob(action.double()).sum(-1))
            return -((laws[0] - laws[1]).exp() * gain).mean()

        expected = torch.linalg.eigvalsh(hessian(loss, theta)).numpy()
        order = np.argsort(-np.abs(expected))
        # advantages are in float32, which moves each eigenvalue by some 1e-6 of the largest
        np.testing.assert_allclose(row, expected[order], rtol=0.0, atol=1e-4 * np.abs(expected).max())


def test_a_spectrum_is_kept_beside_its_policy_and_computed_again_for_another(tmp_path, monkeypatch):
    agent = Agent("wnpg", "Pendulum-v1", seeds=2, **TINY).learn(60)
    agent.save(tmp_path)
    first = figure3.spectra(tmp_path, (0,))
    both = figure3.spectra(tmp_path, (0, 1))
    np.testing.assert_array_equal(both[:1], first)
    with monkeypatch.context() as patch:
        patch.setattr(figure3, "spectrum", None)
        np.testing.assert_array_equal(figure3.spectra(tmp_path, (1, 0)), both[::-1])
    agent.learn(30).save(tmp_path)
    assert not np.array_equal(figure3.spectra(tmp_path, (0, 1)), both)
    path = tmp_path / "seed-0" / figure3.KEPT
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(ValueError, match=r"spectrum\.json is damaged or was edited"):
        figure3.spectra(tmp_path, (0,))


def test_the_table_tells_ratios_gains_and_how_their_orders_agree():
    falling = np.array([[-8.0, 4.0, *[2.0] * 7, 1.0, -0.5], [6.0, 3.0, *[2.0] * 7, 1.0, 0.25]])
    np.testing.assert_array_equal(figure3.ratios(falling, 2), [2.0, 2.0])
    np.testing.assert_array_equal(figure3.ratios(falling, 1000), [16.0, 24.0])  # there are eleven
    x, y = np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0])
    assert figure3.effect(x, y) == pytest.approx(3.0 / np.sqrt(2.5))
    found, finals = {"A": falling, "B": falling**2, "C": falling**3}, {"A": (x, y), "B": (x + 1, y), "C": (x + 2, y)}
    first, second, third = figure3.rows(found, finals)
    assert (first["task"], first["parameters"], first["negative"]) == ("A", "11", "9%")
    assert (second["negative"], third["negative"]) == ("0%", "9%")
    assert first["l1 / l10, median [least, largest]"] == "7 [6, 8]"
    assert second["l1 / l1000, median [least, largest]"] == "416 [256, 576]"
    assert (first["None"], first["WNPG"]) == ("2", "5")
    assert first["gain [95 %]"].startswith("3 [")
    assert first["gain / deviation"] == f"{3.0 / np.sqrt(2.5):.3g}"
    gains = [figure3.effect(*final) for final in finals.values()]
    assert "over 3 tasks" in (told := figure3.correlations(found, gains))
    assert told.count("tau = 1.00, p = 0.33") == 3  # of six orders two are as far from none
    assert "tau = -1.00" in figure3.correlations(found, gains[::-1])
    assert figure3.correlations({"A": falling}, gains[:1]) == "A rank correlation takes at least three tasks."


def test_the_figure_has_the_ratios_of_each_task_and_one_of_them_beside_the_gain(tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def kept(path, columns):
        with figure(path, columns=columns) as axes:
            yield axes
            seen.extend([[line.get_xydata() for line in axis.lines] for axis in axes[0]])

    monkeypatch.setattr(figure3, "figure", kept)
    falling = np.array([[-8.0, 4.0, -0.5], [6.0, 3.0, 0.25], [1.0, -0.5, 0.125]])
    figure3.draw({"A": falling, "B": falling[:1] ** 2}, [0.5, 2.0], tmp_path / "a.png")
    (first, second), (one, other) = seen
    np.testing.assert_array_equal(first, [[1.0, 1.0], [2.0, 2.0], [3.0, 16.0]])
    np.testing.assert_array_equal(second, [[1.0, 1.0], [2.0, 4.0], [3.0, 256.0]])
    assert (one.tolist(), other.tolist()) == ([[16.0, 0.5]], [[256.0, 2.0]])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--seeds", "1", "--spectra", "1"], "seeds is 1; it must be at least 2"),
        (["--spectra", "6"], "spectra is 6; it must be from 1 to 5"),
        (["--tasks", "Swimmer"], "tasks has 'Swimmer'"),
    ],
)
def test_mistakes_are_named(args, words, capsys, tmp_path):
    assert run("figure3", [*args, "--out", str(tmp_path)], "figure3") == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_tiny_one_trains_without_a_choice_and_writes_table_eigenvalues_and_figure(tmp_path, monkeypatch, capsys):
    small = COMMAS.replace(",", ":")
    monkeypatch.setattr(figure2, "METHODS", {k: m._replace(settings=f"{m.settings}:{small}") for k, m in figure2.METHODS.items()})
    tasks = ["Reacher", "Hopper", "InvertedDoublePendulum"]
    args = ["--tasks", *tasks, "--lrs", "0.001", "--seeds", "2", "--first-seed", "4", "--spectra", "1", "--steps", "20"]
    args += ["--device", "cpu", "--compile", "False", "--out", str(tmp_path)]
    assert run("figure3", args, "figure3") == 0
    folder = tmp_path / "figure2"
    none, wnpg = (folder / "Hopper-v5" / f"{label},lr=0.001" for label in (f"{PLAIN},{COMMAS}", f"wnpg,preset=paper,{COMMAS}"))
    assert {*(folder / "Hopper-v5").glob("*/*")} == {path / seed for path in (none, wnpg) for seed in ("seed-4", "seed-5")}
    with (folder / "figure3.csv").open(newline="") as file:
        table = {row["task"]: row for row in csv.DictReader(file)}
    assert list(table) == tasks
    with (folder / "spectra.csv").open(newline="") as file:
        lines = [row for row in csv.DictReader(file) if row["task"] == "Hopper"]
    assert [row["place"] for row in lines] == [str(i + 1) for i in range(int(table["Hopper"]["parameters"]))]
    values = figure3.spectra(none, (4,))[0]
    assert [row["seed 4"] for row in lines] == [f"{x:.4g}" for x in values]
    assert "over 3 tasks" in (folder / "figure3.md").read_text()
    assert image.imread(folder / "figure3.png").shape[0] > 100
    capsys.readouterr()
    assert run("figure3", args, "figure3") == 0
    assert "seeds 4, 5 finished before" in capsys.readouterr().out
