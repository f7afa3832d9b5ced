"""Calls every public function of Python with wrong arguments, and counts what becomes of it: python -m tests.mistakes

A call that is right is repeated with each of its arguments in turn replaced by each of a table of values that cannot be meant, or may
not. It is refused by a ValueError or a TypeError of one line that names the argument, or it works, and then in numbers that are not nan.
Anything else is a fault.
"""

import argparse
import io
import math
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from wgf import conjugate, diagnostics, flow, kernels, natural, projection, svgd, transport
from wgf.agents import Agent
from wgf.agents.training.schedule import Schedule
from wgf.bnn import BayesianRegressor, Settings, data, fit
from wgf.flow import run
from wgf.mlp import MLP, ModuleNetwork
from wgf.policies import gaussian, unbounded
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.critics import QNetwork, VNetwork
from wgf.policies.deterministic import DeterministicPolicy
from wgf.policies.diagonal import DiagonalPolicy
from wgf.policies.gaussian import GaussianMixture, GaussianPolicy, MixturePolicy
from wgf.policies.sampler import SamplingNetwork
from wgf.policies.squash import SQUASH
from wgf.policies.unbounded import UnboundedPolicy
from wgf.ranks import Group
from wgf.shards import Shards

WRONG: dict[str, Any] = {
    "None": None,
    "a word": "x",
    "bytes": b"x",
    "True": True,
    "0": 0,
    "-1": -1,
    "2.5": 2.5,
    "a float of numpy": np.float32(2.5),
    "nan": math.nan,
    "inf": math.inf,
    "1e300": 1e300,
    "-1e300": -1e300,
    "10**400": 10**400,
    "no list": [],
    "a list of a list": [[1.0], [2.0]],
    "a dict": {"x": 1},
    "an object": object(),
    "a class": int,
    "an array": np.ones((2, 3)),
    "an array of nan": np.full((2, 3), np.nan),
    "an array of words": np.array(["a", "b"]),
    "no array": np.zeros(0),
    "whole numbers": torch.arange(4),
    "a number's tensor": torch.tensor(2.0),
    "no tensor": torch.zeros(0),
    "nan in a tensor": torch.tensor([1.0, math.nan]),
    "half": torch.ones(4, 2, dtype=torch.float16),
    "complex": torch.ones(4, 2, dtype=torch.complex64),
    "four axes": torch.ones(1, 2, 3, 4),
}


def twisted(x: Tensor) -> dict[str, Any]:
    """What a tensor that is right may be mistaken for."""
    other = torch.float32 if x.dtype == torch.float64 else torch.float64
    found = {
        "sparse": x.to_sparse() if x.ndim else x[None].to_sparse(),
        "meta": x.to("meta"),
        "another dtype": x.to(other),
        "whole": x.long(),
        "booleans": x > 0,
        "half": x.half(),
        "nan": torch.full_like(x, math.nan),
        "inf": torch.full_like(x, math.inf),
        "-inf": torch.full_like(x, -math.inf),
        "huge": torch.full_like(x, 0.9 * torch.finfo(x.dtype).max),
        "zero": torch.zeros_like(x),
        "negative": -x.abs() - 1.0,
        "one more axis": x[None],
        "its array": x.numpy(),
        "its list": x.tolist(),
        "a leaf": x.clone().requires_grad_(),
        "strided": torch.stack([x, x], -1)[..., 0],
    }
    if x.ndim:
        found |= {"one axis less": x[0], "no entry": x[:0], "one more entry": torch.cat([x, x[:1]]), "no last entry": x[..., :0]}
        found |= {"one more at the end": torch.cat([x, x[..., :1]], -1), "two axes more": x[None, None]}
    return found


