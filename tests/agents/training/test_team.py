"""Trainings that several processes share: real ones, joined by gloo, against one process."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests import ranks as started
from tests.agents.training import shared

pytestmark = started.needs_gloo
PROGRAM = Path(shared.__file__)
ROUNDED = ("es rank",)  # a product of the centre's weights with the rows of all policies


@pytest.fixture(scope="module")
def alone():
    """What one process finds."""
    return shared.everything(False)


@pytest.fixture(scope="module", params=[2, 3])
def several(request, tmp_path_factory):
    """What so many processes find together."""
    place = tmp_path_factory.mktemp("ranks") / "found.pt"
    for code, _, said in started.together(request.param, PROGRAM, place):
        assert code == 0, said
    return torch.load(place, weights_only=False)


def test_a_shared_training_is_that_of_one_process_bit_for_bit(alone, several):
    for key, mine in alone.items():
        found = several[key]
        pairs = [(mine["state"], found["state"]), *zip(mine["seen"], found["seen"], strict=True)]
        pairs += [({"episodes": torch.from_numpy(mine["episodes"].returns)}, {"episodes": torch.from_numpy(found["episodes"].returns)})]
        for one, other in pairs:
            assert one.keys() == other.keys()
            for name, t in one.items():
                tight = {"rtol": 0.0, "atol": 0.0}
                if key[0] in ROUNDED:
                    tight = dict.fromkeys(tight, 1e-9 if key[1] == torch.float64 else 1e-3)
                torch.testing.assert_close(other[name], t, **tight, equal_nan=True, msg=f"{key} {name}")


def test_an_iteration_of_evolution_strategies_takes_one_collective(several):
    for (name, _), found in several.items():
        if name.startswith("es"):
            assert len(found["counts"]) > 2
            assert {after - before for before, after in pairwise(found["counts"])} == {1}, name
