"""The settings that a command line shows without torch, beside those of the agents themselves."""

import inspect
import json
import subprocess
import sys
from dataclasses import asdict
from typing import get_type_hints

import pytest

from wgf.agents.registry import AGENTS
from wgf.agents.training.description import resolve
from wgf.runs.command.excerpt import configuration

PRESETS = [(agent, preset) for agent, presets in AGENTS.items() for preset in presets]
SHOWN = """
import inspect, json, sys
from dataclasses import asdict
from typing import get_type_hints
from wgf.runs.command.excerpt import configuration
for agent, preset in json.loads(sys.argv[1]):
    cfg = configuration(agent, preset, "Swimmer-v5")
    kinds = type(cfg).__mro__[:-1]
    hints = {name: str(kind) for name, kind in get_type_hints(type(cfg)).items()}
    print(json.dumps([asdict(cfg), hints, [inspect.getsource(kind) for kind in kinds]]))
assert "torch" not in sys.modules
"""


def test_what_is_shown_without_torch_is_what_the_agents_have():
    done = subprocess.run([sys.executable, "-c", SHOWN, json.dumps(PRESETS)], capture_output=True, text=True, check=True)
    for (agent, preset), line in zip(PRESETS, done.stdout.splitlines(), strict=True):
        cfg = resolve(agent, preset, "Swimmer-v5")
        values, hints, sources = json.loads(line)
        assert values == json.loads(json.dumps(asdict(cfg))), (agent, preset)
        assert hints == {name: str(kind) for name, kind in get_type_hints(type(cfg)).items()}, (agent, preset)
        assert sources == [inspect.getsource(kind) for kind in type(cfg).__mro__[:-1]], (agent, preset)


def test_a_name_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'sac'"):
        configuration("sca", "paper", "Hopper-v5")
    with pytest.raises(ValueError, match="preset 'bgpg' is unknown"):
        configuration("sac", "bgpg", "Hopper-v5")