class Call(NamedTuple):
    """A function, the arguments with which it works, and which of them are replaced; ``names`` it may use for an argument instead."""

    function: Callable[..., Any]
    right: dict[str, Any]
    wrong: tuple[str, ...] = ()
    names: dict[str, str] = {}  # noqa: RUF012
    borrowed: tuple[str, ...] = ()  # arguments of which scikit-learn or numpy tells in words of its own
    blind: bool = False  # it does not look at values, so that nan goes in and comes out


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers, always the same for a shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def engine() -> dict[str, Call]:
    """The functions of ``wgf``."""
    x, y, p = normal(4, 2), normal(4, 2) + 1.0, normal(3, 2)
    two = {"x": x, "y": y}
    pair, scored = {"x": x, "x_prev": y}, {"x": x, "score": y}
    weights = {"a": torch.ones(4).double(), "b": torch.ones(4).double()}
    found = {
        "squared_distances": Call(kernels.squared_distances, two),
        "median_cross": Call(kernels.median_cross, {**two, "floor": 1e-3}),
        "langevin": Call(svgd.langevin, {"score": x, "noise": y, "lr": 0.1}),
        "unbiased": Call(svgd.unbiased, {**scored, "groups": 2}),
        "sinkhorn": Call(transport.sinkhorn, {**two, "eps": 1.0, **weights, "tol": 1e-3, "max_iters": 50}),
        "entropic_cost": Call(transport.entropic_cost, {**two, "eps": 1.0, **weights}),
        "sinkhorn_divergence": Call(transport.sinkhorn_divergence, {**two, "eps": torch.tensor(1.0).double(), **weights}),
        "exact_cost": Call(transport.exact_cost, {**two, **weights}),
        "median_lam": Call(transport.median_lam, pair),
        "flow.velocity": Call(
            flow.velocity,
            {**scored, "x_prev": y, "scale": 1.0, "kl": svgd.blob, "w2": transport.exact},
            ("x", "score", "x_prev", "scale", "kl", "w2"),
        ),
        "jko": Call(
            lambda **k: flow.jko(**k).step(flow.State(x, x)),
            {"score": torch.neg, "h": 1.0, "lr": 0.1, "inner_steps": 2, "kl": svgd.blob, "w2": transport.exact},
        ),
        "run": Call(
            lambda flow, x, steps, every: run(flow, x, steps, every=every),
            {"flow": flow.jko(torch.neg, h=1.0, lr=0.1, inner_steps=2), "x": x, "steps": 2, "every": 1},
            ("flow", "x", "every"),
        ),
        "ksd": Call(diagnostics.ksd, {**scored, "c": 1.0, "weights": weights["a"]}),
        "squared_ksd": Call(diagnostics.squared_ksd, {**scored, "c": torch.tensor(1.0).double()}),
        "importance_ess": Call(diagnostics.importance_ess, {"weights": weights["a"]}),
        "chain_ess": Call(diagnostics.chain_ess, {"history": normal(5, 4, 2)}),
        "hessian": Call(
            lambda divergence, theta: natural.hessian(divergence, theta)(theta), {"divergence": lambda t: t.square().sum(-1), "theta": p}
        ),
        "pullback": Call(lambda **k: natural.pullback(**k)(k["theta"]), {"function": torch.sin, "theta": p, "metric": torch.neg}),
        "empirical": Call(lambda scores: natural.empirical(scores), {"scores": normal(3, 4, 2)}),
        "damped": Call(lambda **k: natural.damped(**k)(p), {"metric": torch.abs, "damping": 0.1}),
        "gaussian_fisher": Call(natural.gaussian_fisher, {"std": x.exp(), "phi": "std"}),
        "gaussian_wasserstein": Call(natural.gaussian_wasserstein, {"std": x.exp(), "phi": "std"}),
        "step": Call(natural.step, {"metric": lambda v: v, "gradient": p, "eps": 0.1, "steps": 2, "tol": 1e-3}),
        "backtrack": Call(natural.backtrack, {"acceptable": lambda t: t.sum(-1) > 0, "theta": p, "move": p, "shrink": 0.5, "tries": 3}),
        "conjugate_gradient": Call(conjugate.conjugate_gradient, {"product": lambda v: v, "b": p, "steps": 2, "tol": 1e-3}),
        "projection.gaussian": Call(projection.gaussian, {"xi": x, "slope": y}),
        "direction": Call(
            projection.direction,
            {
                "log_prob": projection.density(lambda t: Normal(t, 1.0)),
                "phi": normal(2),
                "a": x,
                "slope": y,
                "draws": normal(5, 2),
                "damping": 0.1,
                "steps": 2,
            },
        ),
        "MLP": Call(
            lambda **k: MLP(**k).init((1,), [torch.Generator().manual_seed(0)]), {"sizes": (2, 3, 1), "activation": "tanh", "gain": 0.5}
        ),
        "MLP(theta)": Call(lambda theta, x: MLP((2, 3, 1))(theta, x), {"theta": normal(2, 13), "x": normal(2, 4, 2)}),
        "MLP(theta), two inputs": Call(
            lambda theta, x, y: MLP((3, 3, 1))(theta, x, y), {"theta": normal(2, 16), "x": normal(2, 4, 2), "y": normal(2, 4, 1)}
        ),
        "MLP.init": Call(
            lambda stack, generators: MLP((2, 1)).init(stack, generators), {"stack": (1,), "generators": [torch.Generator().manual_seed(0)]}
        ),
        "ModuleNetwork": Call(lambda module: ModuleNetwork(module)(normal(2, 3), normal(2, 4, 2)), {"module": nn.Linear(2, 1).double()}),
        "ModuleNetwork(theta)": Call(
            lambda theta, x: ModuleNetwork(nn.Linear(2, 1).double())(theta, x), {"theta": normal(2, 3), "x": normal(2, 4, 2)}
        ),
    }
    alone, one_of_two = Shards.even(Group(), 4), Shards.even(Group(0, 2), 4)
    found |= {
        "Shards": Call(Shards, {"group": Group(0, 2), "counts": (3, 1)}),
        "Shards.even": Call(Shards.even, {"group": Group(0, 2), "particles": 4}),
        "Shards.owning": Call(Shards.owning, {"group": Group(), "rows": 4}),
        "Shards.mine": Call(one_of_two.mine, {"x": x}, blind=True),
        "Shards.gather": Call(alone.gather, {"x": x}, blind=True),
        "Shards.velocity": Call(
            lambda function, x, score: alone.velocity(function, x, score), {"function": svgd.velocity, "x": x, "score": y}
        ),
    }
    found["jko"] = found["jko"]._replace(names={"lr": "x"})  # which a long step throws out of the range of numbers
    found["direction"] = found["direction"]._replace(names={"phi": "Value"})  # torch's distributions name their own
    for name in [name for name in found if name.startswith(("MLP(", "ModuleNetwork("))]:  # several inputs of one name
        found[name] = found[name]._replace(names={"x": "inputs", "y": "inputs"}, blind=True)
    for f in (svgd.velocity, svgd.blob, svgd.gfsd):
        found[f"svgd.{f.__name__}"] = Call(f, {**scored, "kernel": kernels.RBF(1.0)})
    for f in (kernels.median_svgd, kernels.median_full, kernels.median_svpg):
        found[f.__name__] = Call(f, {"x": x, "floor": 1e-10})
    for name, f in transport.VELOCITIES.items():
        more = {"lam": 1.0} if name.startswith("eq9") else {"eps": 1.0} if name in ("entropic", "debiased") else {}
        found[name] = Call(f, {**pair, **more})
    for kernel in (kernels.RBF, kernels.IMQ):
        found[kernel.__name__] = Call(lambda kernel=kernel, *, x, y, lengthscale: kernel(lengthscale)(x, y)[0], {**two, "lengthscale": 1.0})
    return found


