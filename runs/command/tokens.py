"""Agents with settings in one word, as in dp-wgf-v:w2_scale=0:preset=modern. Free of torch, so that a wrong word is told at once."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from wgf.agents.registry import AGENTS
from wgf.runs.command.arguments import parse

__all__ = ["label", "override", "split"]


def split(token: str) -> tuple[str, str | None, list[str]]:
    """Returns the agent, the preset if one is named, and the settings of "AGENT:preset=NAME:field=value:..."; AGENT may be MODULE:NAME."""
    parts = token.split(":")
    own = parts[0] not in AGENTS and len(parts) > 1 and "=" not in parts[1]
    name, rest = ":".join(parts[: 1 + own]), parts[1 + own :]
    presets = [part.removeprefix("preset=") for part in rest if part.startswith("preset=")]
    return name, presets[-1] if presets else None, [part for part in rest if not part.startswith("preset=")]


def label(token: str) -> str:
    """Returns the name of a token's folder: commas part its settings."""
    name = split(token)[0]
    return name + token[len(name) :].replace(":", ",")


def override(cfg: Any, settings: Sequence[str]) -> Any:
    """Returns cfg with "field=value" settings. Raises ValueError for an unknown field, UsageError for a value that does not fit it."""
    known = sorted(f.name for f in fields(cfg))
    pairs = [s.partition("=") for s in settings]
    for (field, equals, _), setting in zip(pairs, settings, strict=True):
        if field not in known or not equals:
            raise ValueError(f"setting {setting!r} is not FIELD=VALUE; the fields of this agent are {', '.join(known)}")
    args = [part for field, _, value in pairs for part in (f"--{field.replace('_', '-')}", value)]
    return parse(type(cfg), args, default=cfg, prog="wgf train AGENT")
