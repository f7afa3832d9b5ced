"""A policy as an ONNX model: what ``predict`` computes, for programs that have neither torch nor this package."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import wgf
from wgf.agents.training import checkpoint
from wgf.agents.training.ranges import placed

if TYPE_CHECKING:
    from wgf.agents.training.agent import Agent

__all__ = ["Greedy", "Held", "about", "export", "quiet"]

LARGEST = 2**31 - 1  # bytes of an ONNX file without others beside it
APART = 1e-3  # of half an action's range: far above rounding, far below another action


class Held(TorchFunctionMode):
    """Within, numbers that a function draws at every call from a fresh generator of its own are drawn once: they are its constants."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[Any, Tensor] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls a function of torch, or returns what it drew before."""
        kwargs = kwargs or {}
        if function is not torch.randn or kwargs.get("generator") is None:
            return function(*args, **kwargs)
        if (key := (args, kwargs.get("dtype"))) not in self.drawn:
            self.drawn[key] = function(*args, **kwargs)
        return self.drawn[key]


class Greedy(nn.Module):
    """Observations (n, D) -> deterministic actions (n, A) of one policy of one seed, in the environment's own units, float32."""

    def __init__(self, agent: "Agent", seed: int, policy: int) -> None:
        super().__init__()
        self.agent, self.seed, self.policy, self.held = agent, seed, policy, Held()
        middle, half = (torch.tensor(part, dtype=torch.float32, device=agent.device) for part in (agent.scale.middle, agent.scale.half))
        self.middle, self.reach = nn.Buffer(middle), nn.Buffer(half)

    def forward(self, obs: Tensor) -> Tensor:
        """Returns middle + half clip(a, -1, 1), and 0 for an a that is nan, as ``predict`` does."""
        agent = self.agent
        with self.held:
            action = agent.module.greedy(agent.cfg, agent.state, obs[None].repeat(len(agent.seeds), agent.policies, 1))[self.seed]
        mine = action.view(agent.policies, -1, agent.action_size)[self.policy]
        return self.middle + self.reach * torch.where(mine.isnan(), 0.0, mine).clamp(-1.0, 1.0)


def export(agent: "Agent", path: Path, seed: int = 0, policy: int = 0) -> None:
    """Writes one policy of one seed: "observations" (n, D) -> "actions" (n, A), float32, for any n.

    The model's properties say the environment, the agent, its preset, the seed, the step, this package's version and the sha256 of the
    policy, which policy.json of the same step has too. **Limits** Where an agent chooses among several actions by Q, rounding may
    choose another of two that are equally good; a file with one of M policies holds all of them, and computes all. **Raises**
    ValueError, in one line, for a path that is no .onnx file in a folder that exists, and for a policy that cannot be exported: also where
    the model, run once, computes something else.
    """
    if path.suffix != ".onnx" or not path.parent.is_dir():
        raise ValueError(f"file {str(path)!r} must be an .onnx file in a folder that exists")
    placed(seed=(seed, len(agent.seeds)), policy=(policy, agent.policies))
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter takes it
    except ImportError:
        raise ValueError("an export needs the packages onnx and onnxscript: pip install 'wgflow[onnx]'") from None
    obs = torch.zeros(3, agent.obs_size, device=agent.device)
    first, second = (agent.predict(obs.cpu(), seed=seed, policy=policy) for _ in range(2))
    if not np.array_equal(first, second):
        raise ValueError(f"{agent.name} cannot be exported: its deterministic actions differ from call to call")
    model = _model(greedy := Greedy(agent, seed, policy), obs, agent.name)
    if not (apart := _apart(model, greedy)) < APART:
        raise ValueError(f"{agent.name} cannot be exported: the model's actions differ from the agent's by {apart:.2g} of half their range")
    onnx.helper.set_model_props(model, about(agent, seed, policy))
    data = model.SerializeToString()
    if len(data) > LARGEST:
        raise ValueError(f"{agent.name} cannot be exported: the file would have {len(data):,} bytes, of at most {LARGEST:,}")
    checkpoint.replace(path, data)


def about(agent: "Agent", seed: int, policy: int) -> dict[str, str]:
    """Returns what the properties of the model say."""
    sha256 = checkpoint.serialized(checkpoint.seed_slice(agent.state, seed))[1]
    found = {"environment": agent.source.name, "agent": agent.name, "preset": agent.preset, "seed": agent.seeds[seed], "policy": policy}
    return {name: str(value) for name, value in {**found, "step": agent.step, "wgf": wgf.__version__, "sha256": sha256}.items()}


def _model(greedy: Greedy, obs: Tensor, name: str) -> Any:
    """Returns the ONNX model of a policy. Raises ValueError, in one line, where torch cannot record it."""
    try:
        with quiet(), torch.no_grad():
            greedy(obs)  # draws what is held
            program = torch.onnx.export(
                greedy, (obs,), input_names=["observations"], output_names=["actions"], dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True, verbose=False,
            )  # fmt: skip
            assert program is not None
            return program.model_proto
    except Exception as error:  # an agent of one's own may compute anything
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(f"{name} cannot be exported: {reason or type(error).__name__}") from None


def _apart(model: Any, greedy: Greedy) -> float:
    """Returns how far the actions of a model are from those of its policy at most, at eight observations, in halves of their range."""
    from onnx.reference import ReferenceEvaluator

    obs = torch.randn(8, greedy.agent.obs_size, generator=torch.Generator().manual_seed(0))
    (found,) = ReferenceEvaluator(model).run(None, {"observations": obs.numpy()})
    with torch.no_grad():
        right = greedy(obs.to(greedy.reach.device))
    return float(((torch.from_numpy(found).to(right) - right) / greedy.reach).abs().max())


@contextmanager
def quiet() -> Iterator[None]:
    """Within, no remark of the exporter reaches the person."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