def policies() -> dict[str, Call]:
    """The laws and networks of ``wgf.policies``: S = 2 seeds, B = 3 states of D = 2 numbers, actions of A = 2."""
    obs, u, one = normal(2, 3, 2), normal(2, 3, 2), normal(2, 3, 1)
    net, head = MLP((2, 3, 4)), MLP((2, 3, 2))
    theta, small = normal(2, 3 * 3 + 4 * 4), normal(2, 3 * 3 + 4 * 2)
    mixture = MixturePolicy(MLP((2, 3, 10)), 2, 2)
    law = GaussianMixture(normal(2, 3, 2), normal(2, 3, 2, 2), normal(2, 3, 2, 2).exp())
    critic, q = QNetwork(MLP((4, 3, 1))), normal(2, 2, 5 * 3 + 4)
    diagonal = DiagonalPolicy(head, 2)
    many, each = normal(2, 4, 3 * 3 + 4 * 2 + 2), normal(2, 4, 3, 2)
    unlimited = UnboundedPolicy(MLP((2, 3, 5), "layernorm"), 1, 2, 0.7)
    wide = normal(2, 3 * 3 + 4 * 5 + 6)
    sampler = SamplingNetwork(MLP((3, 3, 2)), 1)
    return {
        "gaussian.log_prob": Call(gaussian.log_prob, {"u": u, "mean": obs, "log_std": u}),
        "gaussian.standard_log_prob": Call(gaussian.standard_log_prob, {"xi": u, "log_std": obs}),
        "gaussian.entropy": Call(gaussian.entropy, {"log_std": u}),
        "gaussian.kl": Call(gaussian.kl, {"mean": u, "log_std": obs, "mean2": obs, "log_std2": u}),
        "gaussian.tanh_log_det": Call(gaussian.tanh_log_det, {"u": u}),
        "gaussian.squashed": Call(gaussian.squashed, {"u": u, "log_density": normal(2, 3)}),
        "GaussianPolicy.draw": Call(GaussianPolicy(net).draw, {"theta": theta, "obs": obs, "xi": u}),
        "GaussianPolicy.mode": Call(GaussianPolicy(net).mode, {"theta": theta, "obs": obs}),
        "MixturePolicy.draw": Call(mixture.draw, {"theta": normal(2, 9 + 40), "obs": obs, "noise": normal(2, 3, 3)}),
        "MixturePolicy.mode": Call(mixture.mode, {"theta": normal(2, 9 + 40), "obs": obs}),
        "GaussianMixture.draw": Call(law.draw, {"noise": normal(2, 3, 3)}),
        "GaussianMixture.stratified": Call(law.stratified, {"xi": normal(2, 3, 4, 2)}),
        "GaussianMixture.log_prob": Call(law.log_prob, {"u": u}),
        "GaussianMixture.squashed_log_prob": Call(law.squashed_log_prob, {"u": u}),
        "BayesianPolicy.draw": Call(BayesianPolicy(net, 3, 2).draw, {"theta": normal(2, 3, 25), "obs": obs, "noise": normal(2, 3, 3)}),
        "QNetwork": Call(critic, {"theta": q, "obs": obs, "action": u}),
        "QNetwork.least": Call(critic.least, {"theta": q, "obs": obs, "action": u}),
        "QNetwork.slope": Call(critic.slope, {"theta": q, "obs": obs, "action": u}),
        "QNetwork.best": Call(critic.best, {"theta": q, "obs": obs, "actions": normal(2, 3, 4, 2)}),
        "VNetwork": Call(VNetwork(MLP((2, 3, 1))), {"theta": normal(2, 13), "obs": obs}),
        "DeterministicPolicy.mode": Call(DeterministicPolicy(head).mode, {"theta": small, "obs": obs}),
        "DiagonalPolicy.draw": Call(diagonal.draw, {"theta": many, "obs": each, "xi": each}),
        "DiagonalPolicy.mode": Call(diagonal.mode, {"theta": many, "obs": each}),
        "DiagonalPolicy.entropy": Call(diagonal.entropy, {"theta": many}),
        "DiagonalPolicy.log_prob": Call(diagonal.log_prob, {"theta": many, "obs": each, "action": each}),
        "DiagonalPolicy.kl": Call(diagonal.kl, {"theta": many, "other": -many, "obs": each}),
        "SamplingNetwork.particles": Call(sampler.particles, {"theta": normal(2, 20), "obs": obs, "xi": normal(2, 3, 4, 1)}),
        "SamplingNetwork.mode": Call(sampler.mode, {"theta": normal(2, 20).float(), "obs": obs.float(), "candidates": 3}),
        "UnboundedPolicy.law": Call(unlimited.law, {"theta": wide, "obs": obs}),
        "unbounded.unflat": Call(lambda phi: unbounded.unflat(phi, law), {"phi": normal(2, 3, 10)}),
        "block_fisher": Call(lambda v: unbounded.block_fisher(law)(v), {"v": normal(2, 3, 10)}),
        "Squash.score": Call(SQUASH["exact"].score, {"q": lambda a: a.sum(-1), "x": u, "alpha": 0.5}),
        "VNetwork.init": Call(VNetwork(MLP((2, 3, 1))).init, {"stack": (1,), "generators": [torch.Generator().manual_seed(0)]}),
        "one number": Call(gaussian.entropy, {"log_std": one}),
    }


