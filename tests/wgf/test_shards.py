"""Particles of several processes: real ones, joined by gloo, against one process."""

import os
from pathlib import Path

import pytest
import torch

from tests import ranks as started
from tests.wgf import sharded
from wgf import flow, ranks
from wgf.bnn import BayesianRegressor
from wgf.bnn.fit import fit
from wgf.bnn.settings import Settings
from wgf.ranks import Group
from wgf.shards import ALONE, Shards

pytestmark = started.needs_gloo
PROGRAM = Path(sharded.__file__)


@pytest.fixture(scope="module")
def alone():
    """What one process finds."""
    return sharded.computed(ALONE), sharded.fits(ALONE)


@pytest.fixture(scope="module", params=[2, 3])
def several(request, tmp_path_factory):
    """What so many processes find together, and their number."""
    place = tmp_path_factory.mktemp("ranks") / "found.pt"
    for code, _, said in started.copies(request.param, PROGRAM, place):
        assert code == 0, said
    return torch.load(place), request.param


def test_ranks_find_together_what_one_process_finds(alone, several):
    for name, (v, _) in alone[0].items():
        # a product of a few rows need not round as that of all does; Sinkhorn's sums have another order, through some 50 iterations
        torch.testing.assert_close(several[0][name][0], v, rtol=1e-12, atol=1e-12 * v.abs().max().item(), msg=name)


def test_a_kl_velocity_and_eq_9_take_one_collective_and_blob_one_for_its_masses(several):
    free = ("velocity", "unbiased", "gfsd", "foreign", "eq9_sum", "eq9_mean", "exact", "common_noise", "divergence")
    for name, (_, count) in ((k, v) for k, v in several[0].items() if k not in ("fits", "told")):
        word = name.removeprefix("with ").split()[0]
        if word in free:
            assert count == 1, name
        elif word == "blob":
            assert count == 2, name


def test_sinkhorn_takes_one_collective_for_each_iteration_and_one_for_its_potential(several, monkeypatch):
    from wgf import sinkhorn, transport

    x, _, x_prev = sharded.clouds(sharded.M, 9)
    sums = [0]
    monkeypatch.setattr(sinkhorn, "total", lambda part: (sums.__setitem__(0, sums[0] + 1), part)[1])
    transport.entropic(x, x_prev)
    assert several[0]["entropic (37, 9) 2048"][1] == 1 + sums[0] + 1


def test_a_flow_takes_one_collective_for_each_step_and_one_for_each_iterate(several):
    assert several[0]["a flow, svgd"][1] == 3 * (4 + 1)


@pytest.mark.parametrize("name", sharded.FITS)
def test_a_fit_in_shards_is_the_fit_of_one_process(alone, several, name):
    # float32, with the rounding of 40 steps of RMSProp, whose quotient v / sqrt(v^2) a small v magnifies
    torch.testing.assert_close(several[0]["fits"][name], alone[1][name], rtol=1e-4, atol=1e-5)


def test_shards_are_even_with_the_longer_ones_first_or_as_each_rank_owns(several):
    counts, start, flags = several[0]["told"]
    assert sum(counts) == sharded.M
    assert sorted(counts, reverse=True) == [*counts]
    assert max(counts) - min(counts) <= 1
    assert (start, flags) == (0, [True, False])


def test_one_process_alone_gives_and_takes_what_it_has(draw):
    x = draw(4, 2)
    assert ALONE.mine(x) is ALONE.gather(x) is x
    assert ALONE.velocity(lambda a, b: a + b, x, x).equal(2.0 * x)
    assert Group().together(lambda: 3) == Group().first(lambda: 3) == 3
    with pytest.raises(OSError, match="full"):
        Group().together(lambda: (_ for _ in ()).throw(OSError("full")))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Shards.even(Group(0, 4), 3), "4 ranks are too many for 3 particles; start at most 3"),
        (lambda: Shards(Group(0, 2), (3,)), r"counts is \(3,\); allowed are 2 numbers of at least 1"),
        (lambda: Shards(Group(0, 2), (3, 0)), r"counts is \(3, 0\)"),
        (lambda: Shards(Group(1, 2), (3, 2)).gather(torch.zeros(3, 4)), r"owns 2 particles, but the tensor has shape \(3, 4\)"),
        (lambda: flow.jko(lambda x: x, h=1.0, lr=0.1, inner_steps=1, shards=2), "shards is 2; pass a wgf.shards.Shards"),
        (lambda: fits_of(flow="smi"), "flow is 'smi'; shards are for"),
        (lambda: fits_of(flow="dropout"), "flow is 'dropout'; shards are for"),
        (lambda: fits_of(compile=True), "compile is True, but a fit in shards is not compiled"),
        (lambda: fits_of(particles=6), "particles is 6, but the shards hold 5"),
        (lambda: BayesianRegressor(shards=2, random_state=0).fit(*toy()), "shards is 2; choose from True, False"),
        (lambda: BayesianRegressor(shards=True).fit(*toy()), "random_state is None; with shards give a whole number"),
        (lambda: BayesianRegressor(shards=True, random_state=0).fit(*toy()), "no RANK and no WORLD_SIZE; start the command by: torchrun"),
    ],
)
def test_what_cannot_be_meant_is_one_line(make, says, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=says) as raised:
        make()
    assert "\n" not in str(raised.value)


def toy():
    x = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64)[:, None]
    return x.numpy(), x[:, 0].square().numpy()


def fits_of(compile=False, **given):
    x = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64)[None, :, None]
    settings = Settings(**{"particles": 5, "iterations": 2} | given)
    return fit(settings, x, x.square(), [0], compile=compile, shards=Shards(Group(0, 2), (3, 2)))


def test_a_back_end_that_this_torch_lacks_is_named(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setitem(ranks.BACKENDS, "cpu", ("gloo", lambda: False))
    with pytest.raises(ValueError, match="shards on cpu need the back end gloo, which this torch lacks"):
        ranks.joined(torch.device("cpu"))


MEMORY = """
from pathlib import Path
import torch
from wgf import ranks, svgd
from wgf.shards import ALONE, Shards

def status(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))

def score(x):  # of something that takes memory: twelve numbers for each of x
    return -x.repeat(1, 12).view(len(x), 12, -1).mean(1)

torch.set_num_threads(1)
group = ranks.joined(torch.device("cpu"))
for shards in (ALONE, Shards.even(group, 2100)):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    x = torch.randn(2100 // len(shards.counts), 1000)
    for _ in range(2):
        x.add_(shards.velocity(svgd.velocity, x, score(x)), alpha=1e-7)
    print(status("VmHWM") - before)
    del x
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a process cannot be begun anew here")
def test_each_of_two_ranks_takes_about_half_the_memory_where_the_score_takes_some(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(MEMORY)
    for code, out, said in started.together(2, program):
        assert code == 0, said
        one, each = map(int, out.split())
        assert one > 14 * 2100 * 1000 * 4 / 1024  # the score's numbers and their source
        assert each < 0.6 * one
