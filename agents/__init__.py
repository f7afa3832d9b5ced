"""Agents: one file, one algorithm. ``Agent`` trains, evaluates, saves and loads any of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgf.agents.training.agent import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    if name == "Agent":  # names alone cost no torch: a command line lists the agents at once
        from wgf.agents.training.agent import Agent

        return Agent
    raise AttributeError(f"module 'wgf.agents' has no attribute {name!r}")