def agents(home: Path) -> dict[str, Call]:
    """The front door: an agent made, trained, asked, saved and loaded."""
    own = {"env": "wgf/CartPole-v0", "hidden": (4,), "batch": 4, "warmup": 3, "eval_episodes": 1, "device": "cpu"}
    found = {
        "Agent": Call(
            Agent,
            {
                "agent": "sac",
                **own,
                "seeds": 1,
                "preset": "paper",
                "backend": "gymnasium",
                "compile": "auto",
                "nets": {},
                "shards": False,
                "lr": 1e-3,
            },
            ("agent", "env", "seeds", "preset", "device", "backend", "compile", "nets", "shards"),
            {"env": "environment"},
        ),
        "wpo's nets": Call(
            Agent,
            {"agent": "wpo", "env": "wgf/CartPole-v0", "nets": {"q": nn.Linear(5, 1)}, "critic_hidden": (4,), "hidden": (4,)},
            ("nets",),
        ),
    }
    for name in ("dp-wgf", "wpo", "svpg", "ppo"):
        given = {"agent": name, "env": "wgf/CartPole-v0", "device": "cpu"}
        cfg = Agent(**given).cfg
        settings = {f.name: getattr(cfg, f.name) for f in fields(cfg)} | (
            {f.name: f.default for f in fields(Schedule)} if name == "wpo" else {}
        )
        settings.pop("steps", None)
        for setting, value in settings.items():
            found[f"{name}'s {setting}"] = Call(
                lambda given=given, **k: Agent(**given, **k), {setting: value}, names={setting: setting.removeprefix("critic_")}
            )
    agent = Agent("sac", **own).learn(4)
    agent.save(home / "agent")
    logged = Agent("sac", **own, checkpoint_every=2).learn(4, log=home / "log")
    numbers = iter(range(10**6))

    def learn(**given: Any) -> None:
        log = given.pop("log")
        Agent("sac", **own).learn(**given, log=home / f"log-{next(numbers)}" if isinstance(log, str) and log == "log" else log)

    def loaded(folder: Any, **given: Any) -> Any:
        return Agent.load(folder, **given)

    def silent(step: int, metrics: Any, agent: Any) -> None:
        """A callback."""

    return found | {
        "Agent.learn": Call(learn, {"steps": 2, "callback": silent, "log": "log", "stopping": lambda: False}, names={"log": "written"}),
        "Agent.train": Call(
            Agent("sac", **own).train, {"total": 4, "callback": silent, "stopping": lambda: False}, names={"total": "steps"}
        ),
        "Agent.predict": Call(agent.predict, {"obs": [0.0] * 4, "deterministic": True, "seed": 0, "policy": 0}),
        "Agent.export": Call(agent.export, {"file": home / "policy.onnx", "seed": 0, "policy": 0}),
        "Agent.evaluate": Call(agent.evaluate, {"episodes": 1}),
        "Agent.save": Call(
            lambda folder, training: Agent("sac", **own).learn(2).save(home / "saved" if isinstance(folder, str) else folder, training),
            {"folder": "saved", "training": True},
        ),
        "Agent.load": Call(
            loaded,
            {"folder": home / "agent", "env": "wgf/CartPole-v0", "agent": "sac", "device": "cpu", "nets": {}, "seeds": (0,)},
            names={"env": "environment"},
        ),
        "Agent.resume": Call(lambda log: Agent("sac", **own, checkpoint_every=2).resume(log), {"log": home / "log"}),
        "Agent.needs": Call(logged.needs, {"steps": 10}),
        "Agent.compiles": Call(Agent("sac", **own).compiles, {"steps": 10}),
    }


