"""What a file of a sweep says, and how it is refused."""

import pytest

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, Sweep
from wgf.runs.command.tokens import split
from wgf.runs.sweeps.grid import Range, entries, settings
from wgf.runs.trainer.compare import plan


def tokens(**fields):
    what = Sweep(**{"environments": ("a/B-v0",), **fields})
    return [each.token for each in settings(what, entries(what, ()), Schedule(), Place())]


def test_every_list_of_values_multiplies():
    found = tokens(agents=["sac", "ddpg:batch=8"], grid={"lr": [1e-3, 1e-2], "hidden": [[8, 8], [4]]})
    ends = ["lr=0.001:hidden=8,8", "lr=0.001:hidden=4", "lr=0.01:hidden=8,8", "lr=0.01:hidden=4"]
    assert found == [f"{agent}:{end}" for agent in ("sac", "ddpg:batch=8") for end in ends]


def test_an_agent_has_a_grid_of_its_own_which_counts_more():
    found = tokens(agents=["sac", {"agent": "dp-wgf", "grid": {"lr": [0.5], "particles": [2, 4]}}], grid={"lr": [0.25]})
    assert found == ["sac:lr=0.25", "dp-wgf:lr=0.5:particles=2", "dp-wgf:lr=0.5:particles=4"]


def test_without_a_grid_each_agent_is_one_setting_in_each_environment():
    what = Sweep(environments=("a/B-v0", "C-v1"), agents=["sac:preset=modern", "ddpg"], seeds=3, first_seed=2)
    found = settings(what, entries(what, ()), Schedule(), Place(out="o", name="n"))
    assert [(each.job.env, each.job.agent, each.job.preset) for each in found] == [
        ("a/B-v0", "sac", "modern"), ("a/B-v0", "ddpg", "paper"), ("C-v1", "sac", "modern"), ("C-v1", "ddpg", "paper"),
    ]  # fmt: skip
    assert {each.job.seeds for each in found} == {(2, 3, 4)}


def test_a_setting_is_the_job_that_a_comparison_has_for_it():
    what = Sweep(environments=("a/B-v0",), agents=["sac:preset=modern"], grid={"hidden": [[8, 4]], "lr": [3e-4]})
    (found,) = settings(what, entries(what, ()), Schedule(), Place())
    contest = Contest(("sac",), "a/B-v0")
    assert found.job == plan("sac:preset=modern:hidden=8,4:lr=0.0003", contest, Schedule(), Place())
    assert found.job.label == "sac,preset=modern,hidden=8,4,lr=0.0003"
    assert (found.job.cfg.hidden, found.job.cfg.lr) == ((8, 4), 3e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"agents": []}, "agents is []; it must be a list, as in agents: [sac, dp-wgf-v]"),
        ({"agents": "sac"}, "agents is 'sac'; it must be a list"),
        ({"agents": [3]}, "agents has 3; it must be a name"),
        ({"agents": ["sacc"]}, "did you mean 'sac'?"),
        ({"agents": [{"agent": "sac", "gird": {}}]}, "an agent has 'gird'; did you mean 'grid'?"),
        ({"agents": [{"agent": "sac", "grid": {"lrr": [1.0]}}]}, "agent 'sac': setting 'lrr' is unknown; did you mean 'lr'?"),
        ({"grid": [1]}, "grid is [1]; it must name settings with their values"),
        ({"grid": {"lr": 1e-3}}, "lr is 0.001; it must be a list of values, as in lr: ["),
        ({"grid": {"lr": []}}, "lr is []; it must be a list of values"),
        ({"grid": {"lr": ["much"]}}, "lr is 'much'; it must be a number"),
        ({"grid": {"lr": [0.5, 0.5]}}, "lr has 0.5 twice; name it once"),
        ({"grid": {"lr": [-1.0]}}, "lr is -1.0; it must be above 0"),
        ({"grid": {"lr": {"low": 1e-4, "high": 1e-2}}}, "lr is a range, of which a search draws: give search: 20, or a list of values"),
        ({"search": 2, "grid": {"lr": {"low": 1e-2, "high": 1e-4}}}, "lr is {'low': 0.01, 'high': 0.0001}; it must be {low:"),
        ({"search": 2, "grid": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}, "above 0 with log: true"),
        ({"search": 2, "grid": {"lr": {"low": 1, "hihg": 2}}}, "lr has 'hihg'; did you mean 'high'?"),
        ({"search": 2, "grid": {"batch": {"low": 1, "high": 2.5}}}, "batch is 2.5; it must be a whole number"),
        ({"search": 2, "grid": {"lr": {"low": 1.0, "high": 2.0, "step": 3.0}}}, "lr has step 3.0; it must be a number from 0 to 1"),
        ({"search": 2, "grid": {"lr": {"low": 1.0, "high": 2.0, "step": 1.5}}}, "lr has step 1.5; it must be a number from 0 to 1"),
        ({"agents": ["sac", "sac"]}, "agent 'sac' is named twice; name it once"),
        ({"agents": ["mine:Own"]}, "agent is 'mine:Own', and no file has a module imported: say --modules mine"),
        ({"environments": ("mine:Own-v0",)}, "environment is 'mine:Own-v0', and no file has a module imported: say --modules mine"),
        (
            {"grid": {name: list(range(1, 60)) for name in ("batch", "n_step", "envs")}},
            "the grid has 205,379 settings; it must have at most 100,000",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_name(fields, said):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        tokens(**{"agents": ["sac:preset=modern"], **fields})
    assert said in str(error.value)


def test_a_range_of_a_whole_number_gives_whole_numbers():
    grid = {"batch": {"low": 8, "high": 64}, "lr": {"low": 1, "high": 2}, "tau": {"low": 0.25, "high": 0.75, "step": 0.5}}
    what = Sweep(environments=("a/B-v0",), agents=["sac"], search=3, grid=grid)
    (found,) = entries(what, ())
    assert found.space == {"batch": Range(8, 64, whole=True), "lr": Range(1, 2), "tau": Range(0.25, 0.75, step=0.5)}


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("sac", ("sac", None, [])),
        ("sac:preset=modern:lr=1", ("sac", "modern", ["lr=1"])),
        ("mine:Own", ("mine:Own", None, [])),
        ("mine.deep:Own:lr=1:preset=x", ("mine.deep:Own", "x", ["lr=1"])),
        ("sac:lr", ("sac", None, ["lr"])),
        ("sacc:lr=1", ("sacc", None, ["lr=1"])),
    ],
)
def test_a_token_has_an_agent_a_preset_and_settings(token, parts):
    assert split(token) == parts
