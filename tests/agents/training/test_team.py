"""Trainings that several processes share: real ones, joined by gloo, against one process."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests import ranks as started
from tests.agents.training import shared

pytestmark = started.needs_gloo
PROGRAM = Path(shared.__file__)
# a product of the centre's weights with the rows of all policies; rows of a gram matrix with all particles
ROUNDED = ("es rank", "ip-wgf")


@pytest.fixture(scope="module")
def alone():
    """What one process finds."""
    return shared.everything(False)


@pytest.fixture(scope="module", params=[2, 3])
def several(request, tmp_path_factory):
    """What so many processes find together."""
    place = tmp_path_factory.mktemp("ranks") / "found.pt"
    for code, _, said in started.copies(request.param, PROGRAM, place):
        assert code == 0, said
    return torch.load(place, weights_only=False)


def test_a_shared_training_is_that_of_one_process(alone, several):
    for key, mine in alone.items():
        found = several[key]
        pairs = [(mine["state"], found["state"]), *zip(mine["seen"], found["seen"], strict=True)]
        pairs += [({"episodes": torch.from_numpy(mine["episodes"].returns)}, {"episodes": torch.from_numpy(found["episodes"].returns)})]
        for one, other in pairs:
            assert one.keys() == other.keys()
            for name, t in one.items():
                tight = {"rtol": 0.0, "atol": 0.0}
                if key[0].startswith(ROUNDED):
                    tight = dict.fromkeys(tight, 1e-12 if key[1] == torch.float64 else 1e-4)
                torch.testing.assert_close(other[name], t, **tight, equal_nan=True, msg=f"{key} {name}")


def test_an_iteration_of_evolution_strategies_takes_one_collective(several):
    for (name, _), found in several.items():
        if name.startswith("es"):
            assert len(found["counts"]) > 2
            assert {after - before for before, after in pairwise(found["counts"])} == {1}, name


def test_an_update_of_ip_wgf_takes_two_collectives_and_a_look_one(several):
    for (name, _), found in several.items():
        if name.startswith("ip-wgf") and "debiased" not in name:  # whose plans take theirs
            first, second, third = found["counts"]  # after three updates each, with all policies for the callback
            assert (second - first, third - second) == (3 * 2 + 1 + 1, 3 * 2 + 1 + 1 + 1), name  # at last an evaluation


def test_an_environment_that_breaks_on_one_rank_ends_its_seeds_on_all_and_is_named(tmp_path):
    for code, _, said in started.copies(2, PROGRAM, tmp_path / "found.pt", "broken"):
        assert code == 0, said
    found = torch.load(tmp_path / "found.pt")
    assert found.keys() == {"es", "ip-wgf"}
    for text in found.values():
        assert text.startswith("every seed failed: environment 'Breaks' ")
        assert "a wheel came off" in text
