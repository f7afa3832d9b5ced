"""wgf compare: what it trains, what it reuses, and the figure and table that it writes."""

import csv
import json
import shutil
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from filelock import FileLock
from matplotlib import image
from scipy import stats

from tests.forgeries import misread
from wgf.agents.training.checkpoint import digest, read_sealed, write_sealed
from wgf.runs.trainer import compare
from wgf.runs.trainer.figures import COLORS, figure

SHORT = (
    "--env",
    "InvertedPendulum-v5",
    "--seeds",
    2,
    "--steps",
    60,
    "--warmup",
    20,
    "--eval-every",
    30,
    "--log-every",
    15,
    "--eval-episodes",
    2,
)
SAC, DP = "sac:hidden=8,8:batch=8", "dp-wgf-v:w2_scale=0:hidden=8,8:batch=8"


def folder(person, label, seed=0):
    return person.folder / "runs" / "main" / "InvertedPendulum-v5" / label.replace(":", ",") / f"seed-{seed}"


def stamps(person):
    return {p: p.stat().st_mtime_ns for p in person.folder.rglob("metrics.csv")}


def test_a_comparison_trains_what_is_missing_and_reuses_the_rest(person):
    code, out, err = person("compare", *SHORT, "--agents", SAC)
    assert (code, err) == (0, "")
    first = stamps(person)
    assert len(first) == 2
    code, out, err = person("compare", *SHORT, "--agents", SAC, DP)
    assert (code, err) == (0, "")
    assert first.items() <= stamps(person).items()
    assert len(stamps(person)) == 4
    assert json.loads((folder(person, DP) / "config.json").read_text())["config"]["w2_scale"] == 0.0
    again = stamps(person)
    code, out, err = person("compare", *SHORT, "--agents", SAC, DP)
    assert (code, err) == (0, "")
    assert stamps(person) == again
    assert "replay:" not in out  # nothing was trained
    results = folder(person, SAC).parents[1]
    with open(results / "compare.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["agent"] for row in rows] == [SAC.replace(":", ","), DP.replace(":", ",")]
    assert list(rows[0]) == [
        "agent", "seeds", "steps", "final return, IQM [95 %]", "best average return", "episodes to 950",
        f"mean - that of {SAC.replace(':', ',')}", f"P(better than {SAC.replace(':', ',')})", "p (Welch, ranks)", "steps/s, all seeds",
    ]  # fmt: skip
    assert (results / "compare.txt").read_text() in out
    lines = (results / "compare.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(rows[0])
    assert len(lines) == 6
    assert lines[-1].startswith("With five seeds, a 95 % bootstrap interval covers about 84 % (mean) to 89 %")
    assert lines[-1] in out
    picture = image.imread(results / "compare.png")
    assert (results / "compare.pdf").read_bytes().startswith(b"%PDF")
    colours = {tuple(c) for c in np.rint(255 * picture[..., :3].reshape(-1, 3)).astype(int).tolist()}
    assert {tuple(bytes.fromhex(color[1:])) for color in COLORS[:2]} <= colours  # both curves


def test_unfinished_runs_go_on_and_those_without_a_checkpoint_are_moved_aside(person):
    person("compare", *SHORT, "--agents", SAC)
    curves = [(folder(person, SAC, k) / "metrics.csv").read_text() for k in (0, 1)]
    (folder(person, SAC, 0) / "result.json").unlink()  # died
    write_sealed(folder(person, SAC, 1) / "result.json", {"status": "interrupted"})
    code, out, err = person("compare", *SHORT, "--agents", SAC)
    assert (code, err) == (0, "")
    assert "from step" in out
    for k in (0, 1):
        assert json.loads((folder(person, SAC, k) / "result.json").read_text())["status"] == "finished"
        assert (folder(person, SAC, k) / "metrics.csv").read_text() == curves[k]
    shutil.rmtree(folder(person, SAC, 0) / "training")
    (folder(person, SAC, 1) / "result.json").unlink()
    code, _, err = person("compare", *SHORT, "--agents", SAC)
    assert code == 0
    assert err.count("was not finished: moved to seed-1.unfinished-1") == err.count("\n") == 1
    assert (folder(person, SAC, 1).with_name("seed-1.unfinished-1") / "metrics.csv").exists()
    assert json.loads((folder(person, SAC, 1) / "result.json").read_text())["status"] == "finished"


def test_a_seed_that_is_trained_again_alone_is_the_one_of_the_stack(person):
    person("compare", *SHORT, "--agents", SAC)
    before = (folder(person, SAC, 1) / "metrics.csv").read_text()
    (folder(person, SAC, 1) / "result.json").unlink()
    shutil.rmtree(folder(person, SAC, 0) / "training")
    person("compare", *SHORT, "--agents", SAC)

    def returns(text):
        return [float(r["value"]) for r in csv.DictReader(text.splitlines()) if r["tag"] == "charts/episodic_return"]

    after = returns((folder(person, SAC, 1) / "metrics.csv").read_text())
    assert returns(before)[:2] == after[:2]


def test_runs_of_other_settings_are_refused(person, tiny):
    person("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    code, _, err = person("compare", *SHORT, "--agents", "sac")
    assert code == 2
    holds = "wgf: runs/main/InvertedPendulum-v5/sac/seed-0 holds a run with config.hidden = [8, 8], not [128, 128]"
    assert err == f"{holds}; give another --name or --out\n"


def test_a_run_that_is_being_written_is_refused(person):
    person("compare", *SHORT, "--agents", SAC)
    (folder(person, SAC) / "result.json").unlink()
    with FileLock(folder(person, SAC) / ".lock"):
        code, _, err = person("compare", *SHORT, "--agents", SAC)
    assert code == 2
    assert "seed-0 is being written by another process; wait for it" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.json", "{", "config.json is not JSON"),
        ("result.json", "[]", "result.json holds no JSON object"),
        ("config.json", '{"agent": "sac"}', "config.json has no seal: another version of wgf wrote it, or it was edited; move it away"),
        (
            "metrics.csv",
            "step,tag,value\n30,eval/return,1\n60,eval/return,1\n",
            "metrics.csv is damaged: its sha256 is not the one in result.json",
        ),
        ("metrics.csv", None, "metrics.csv cannot be read: No such file or directory"),
    ],
)
def test_damaged_runs_are_named(person, name, text, words):
    person("compare", *SHORT, "--agents", SAC)
    path = folder(person, SAC, 1) / name
    path.unlink() if text is None else path.write_text(text)
    code, _, err = person("compare", *SHORT, "--agents", SAC)
    assert code == 2
    assert words in err
    assert "seed-1" in err
    assert err.count("\n") == 1


def test_a_reader_beside_a_run_that_is_exchanged_reads_again(person, monkeypatch):
    person("compare", *SHORT, "--agents", SAC)
    path = folder(person, SAC)
    read, more = compare.read_whole, (path / "metrics.csv").read_text() + "60,eval/length,1.0\n"

    def overtaken(*args):
        monkeypatch.undo()
        (path / "metrics.csv").write_text(more)
        write_sealed(path / "result.json", read_sealed(path / "result.json") | {"metrics": digest(path / "metrics.csv")})
        return read(*args)

    monkeypatch.setattr(compare, "read_whole", overtaken)
    assert compare.read("sac", [path]).evals.shape[0] == 1


def test_a_flipped_digit_and_a_file_of_another_seed_are_found(person):
    person("compare", *SHORT, "--agents", SAC)
    first, second = folder(person, SAC, 0), folder(person, SAC, 1)
    for name, words in (("config.json", "seed = 0, not 1"), ("metrics.csv", "is damaged"), ("result.json", "metrics.csv is damaged")):
        data = (second / name).read_bytes()
        (second / name).write_bytes((first / name).read_bytes())
        code, _, err = person("compare", *SHORT, "--agents", SAC)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
        (second / name).write_bytes(misread(data))
        code, _, err = person("compare", *SHORT, "--agents", SAC)
        assert (code, err.count("\n")) == (2, 1)
        assert f"seed-1/{name} is damaged" in err
        (second / name).write_bytes(data)
    assert person("compare", *SHORT, "--agents", SAC)[0] == 0


def test_a_run_that_fails_ends_the_comparison(person):
    code, _, err = person("compare", *SHORT, "--agents", "sac:hidden=8,8:lr=1e30")
    assert code == 70
    assert "failed: losses/" in err
    assert "seeds 0, 1" in err or err.count("seed ") >= 2


def curves(label, finals, episodes, rate=10.0):
    evals = np.stack([np.zeros(len(finals)), np.array(finals) * 2, np.array(finals)], 1)
    return compare.Curves(label, np.array([10.0, 20.0, 30.0]), evals, [np.array(e, dtype=float) for e in episodes], rate)


def test_the_table_holds_the_numbers_of_the_curves():
    a = curves("a", [1.0, 2.0, 3.0, 4.0, 100.0], [[0] * 5 + [9] * 20] * 3 + [[0] * 20] * 2)
    b = curves("b", [2.0, 2.0, 2.0, 2.0, 2.0], [[0] * 20] * 5, rate=1234.6)
    first, second = compare.table([a, b], 9.0)
    assert first["final return, IQM [95 %]"].startswith("3 [")  # mean of 2, 3, 4
    assert second["final return, IQM [95 %]"] == "2 [2, 2]"
    assert first["best average return"] == "44"  # twice the mean of 1, 2, 3, 4, 100
    assert first["episodes to 9"] == "15 (3/5 seeds)"
    assert second["episodes to 9"] == "not reached"
    assert first["P(better than a)"] == first["mean - that of a"] == first["p (Welch, ranks)"] == "-"
    assert second["P(better than a)"] == "0.3"  # b beats 1, ties 2: (5 + 2.5) / 25
    # mean(b) - mean(a) = -20; b has no spread: sd(a) / sqrt(5) = 19.506 on 4 degrees of freedom, whose 97.5 % point is 2.7764
    assert second["mean - that of a"] == "-20 [-74.16, 34.16]"
    assert second["p (Welch, ranks)"].startswith("0.36, ")
    assert compare.table([curves("a", [1.0], [[0]]), curves("b", [2.0], [[0]])], None)[1]["p (Welch, ranks)"] == "-"
    assert (first["steps/s, all seeds"], second["steps/s, all seeds"]) == ("10", "1,235")
    assert (first["seeds"], first["steps"]) == ("5", "30")
    assert "episodes to" not in " ".join(compare.table([a], None)[0])


def test_p_values_of_several_agents_are_corrected():
    """Five seeds against five, all of them better: 2 / 252 by ranks, twice that where another agent is compared as well."""
    finals = [np.arange(5.0), np.arange(5.0) + 10.0, np.arange(5.0) + 0.5]
    alone, both = compare.compared(finals[:2]), compare.compared(finals)
    assert alone[1]["p (Welch, ranks)"].split(", ")[1] == "0.0079"
    assert both[1]["p (Welch, ranks)"].split(", ")[1] == "0.016"
    welch = [stats.ttest_ind(x, finals[0], equal_var=False).pvalue for x in finals[1:]]
    assert [row["p (Welch, ranks)"].split(", ")[0] for row in both[1:]] == [f"{2.0 * welch[0]:.2g}", f"{welch[1]:.2g}"]
    assert both[2]["mean - that of {}"].startswith("0.5 [")


@pytest.mark.parametrize(("env", "threshold"), [("Hopper-v5", "2000"), ("Walker2d-v4", "3000"), ("HalfCheetah-v5", "4800")])
def test_thresholds_are_the_papers_or_gymnasiums(env, threshold):
    found = compare.THRESHOLDS.get(env.rpartition("-")[0], compare.reward_threshold(env))
    assert f"{found:g}" == threshold


def test_rates_count_every_seed_of_a_stack_and_are_averaged_over_runs(tmp_path):
    for name, seconds in (("a", 2.5), ("b", 5.0)):
        (tmp_path / name).mkdir()
        metrics = "step,tag,value\n30,eval/return,1\n5,charts/episodic_return,7\n9,charts/episodic_return,8\n"
        (tmp_path / name / "metrics.csv").write_text(metrics)
        about = {"step": 30, "stack": 4, "seconds": seconds, "metrics": digest(tmp_path / name / "metrics.csv")}
        write_sealed(tmp_path / name / "result.json", about)
    read = compare.read("x", [tmp_path / "a", tmp_path / "b"])
    assert read.rate == (48.0 + 24.0) / 2
    assert read.steps.tolist() == [30.0]
    assert read.evals.tolist() == [[1.0], [1.0]]
    assert read.episodes[0].tolist() == [7.0, 8.0]


def test_seconds_until_an_evaluation_follow_from_the_rates_between_rows(tmp_path):
    """10 steps at 5 per second, 20 at 2: two seconds until step 10, seven at 20, twelve at 30; of two runs the mean."""
    for name, slower in (("a", 1.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        rates = "".join(f"{step},charts/steps_per_second,{rate / slower}\n" for step, rate in ((10, 5.0), (30, 2.0)))
        (tmp_path / name / "metrics.csv").write_text(f"step,tag,value\n{rates}10,eval/return,1\n20,eval/return,1\n30,eval/return,1\n")
        about = {"step": 30, "stack": 2, "seconds": 1.0, "metrics": digest(tmp_path / name / "metrics.csv")}
        write_sealed(tmp_path / name / "result.json", about)
    assert compare.read("x", [tmp_path / "a"]).seconds.tolist() == [2.0, 7.0, 12.0]
    np.testing.assert_allclose(compare.read("x", [tmp_path / "a", tmp_path / "b"]).seconds, [4.0, 14.0, 24.0])


def test_the_minutes_are_those_until_the_last_evaluation():
    c = compare.Curves("x", np.array([1.0, 2.0]), np.zeros((2, 2)), [], 1.0, np.array([30.0, 90.0]))
    assert compare.minutes(c) == "1.5"
    assert compare.minutes(c._replace(seconds=np.array(np.nan))) == compare.minutes(c._replace(seconds=np.array([1.0, np.nan]))) == "-"


def test_a_profile_is_the_share_of_values_that_are_at_least_x():
    values = np.array([3.0, 1.0, 3.0, 7.0])
    x, y = compare.above(values, 0.0)
    assert (x.tolist(), y.tolist()) == ([0.0, 1.0, 3.0, 3.0, 7.0, 7.0], [1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    for at in (0.5, 1.0, 2.0, 5.0, 6.9):  # y holds on the left of its x
        assert y[np.searchsorted(x, at)] == (values >= at).mean()


def test_a_comparison_is_drawn_over_minutes_where_every_agent_has_its_times(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(compare, "figure", partial(spied, drawn))
    a, b = (
        curves(name, [1.0, 2.0], [], 1.0)._replace(seconds=60.0 * np.array([1.0, 2.0, times])) for name, times in (("a", 3.0), ("b", 5.0))
    )
    compare.draw([a, b], "Task", tmp_path / "compare")
    compare.draw([a, b._replace(seconds=np.array(np.nan))], "Task", tmp_path / "compare")
    compare.draw([a, b._replace(seconds=np.array([1.0, np.nan, 2.0]))], "Task", tmp_path / "compare")
    assert [len(panels) for panels in drawn] == [3, 2, 2]
    assert drawn[0][0] == {"a": [10.0, 20.0, 30.0], "b": [10.0, 20.0, 30.0]}
    assert drawn[0][1] == {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 5.0]}
    assert drawn[0][2] == {"a": [1.0, 1.0, 2.0, 2.0], "b": [1.0, 1.0, 2.0, 2.0]}


@contextmanager
def spied(drawn, *args, **named):
    """A figure, of which the places along x of every named line are noted, a panel each."""
    with figure(*args, **named) as axes:
        yield axes
        drawn.append(
            [{line.get_label(): line.get_xdata().tolist() for line in axis.get_lines() if line.get_label()[0] != "_"} for axis in axes[0]]
        )


METRICS = b"step,tag,value\n30,eval/return,1\n"


@pytest.mark.parametrize(
    ("change", "content"),
    [
        ({"step": "30"}, METRICS),
        ({"step": [30] * 9, "stack": 10**12}, METRICS),  # whose product would take eighty terabytes
        ({"stack": 10**400}, METRICS),
        ({"seconds": 0.0}, METRICS),
        ({"stack": None}, METRICS),
        ({}, METRICS + b"\xff"),
        ({}, METRICS + b"x" * 200_000 + b",1,1\n"),
        ({}, METRICS + b"30\n"),
        ({}, METRICS.replace(b"tag", b"gat")),
    ],
)
def test_a_result_that_somebody_wrote_is_one_line(tmp_path, change, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    about = {"step": 30, "stack": 4, "seconds": 2.5, "metrics": digest(tmp_path / "metrics.csv")}
    write_sealed(tmp_path / "result.json", about | change)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/metrics\.csv cannot be read as a run's metrics; move the run away"):
        compare.read("x", [tmp_path])


@pytest.mark.parametrize("versions", ["torch", [["torch", "2"]], [1], 5])
def test_versions_that_are_none_are_one_line(tmp_path, versions):
    write_sealed(tmp_path / "config.json", {"versions": versions})
    with pytest.raises(ValueError, match=rf"^{tmp_path}/config\.json does not say which versions: it was not written by wgf$"):
        compare.mixed([tmp_path])