def regression(home: Path) -> dict[str, Call]:
    """Bayesian regression: settings, fits, the estimator, and the standard sets."""
    x, y = np.random.default_rng(0).standard_normal((20, 2)), np.random.default_rng(1).standard_normal(20)
    small = {"particles": 2, "hidden": 2, "iterations": 2, "lr": 0.01}
    model = BayesianRegressor(**small).fit(x, y)
    model.save(home / "model.safetensors")
    rows, targets = torch.from_numpy(x)[None], torch.from_numpy(y)[None, :, None]
    fast = Settings(particles=2, hidden=(2,), iterations=2)
    found = {
        f"BayesianRegressor's {name}": Call(
            lambda **k: BayesianRegressor(**{**small, **k}).fit(x, y), {name: small.get(name, value)}, borrowed=("random_state",)
        )
        for name, value in BayesianRegressor().get_params().items()
    }
    found |= {f"Settings' {f.name}": Call(Settings, {f.name: f.default}) for f in fields(Settings)}
    (home / "toy").mkdir()
    (home / "toy" / "data.txt").write_text("1 2\n3 4\n")
    data.SETS["toy"] = data.Set(2, 1, "", None)
    sklearn = ("X", "y", "sample_weight", "random_state")
    return found | {
        "BayesianRegressor.fit": Call(BayesianRegressor(**small).fit, {"X": x, "y": y, "sample_weight": np.ones(20)}, borrowed=sklearn),
        "BayesianRegressor.predict": Call(model.predict, {"X": x, "return_std": True}, borrowed=sklearn),
        "predict_interval": Call(model.predict_interval, {"X": x, "level": 0.9}, borrowed=sklearn),
        "sample": Call(model.sample, {"X": x, "n_samples": 2, "random_state": 0}, borrowed=sklearn),
        "log_likelihood": Call(model.log_likelihood, {"X": x, "y": y}, borrowed=sklearn),
        "BayesianRegressor.save": Call(model.save, {"path": home / "again.safetensors"}),
        "BayesianRegressor.load": Call(BayesianRegressor.load, {"path": home / "model.safetensors"}),
        "bnn.fit": Call(
            fit,
            {"settings": fast, "x": rows, "y": targets, "seeds": [0], "weights": torch.ones(1, 20).double(), "rates": [0.01]},
            names={"weights": "deviations"},
        ),
        "Fit.predict": Call(model.fit_.predict, {"x": rows}, blind=True),
        "Fit.rmse": Call(model.fit_.rmse, {"x": rows, "y": targets}, blind=True),
        "Fit.log_densities": Call(model.fit_.log_densities, {"x": rows, "y": targets}, blind=True),
        "data.load": Call(data.load, {"folder": home, "name": "toy"}),
        "data.splits": Call(data.splits, {"name": "toy"}),
    }


