"""Which agents there are, by the names that a command line uses."""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wgf.agents.training import ranges
from wgf.shown import shown

if TYPE_CHECKING:  # names alone cost no torch: a command line lists the agents at once
    from wgf.agents import ddpg, dp_wgf, dp_wgf_v, es, ip_wgf, pg, ppo, sac, sac_v, soft_q, svpg, trpo, wgf_sac, wnpg, wpo
    from wgf.agents.training.protocol import Agent, AnyAgent, B, C, S, X, Y

    def fits(agent: Agent[C, S, B, X, Y]) -> None:
        """Checks that a module keeps the protocol's signatures, with one type each for what passes from one of its functions to another."""

    fits(ddpg)
    fits(dp_wgf)
    fits(dp_wgf_v)
    fits(es)
    fits(ip_wgf)
    fits(pg)
    fits(ppo)
    fits(sac)
    fits(sac_v)
    fits(soft_q)
    fits(svpg)
    fits(trpo)
    fits(wgf_sac)
    fits(wnpg)
    fits(wpo)

__all__ = ["AGENTS", "choices", "find", "label", "located", "named", "scaled"]

T = TypeVar("T")
ALL = ("paper", "modern", "strong", "strong-small")
AGENTS = {
    "ddpg": dict.fromkeys(ALL, "ddpg"),
    "dp-wgf": dict.fromkeys(ALL, "dp_wgf"),
    "dp-wgf-v": dict.fromkeys(ALL, "dp_wgf_v"),
    "es": dict.fromkeys(("paper", "nsr-es", "bges", "wnes", "bg-wnes"), "es"),
    "ip-wgf": dict.fromkeys(ALL[:2], "ip_wgf"),
    "pg": dict.fromkeys(ALL[:2], "pg"),
    "ppo": dict.fromkeys(ALL[:2], "ppo"),
    "sac": {**dict.fromkeys(ALL, "sac"), "paper": "sac_v"},
    "soft-q": dict.fromkeys(ALL, "soft_q"),
    "svpg": dict.fromkeys(ALL[:2], "svpg"),
    "trpo": dict.fromkeys(ALL[:2], "trpo"),
    "wgf-sac": dict.fromkeys(ALL, "wgf_sac"),
    "wnpg": dict.fromkeys((*ALL[:2], "bgpg", "bg-wnpg"), "wnpg"),
    "wpo": dict.fromkeys(ALL, "wpo"),
}
SOFT = ("dp-wgf", "dp-wgf-v", "sac", "soft-q")  # their reward scale is an inverse temperature
REWARD_SCALE = {"Swimmer": 100.0, "Hopper": 1.0, "Walker2d": 3.0, "Humanoid": 3.0}  # Zhang et al. 2018, Table 6


NAMES = ("Config", "PRESETS", "memory", "init", "act_noise", "act", "greedy", "noise", "update")  # of ``protocol.Agent``


def find(agent: "str | AnyAgent", preset: str) -> "tuple[AnyAgent, Any]":
    """Returns (agent, configuration) of a preset, by the agent's name, by "package.module:Name" of anybody's own, or by the object itself.

    It imports what a name with a colon says: such a name comes from a person or a program, never from a file (``named``).

    **Raises** ValueError for a name that is not there, with the nearest one, and for what is no agent, naming what it lacks.
    """
    if module := located(agent, preset):
        found = cast("AnyAgent", import_module(module))
    else:
        found = cast("AnyAgent", _imported(agent) if isinstance(agent, str) else agent)
        if missing := [name for name in NAMES if not hasattr(found, name)]:
            raise ValueError(f"agent {label(agent)!r} has no {missing[0]}; an agent has {', '.join(NAMES)}")
    return found, _known("preset", preset, found.PRESETS, label(agent))


def located(agent: "str | AnyAgent", preset: str) -> str | None:
    """Returns the module of a preset of one of the project's agents, without importing it; None for an agent that is none of these.

    **Raises** ValueError for a name that is not there, with the nearest one.
    """
    if not isinstance(agent, str) or ":" in agent:
        return None
    return f"wgf.agents.{_known('preset', preset, _known('agent', agent, AGENTS), agent)}"


def scaled(cfg: Any, agent: "str | AnyAgent", preset: str, env: str) -> Any:
    """Returns a preset's configuration for an environment: the paper's reward scale is its Table 6, by the name of the task.

    It is the inverse temperature of soft agents; others take rewards as they are.
    """
    soft = preset == "paper" and agent in SOFT
    return replace(cfg, reward_scale=REWARD_SCALE.get(re.split(r"-v\d+$", env)[0], 1.0)) if soft else cfg


def choices(agent: "AnyAgent") -> dict[str, list[Any]]:
    """Returns the values of every setting that has few, by its name: those that any agent of the registry may take, and this one."""
    modules = sorted({module for presets in AGENTS.values() for module in presets.values()})
    presets = dict.fromkeys(preset for known in AGENTS.values() for preset in known)
    kinds = [import_module(f"wgf.agents.{module}").Config for module in modules]
    return {"agent": list(AGENTS), "preset": list(presets), **ranges.choices(*kinds, agent.Config)}


def label(agent: "str | AnyAgent") -> str:
    """Returns the name of an agent: as given, or "package.module:Name" of an object."""
    if isinstance(agent, str):
        return agent
    name = str(getattr(agent, "__qualname__", getattr(agent, "__name__", type(agent).__name__)))
    module = getattr(agent, "__module__", None)
    return f"{module}:{name}" if module else ":".join(name.rsplit(".", 1))


def named(what: str, name: str, option: str = "") -> str:
    """Returns a name that stood in a file. Raises ValueError for MODULE:NAME: only what a person or a program names is imported.

    ``option`` is how a person names it on the command line, where that is not by --what.
    """
    if ":" in name:
        raise ValueError(
            f"its {what} is {name!r}, and no file makes this program import a module: name it yourself, "
            f"by {option or f'--{what}'} {name} or in Python {what}={name!r}, if you trust that module"
        )
    return name


def _known(what: str, name: str, known: Mapping[str, T], to: str = "") -> T:
    if not isinstance(name, str) or name not in known:
        near, whom = difflib.get_close_matches(str(name).lower(), known, n=1), f" to {to}" if to else ""
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{what} {shown(name)} is unknown{whom}; choose from {', '.join(known)}{meant}")
    return known[name]


def _imported(path: str) -> Any:
    """Returns what "package.module:Name" names; Name may be a module too. Modules of the current folder are found."""
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = import_module(module)
        return getattr(found, name) if hasattr(found, name) else import_module(f"{module}.{name}")
    except (Exception, SystemExit) as error:  # a module's own code may raise anything, and may call sys.exit
        kind = "" if isinstance(error, (ImportError, ValueError)) else f"{type(error).__name__}: "
        raise ValueError(f"agent {path!r} cannot be imported: {kind}{' '.join(str(error).split())}") from None
