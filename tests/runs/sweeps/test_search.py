"""A search draws settings, prunes, keeps what it knows in a sealed file, and says what it chose."""

import csv
import json
import signal

import pytest

from wgf.agents.training.checkpoint import read_sealed, write_sealed
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place, Sweep
from wgf.runs.sweeps.grid import entries
from wgf.runs.sweeps.search import Search, Study, evaluations
from wgf.runs.trainer.compare import read

pytest.importorskip("optuna", reason="the extra search is not installed")

SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "batch": [4, 8], "n_step": {"low": 1, "high": 3}}
AGENTS = ["sac:hidden=8"]


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_a_search_trains_so_many_settings_chooses_the_best_and_goes_on(sweep, forks):
    code, out, err = sweep(agents=AGENTS, grid=SPACE, search=2, slots=1)
    assert (code, err) == (0, "")
    file = sweep.cartpole / "sac,hidden=8.search.json"
    begun = read_sealed(file)["begun"]
    assert len(begun) == len(forks.started) == 2
    for trial in begun:
        assert set(trial["values"]) == set(SPACE)
        assert 1e-4 <= float(trial["values"]["lr"]) <= 1e-2
        assert trial["values"]["batch"] in ("4", "8")
        assert trial["values"]["n_step"] in ("1", "2", "3")
    code, out, err = sweep("--search", 3, agents=AGENTS, grid=SPACE, search=2, slots=1)
    assert (code, err) == (0, "")
    assert read_sealed(file)["begun"][:2] == begun
    assert len(forks.started) == 3
    labels = [command.args[1].replace(":", ",") for command, _ in forks.started]
    means = [read(label, [sweep.cartpole / label / "seed-0"]).evals.mean() for label in labels]
    best = labels[means.index(max(means))]
    (row,) = rows(sweep.folder / "chosen.csv")
    assert ",".join(["sac", "hidden=8", *row["chosen"].split()]) == best
    assert (row["settings"], row["mean return"], row["on"]) == ("3", f"{max(means):,.4g}", "seed 0")
    text = (sweep.folder / "chosen.txt").read_text()
    assert "partly by luck" in text
    assert f"--agents {best.replace(',', ':').replace('8:8', '8,8')} --preset paper --first-seed 1 --seeds 5 --steps 40" in text
    assert text in out


@pytest.fixture
def study(tmp_path):
    """``study(search=, **changes)``: a study of one step size and eight seeds' worth of files that a test writes."""

    def make(search=9, **changes):
        fields = {"environments": ("a/B-v0",), "agents": ["sac"], "search": search, "grid": {"lr": {"low": 0.1, "high": 0.9}}, "seeds": 2}
        what = Sweep(**{**fields, **changes})
        (entry,) = entries(what, ())
        return Study(entry, "a/B-v0", what, Schedule(), Place(out=str(tmp_path)))

    return make


def looks(study, k, values, seeds=(0, 1)):
    """Writes the evaluations of a setting that trains, after 10, 20, ... steps."""
    for seed in seeds:
        folder = study.settings[k].job.folder(seed)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{10 * (i + 1)},eval/return,{value + seed}" for i, value in enumerate(values)]
        (folder / "metrics.csv").write_text("\n".join(["step,tag,value", "10,losses/q,3.0", *lines, "99,eval/return,5"]))


def test_what_is_below_the_median_of_the_others_at_its_step_is_pruned(study):
    mine = study()
    for _ in range(7):
        mine.more()
    for k in range(5):
        looks(mine, k, [10.0 * k, 10.0 * k])
        mine._values[k] = 10.0 * k  # five have come to their end: the median is asked from then on
    looks(mine, 5, [19.0])  # the median of the five is 20, and all are 1 / 2 more, since seed 1 has 1 more
    looks(mine, 6, [21.0])
    assert mine.hopeless() == [mine.settings[5]]
    assert mine.begun[5]["pruned"] == 10
    assert (mine.state(5), mine.state(6)) == ("PRUNED", "RUNNING")
    assert mine.hopeless() == []
    looks(mine, 6, [21.0, 19.0])
    assert mine.hopeless() == []  # its best so far is above the median
    again = study()
    assert (again.state(5), again.state(6)) == ("PRUNED", "RUNNING")
    assert again.settings == mine.settings


