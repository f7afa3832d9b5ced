"""Ranges of the agents' settings."""

from dataclasses import fields, replace

import pytest

from wgf.agents.registry import AGENTS, find
from wgf.agents.training.ranges import RANGES, check

PRESETS = [(name, preset) for name in AGENTS for preset in AGENTS[name]]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_is_inside_and_every_number_has_a_range(name, preset):
    _, cfg = find(name, preset)
    check(cfg)
    for field in fields(cfg):
        if isinstance(value := getattr(cfg, field.name), (int, float, tuple)) and not isinstance(value, bool):
            assert field.name in RANGES


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("inf")),
        ("lr", float("nan")),
        ("gamma", -0.1),
        ("gamma", 1.1),
        ("gamma", float("nan")),
        ("tau", 0.0),
        ("tau", 1.5),
        ("batch", 0),
        ("members", 0),
        ("particles", 0),
        ("hidden", (8, 0)),
        ("activation", "elu"),
        ("w2_scale", -0.1),
        ("w2_scale", float("inf")),
        ("reward_scale", 0.0),
    ],
)
def test_a_value_outside_is_named(field, bad):
    _, cfg = find("dp-wgf", "paper")
    with pytest.raises(ValueError, match=rf"^{field} is {str(bad).strip('()').replace(', ', ',')}; it must be "):
        check(replace(cfg, **{field: bad}))


@pytest.mark.parametrize(("field", "edge"), [("gamma", 0.0), ("gamma", 1.0), ("tau", 1.0), ("w2_scale", 0.0), ("batch", 1), ("hidden", ())])
def test_the_edges_are_inside(field, edge):
    _, cfg = find("dp-wgf", "paper")
    check(replace(cfg, **{field: edge}))
