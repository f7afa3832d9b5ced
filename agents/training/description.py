"""What an agent is: its algorithm, its configuration, its environment and its seeds, found out before they take memory."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from wgf.agents import registry
from wgf.agents.training import machine
from wgf.agents.training.envs import Source
from wgf.agents.training.normal import normalized
from wgf.agents.training.ranges import check, chosen, whole
from wgf.agents.training.schedule import Schedule
from wgf.mlp import ModuleNetwork
from wgf.shown import shown

__all__ = ["Description", "mapped", "numbered", "resolve"]

MOST_SEEDS = 1_000_000


class Description:
    """Everything that is said about an agent, and what follows from it.

    ``module`` and ``cfg`` are the algorithm and its configuration, which the preset sets to ``usual``; ``source`` is the environment, with
    observations of ``obs_size`` and actions of ``action_size`` numbers; ``nets`` names the networks that a program gave.

    **Raises** ValueError, in one line, for names, spaces, seeds, settings and values that are of no use.
    """

    def __init__(
        self, agent: Any, env: Any, seeds: int | Sequence[int], preset: str, device: str, backend: str, settings: Mapping[str, Any],
        nets: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.source = Source(env, backend)
        self.module, _ = registry.find(agent, preset)
        self.name, self.preset, self.nets = registry.label(agent), preset, sorted(nets)
        if not isinstance(backend, str) or backend not in ("gymnasium", "async", "envpool", "warp"):
            raise ValueError(f"backend is {shown(backend)}; choose from 'gymnasium', 'async', 'envpool', 'warp'")
        self.seeds, self.device = numbered(seeds), machine.find_device(device)
        self.usual, schedule = resolve(agent, preset, self.source.name), Schedule()
        kinds = {f.name: self.usual for f in fields(self.usual)} | {f.name: schedule for f in fields(schedule) if f.name != "steps"}
        values = {name: chosen(kinds, name, value) for name, value in settings.items()}
        self.cfg = replace(self.usual, **{name: value for name, value in values.items() if kinds[name] is self.usual})
        self.schedule = replace(schedule, **{name: value for name, value in values.items() if kinds[name] is schedule})
        check(self.cfg)
        bound = self.cfg.bound / self.cfg.reward_scale if getattr(self.cfg, "atoms", 1) > 1 else math.inf  # the agent multiplies after it
        self.module = normalized(self.module, self.schedule.normalize, bound)
        view = self.source.simulators(1)
        view.close()
        self.space, self.scale, self.obs_size, self.action_size = view.space, view.scale, view.obs_size, view.action_size

    def about(self, schedule: Schedule) -> dict[str, Any]:
        """Returns what every saved policy says about itself, as JSON gives it back."""
        about: dict[str, Any] = {
            "agent": self.name,
            "preset": self.preset,
            "env": self.source.name,
            "own": self.source.own,
            "backend": self.source.backend,
        }
        about |= {"nets": self.nets} if self.nets else {}
        sizes = {"obs_size": self.obs_size, "action_size": self.action_size, "versions": machine.versions()}
        return json.loads(json.dumps({**about, "config": asdict(self.cfg), "schedule": asdict(schedule), **sizes}))  # type: ignore[no-any-return]

    def networks(self, own: Mapping[str, Any]) -> Any:
        """Returns the agent's networks with some of a person's own in their places. Raises ValueError for a name that is not there."""
        nets = self.module.networks(self.cfg, self.obs_size, self.action_size)  # type: ignore[attr-defined]
        for field, net in own.items():
            if field not in nets._fields:
                raise ValueError(f"nets has {field!r}; the networks of {self.name} are {', '.join(nets._fields)}")
            net = ModuleNetwork(net) if isinstance(net, torch.nn.Module) else net
            if not (callable(net) and hasattr(net, "init")):
                raise ValueError(f"nets has {shown(net)} for {field!r}; it must be a torch module, or a network as wgf.mlp.Network says")
            nets = nets._replace(**{field: replace(getattr(nets, field), net=net)})
        return nets


def resolve(agent: Any, preset: str, env: str) -> Any:
    """Returns the preset's configuration for an environment (``registry.scaled``). Raises ValueError for a name that is not there."""
    return registry.scaled(registry.find(agent, preset)[1], agent, preset, env)


def numbered(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Returns so many seeds from 0 on, or the seeds themselves.

    **Raises** ValueError for none, for more than a million, for one that comes twice, and for one that environments do not take.
    """
    given: Any = seeds
    if whole(given) and given <= MOST_SEEDS:
        given = range(given)
    if whole(given):
        raise ValueError(f"seeds is {shown(seeds)}; it must be at most {MOST_SEEDS:,}, or the seeds themselves")
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not all(map(whole, given)):
        raise ValueError(f"seeds is {shown(seeds)}; it must be a whole number, or several")
    found = tuple(map(int, given))
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds is {shown(seeds)}; it must be at least 1, or different numbers")
    if not all(0 <= k < MOST_SEEDS for k in found):
        raise ValueError(f"seeds is {shown(seeds)}; seeds must lie from 0 to {MOST_SEEDS - 1:,}")
    return found


def mapped(nets: Any) -> Mapping[str, Any]:
    """Returns the networks that a program gave, none for None. Raises ValueError unless they are a dict by names."""
    if nets is not None and not (isinstance(nets, Mapping) and all(isinstance(name, str) for name in nets)):
        raise ValueError(f"nets is {shown(nets)}; it must be a dict of networks by their names")
    return nets or {}
