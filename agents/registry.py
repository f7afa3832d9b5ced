"""Which agents there are, by the names that a command line uses."""

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # names alone cost no torch: a command line lists the agents at once
    from wgf.agents import ddpg, dp_wgf, dp_wgf_v, ip_wgf, pg, ppo, sac, sac_v, soft_q, svpg, trpo, wpo
    from wgf.agents.training.protocol import Agent, AnyAgent, B, C, S, X, Y

    def fits(agent: Agent[C, S, B, X, Y]) -> None:
        """Checks that a module keeps the protocol's signatures, with one type each for what passes from one of its functions to another."""

    fits(ddpg)
    fits(dp_wgf)
    fits(dp_wgf_v)
    fits(ip_wgf)
    fits(pg)
    fits(ppo)
    fits(sac)
    fits(sac_v)
    fits(soft_q)
    fits(svpg)
    fits(trpo)
    fits(wpo)

AGENTS = {
    "ddpg": {"paper": "ddpg", "modern": "ddpg"},
    "dp-wgf": {"paper": "dp_wgf", "modern": "dp_wgf"},
    "dp-wgf-v": {"paper": "dp_wgf_v", "modern": "dp_wgf_v"},
    "ip-wgf": {"paper": "ip_wgf", "modern": "ip_wgf"},
    "pg": {"paper": "pg", "modern": "pg"},
    "ppo": {"paper": "ppo", "modern": "ppo"},
    "sac": {"paper": "sac_v", "modern": "sac"},
    "soft-q": {"paper": "soft_q", "modern": "soft_q"},
    "svpg": {"paper": "svpg", "modern": "svpg"},
    "trpo": {"paper": "trpo", "modern": "trpo"},
    "wpo": {"paper": "wpo", "modern": "wpo"},
}
SOFT = ("dp-wgf", "dp-wgf-v", "sac", "soft-q")  # their reward scale is an inverse temperature, Table 6 of Zhang et al. 2018


def find(name: str, preset: str) -> "tuple[AnyAgent, Any]":
    """(module, configuration) of an agent's preset. Raises ValueError for a name that is not there, with the nearest one."""
    for value, known, what in ((name, AGENTS, "agent"), (preset, AGENTS.get(name, {}), "preset")):
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            raise ValueError(
                f"{what} {value!r} is unknown; choose from {', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")
            )
    agent = cast("AnyAgent", import_module(f"wgf.agents.{AGENTS[name][preset]}"))
    return agent, agent.PRESETS[preset]
