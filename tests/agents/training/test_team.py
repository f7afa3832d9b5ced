"""Trainings that several processes share: real ones, joined by gloo, against one process."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests import ranks as started
from tests.agents.training import shared
from wgf.agents import es, ip_wgf
from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.loop import Keeper
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Rollout
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.team import Team, facts
from wgf.ranks import Group
from wgf.shards import Shards

pytestmark = started.needs_gloo
PROGRAM = Path(shared.__file__)
# a product of the centre's weights with the rows of all policies; sums over a segment, rows of a gram matrix
ONE_OF_TWO = Shards(Group(1, 2), (3, 2))
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


def test_a_rank_draws_for_its_policies_what_one_process_draws_for_them():
    def streams():
        return Streams([torch.Generator().manual_seed(k) for k in (0, 1)])

    whole, mine = streams(), Team(ONE_OF_TWO, apart=True).draw(streams())
    for each in (1, 4):  # weights of each policy; actions of its four environments
        assert torch.equal(mine.normal(2 * each, 3), whole.normal(5 * each, 3)[:, 3 * each :])
    same = streams()
    assert Team(ONE_OF_TWO).draw(same) is same  # where every rank has all policies


def test_the_environments_of_all_ranks_are_those_of_one_process():
    starts, at = [], []
    for rank in (0, 1):
        memory = Rollout(5, 3, 2, 0.9, pieces=1)
        team = memory.share(Group(rank, 2))
        assert memory.envs == 3 * team.policies
        starts += memory.starts(7)
        at.append(team.within)
    assert starts == Rollout(5, 3, 2, 0.9, pieces=1).starts(7)
    assert at == [(0, 15), (9, 15)]
    assert memory.size == 5 * 3 * 2


@pytest.mark.parametrize("given", [{}, {"weight_noise": 0.1}, {"weight_noise": 0.1, "sigma": "learned"}])
def test_a_rank_of_ip_wgf_has_copies_of_its_rows_and_one_of_es_the_same_tensors(given):
    generators, cpu = [torch.Generator().manual_seed(k) for k in (0, 1)], torch.device("cpu")
    state = ip_wgf.init(ip_wgf.Config(particles=5, hidden=(3,), **given), 2, 1, generators, cpu)
    for t in tensors(state).values():
        t.copy_(torch.arange(t.numel()).view(t.shape) + 1.0)
    own = ip_wgf.share(state, ONE_OF_TWO)
    found = Team(ONE_OF_TWO, apart=True).mine(tensors(state))
    assert found.keys() == tensors(own).keys()
    for name, t in tensors(own).items():
        assert torch.equal(t, found[name])
        assert torch.equal(t, tensors(state)[name][:, 3:] if t.ndim else tensors(state)[name])
        assert t.data_ptr() not in {other.data_ptr() for other in tensors(state).values()}
    assert (own.policy.lr, own.v.lr) == (state.policy.lr, state.v.lr) == (5e-3, 1e-2)

    state = es.init(es.Config(pairs=2, hidden=(3,)), 2, 1, generators, cpu)
    own = es.share(state, ONE_OF_TWO)
    assert all(t is tensors(state)[name] for name, t in tensors(own).items())


def test_what_ranks_compare_has_settings_by_their_own_names_and_not_where_a_rank_runs():
    about = {"agent": "es", "config": {"lr": 1.0}, "schedule": {"steps": 2}, "versions": {"torch": "3"}, "host": "a", "process": 4}
    assert facts(about) == {"agent": "es", "lr": 1.0, "steps": 2, "versions.torch": "3"}


@pytest.mark.parametrize("late", [False, True])
def test_a_team_takes_a_checkpoint_at_an_evaluation_where_the_first_rank_says_that_it_is_late(late):
    team, keeper = Team(ONE_OF_TWO), Keeper(None)
    team.late = late
    assert keeper.late()  # by itself it would take one
    assert keeper.due(Schedule(), 0, 5, True, team) is late
    assert not keeper.due(Schedule(), 0, 5, False, team)