def mistakes(calls: dict[str, Call]) -> Iterator[tuple[str, str, Call, dict[str, Any]]]:
    """Every call with one of its arguments replaced: a name for it, the argument, the call and its arguments."""
    for name, call in calls.items():
        for argument in call.wrong or call.right:
            right = call.right[argument]
            values = {**WRONG, **(twisted(right) if isinstance(right, Tensor) else {})}
            if argument == "compile":
                del values["True"]  # which can be meant, and takes a minute
            if callable(right):
                del values["a class"]  # which can be called: what it then answers is its own affair
            for what, value in values.items():
                yield f"{name}({argument}={what})", argument, call, {**call.right, argument: value}


def answer(argument: str, call: Call, given: dict[str, Any]) -> str:
    """What becomes of a call: refused in a line, worked, or a fault."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            found = call.function(**given)
        except (ValueError, TypeError, OverflowError) as error:
            if argument in call.borrowed:
                return "refused in a line"
            if isinstance(error, OverflowError):
                return f"fault: {error}"
            return _refusal(argument, call, str(error))
        except Exception as error:
            return f"fault: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if (
        not call.blind
        and any(t.isnan().any() for t in _tensors(found))
        and not any(t.isnan().any() for t in _tensors(tuple(given.values())))
    ):
        return "fault: it answers nan"
    return "worked"


def _refusal(argument: str, call: Call, text: str) -> str:
    if "\n" in text:
        return f"fault: several lines: {' '.join(text.split())[:200]}"
    words = argument, argument.replace("_", "-"), call.names.get(argument, argument)
    if any(re.search(rf"\b{re.escape(word)}\b", text) for word in words):
        return "refused in a line"
    return f"fault: it does not name {argument}: {' '.join(text.split())[:200]}"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.is_meta and value.layout == torch.strided:
            yield value.detach()
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)


def attack(home: Path, every: int = 1) -> tuple[Counter[str], list[str]]:
    """Makes every ``every``-th mistake; returns how often each answer came, and the faults."""
    answers, faults = Counter[str](), list[str]()
    with redirect_stdout(io.StringIO()):
        quiet = {name: call._replace(blind=True) for name, call in policies().items()}
        calls = {**engine(), **quiet, **regression(home), **agents(home)}
    for name, call in calls.items():
        if (said := answer("", call, dict(call.right))) != "worked":
            faults.append(f"{name}, as it should be: {said}")
    for i, (name, argument, call, given) in enumerate(mistakes(calls)):
        if i % every:
            continue
        said = answer(argument, call, given)
        answers[said.split(":")[0]] += 1
        if said.startswith("fault"):
            faults.append(f"{name}: {said}")
    return answers, faults


def main() -> None:
    """Prints how often each answer came; fails where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="every how manieth of the mistakes is made")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home, chdir(home):  # some of what is wrong is a path
        answers, faults = attack(Path(home), options.every)
    for fault in faults:
        print(fault)
    print(f"refused in a line {answers['refused in a line']:,}, worked {answers['worked']:,}, faults {len(faults):,}")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