def test_what_was_pruned_is_not_trained_again(tmp_path):
    what = Sweep(environments=("a/B-v0",), agents=["sac"], search=3, grid={"lr": {"low": 0.1, "high": 0.9}}, seeds=1)
    search = Search(entries(what, ()), what, Schedule(), Place(out=str(tmp_path)))
    first, second = search.more(), search.more()
    assert list(search.due()) == list(search.known()) == [first, second]
    search.studies[0].begun[0]["pruned"] = 10
    assert search.due() == [second]
    assert search.known() == [first, second]
    assert search.states() == {first: "pruned"}


def test_a_search_has_so_many_settings_for_each_agent_in_each_environment(tmp_path):
    grid = {"lr": {"low": 0.1, "high": 0.9}}
    what = Sweep(environments=("a/B-v0", "C-v1"), agents=["sac", "ddpg"], search=3, grid=grid, seeds=1)
    search = Search(entries(what, ()), what, Schedule(), Place(out=str(tmp_path)))
    begun = list(iter(search.more, None))
    assert len(begun) == search.total == 2 * 2 * 3
    assert [each.job.env for each in begun].count("C-v1") == 6


def test_an_evaluation_counts_where_all_seeds_have_it(study):
    mine = study()
    mine.more()
    looks(mine, 0, [1.0, 2.0, 3.0])
    looks(mine, 0, [1.0, 2.0], seeds=(1,))
    assert mine._evaluations(0) == {10: 1.5, 20: 2.5}  # means over seeds, whose values are 1 apart; a line without its end does not count
    assert evaluations(mine.settings[0].job.folder(7)) == {}


def test_what_is_proposed_follows_from_what_is_known(study):
    one = study()
    first = [one.more() for _ in range(2)]
    other = study()
    assert other.settings == first
    assert other.more() == one.more()
    assert len({each.token for each in one.settings}) == 3
    assert study(search=3).more() is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": {"lr": {"low": 0.1, "high": 0.8}}}, r"holds a search with space.lr = \[0.1, 0.9, .*\], not \[0.1, 0.8, "),
        ({"seeds": 3}, r"holds a search with seeds = \[0, 1\], not \[0, 1, 2\]; give another --name or --out"),
        ({"agents": ["sac"], "preset": "modern"}, "holds a search with preset = 'paper', not 'modern'"),
    ],
)
def test_a_search_of_other_settings_is_refused(study, changes, said):
    study().more()
    with pytest.raises(ValueError, match=said):
        study(**changes)


@pytest.mark.parametrize(
    "begun",
    [
        [3],
        [{"values": {"lr": "0.5"}}],
        [{"values": {"lr": "5.0"}, "pruned": None}],
        [{"values": {"lr": "0.5", "tau": "1"}, "pruned": None}],
        [{"values": {"lr": [0.5]}, "pruned": None}],
        [{"values": {"lr": "0.5"}, "pruned": "x"}],
    ],
)
def test_a_file_of_a_search_that_wgf_did_not_write_is_refused(study, begun):
    mine = study()
    mine.more()
    (path,) = mine.settings[0].job.folder(0).parents[1].glob("*.search.json")
    write_sealed(path, {**read_sealed(path), "begun": begun})
    with pytest.raises(ValueError, match=f"^{path} was not written by wgf: [^\n]*$"):
        study()
    path.write_text(json.dumps({**json.loads(path.read_text()), "begun": []}))
    with pytest.raises(ValueError, match="is damaged or was edited"):
        study()


def test_a_search_that_is_stopped_goes_on_with_the_setting_it_had_begun(sweep, forks):
    """The first setting is stopped by hand until it counts as failed; the next call goes on with that one."""

    class Stopped:
        def poll(self):
            return -signal.SIGKILL

        kill = terminate = lambda self: None

    start = forks.start
    forks.start = lambda command: Stopped()
    fields = {"agents": AGENTS, "grid": SPACE, "search": 1, "slots": 1}
    code, _, _ = sweep(**fields)
    assert code == 70
    assert rows(sweep.folder / "chosen.csv")[0]["failed"] == "1"
    begun = read_sealed(sweep.cartpole / "sac,hidden=8.search.json")["begun"]
    forks.start = start
    code, _, err = sweep(**fields)
    assert (code, err) == (0, "")
    assert read_sealed(sweep.cartpole / "sac,hidden=8.search.json")["begun"] == begun
    assert rows(sweep.folder / "chosen.csv")[0]["failed"] == "0"
