"""Bayesian regression as a person runs it, on a small set of the standard form; what is written, read back."""

import csv
import json
import os
import signal
import warnings
from itertools import count

import numpy as np
import pytest
import torch
from scipy.stats import norm, ttest_rel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import kills
from tests.forgeries import misread
from wgf.agents.training.checkpoint import digest, read_sealed, write_sealed
from wgf.bnn import Settings, compiled, data
from wgf.bnn.fit import Course
from wgf.runs.command import cli
from wgf.runs.studies import bnn, bnn_diary, bnn_report, bnn_toy

QUICK = ["--sets", "small", "--iterations", "40", "--particles", "4"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(path, name):
    return np.array([float(row[name]) for row in read(path)])


def test_a_study_is_fitted_written_and_found_again(folder, capsys):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", "wgf:w2=debiased"]) == 0
    shown = capsys.readouterr().out
    study = folder / "runs" / "bnn"
    assert all((study / name).read_bytes()[:4] == b"\x89PNG" for name in ("small.png", "toy.png"))
    base, other = (study / "small" / label for label in ("svgd", "wgf,w2=debiased"))
    rows = {row["method"]: row for row in read(study / "table.csv")}
    assert list(rows) == ["svgd", "svgd, without repeated rows", "wgf,w2=debiased", "wgf,w2=debiased, without repeated rows"]
    for label, place in (("svgd", base), ("wgf,w2=debiased", other)):
        for part, row in (("", label), ("_unseen", f"{label}, without repeated rows")):
            rmse = column(place / "splits.csv", f"rmse{part}")
            assert rows[row]["RMSE"] == f"{rmse.mean():.4g} ± {rmse.std(ddof=1) / np.sqrt(3):.2g}"
        dev = column(place / "splits.csv", "dev_log_likelihood")
        assert rows[label]["dev log-likelihood"] == f"{dev.mean():.4g} ± {dev.std(ddof=1) / np.sqrt(3):.2g}"
    a, b = column(other / "splits.csv", "log_likelihood"), column(base / "splits.csv", "log_likelihood")
    interval = ttest_rel(a, b).confidence_interval(0.95)
    assert rows["wgf,w2=debiased"]["log-likelihood - svgd"] == f"{(a - b).mean():+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"
    assert rows["svgd"]["log-likelihood - svgd"] == "-"
    assert "pictures: runs/bnn/small.png, runs/bnn/toy.png" in shown
    before = (base / "splits.csv").stat().st_mtime_ns
    assert cli.run(["bnn", *QUICK, "--methods", "svgd"]) == 0
    assert (base / "splits.csv").stat().st_mtime_ns == before
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", "--iterations", "41"]) == 2
    assert "holds a fit with settings.iterations = 40, not 41; give another --name or --out" in capsys.readouterr().err


def test_a_flow_is_tuned_on_the_dev_part_of_each_split(folder, capsys):
    methods = ["--methods", "svgd", "svgd:lr=0.1", "wgf:w2_scale=0"]
    assert cli.run(["bnn", *QUICK, *methods, "--tuned", "True"]) == 0
    shown, study = capsys.readouterr().out, folder / "runs" / "bnn"
    rows = {row["method"]: row for row in read(study / "tuned.csv")}
    assert "svgd, tuned over 2" in rows
    assert f"tuned: {study.relative_to(folder) / 'tuned.md'} .csv .txt" in shown
    labels = ("svgd", "svgd,lr=0.1")
    dev, rmse = (
        np.array([column(study / "small" / label / "splits.csv", name) for label in labels]) for name in ("dev_log_likelihood", "rmse")
    )
    taken = rmse[dev.argmax(0), np.arange(3)]
    assert rows["svgd, tuned over 2"]["RMSE"] == f"{taken.mean():.4g} ± {taken.std(ddof=1) / np.sqrt(3):.2g}"
    assert rows["wgf, tuned over 1"]["taken"] == "3 w2_scale=0"


def test_wgf_without_its_w2_term_is_the_fit_of_svgd_and_not_fitted_again(folder):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd:lr=0.01", "wgf:lr=0.01:w2=eq9_mean:w2_scale=0:inner_steps=2"]) == 0
    study = folder / "runs" / "bnn"
    assert [place.name for place in (study / "small").iterdir()] == ["svgd,lr=0.01"]
    rows = {row["method"]: row for row in read(study / "table.csv")}
    assert rows["wgf,lr=0.01,w2=eq9_mean,w2_scale=0,inner_steps=2"]["RMSE - svgd,lr=0.01"] == "+0 [+0, +0]"
    assert cli.run(["bnn", *QUICK, "--methods", "wgf:lr=0.01", "--name", "with"]) == 0
    assert (folder / "runs" / "with" / "small" / "wgf,lr=0.01" / "splits.csv").exists()


def test_a_compiled_study_is_the_study(folder, monkeypatch, recordings):
    monkeypatch.setattr(compiled, "_made", {})
    for name, switch in (("plain", "False"), ("quick", "True")):
        assert cli.run(["bnn", *QUICK, "--methods", "svgd", "svgd:lr=0.01", "--compile", switch, "--name", name]) == 0
    assert len(recordings) == 1  # for both step sizes
    for name, switch in (("plain", False), ("quick", True)):
        assert json.loads((folder / "runs" / name / "small" / "svgd" / "config.json").read_text())["compile"] is switch
    plain, quick = (column(folder / "runs" / name / "small" / "svgd" / "splits.csv", "rmse") for name in ("plain", "quick"))
    np.testing.assert_allclose(quick, plain, rtol=1e-3)  # float32, forty steps


@pytest.mark.parametrize("value", ["True", "False"])
def test_a_switch_is_set_like_any_other_field(folder, value):
    assert cli.run(["bnn", *QUICK, "--methods", f"svgd:centred={value}"]) == 0
    config = json.loads((folder / "runs" / "bnn" / "small" / f"svgd,centred={value}" / "config.json").read_text())
    assert config["settings"]["centred"] is (value == "True")


def test_a_switch_that_is_neither_is_one_line(folder, capsys):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd:centred=maybe"]) == 2
    err = capsys.readouterr().err
    assert "centred" in err
    assert "maybe" in err
    assert "'True', 'False'" in err
    assert err.count("\n") == 1


def test_scores_follow_from_the_predictions(folder):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd:particles=1"]) == 0
    place = folder / "runs" / "bnn" / "small" / "svgd,particles=1"
    one = {name: column(place / "predictions.csv", name) for name in ("split", "target", "mean", "std", "probability")}
    scores = {name: column(place / "splits.csv", name) for name in bnn_report.SCORES}
    rows = data.load(folder / "sets", "small")
    for s, split in enumerate(data.splits("small")):
        target, mean, std = (one[name][one["split"] == s] for name in ("target", "mean", "std"))
        np.testing.assert_array_equal(target, rows.y[split.test])
        density = norm.logpdf(target, mean, std)  # one particle: one Gaussian
        assert scores["rmse"][s] == pytest.approx(np.sqrt(((mean - target) ** 2).mean()), rel=1e-9)
        assert scores["log_likelihood"][s] == pytest.approx(density.mean(), rel=1e-9)
        np.testing.assert_allclose(one["probability"][one["split"] == s], norm.cdf(target, mean, std), rtol=1e-9)
        new = ~data.repeated(rows, split)
        assert 0 < new.sum() < len(new)
        assert scores["rmse_unseen"][s] == pytest.approx(np.sqrt(((mean - target)[new] ** 2).mean()), rel=1e-9)
        assert scores["log_likelihood_unseen"][s] == pytest.approx(density[new].mean(), rel=1e-9)


def test_curves_are_in_tensorboard_and_end_where_the_scores_are(folder):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd:keep=last"]) == 0
    place = folder / "runs" / "bnn" / "small" / "svgd,keep=last"
    events = EventAccumulator(str(place))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "bnn/rmse", "bnn/log_likelihood", "bnn/dev_rmse", "bnn/dev_log_likelihood", "bnn/log_lambda", "bnn/weights", "bnn/spread",
    }  # fmt: skip
    for name in ("rmse", "dev_log_likelihood"):
        last = events.Scalars(f"bnn/{name}")[-1]
        assert last.step == 40
        assert last.value == pytest.approx(column(place / "splits.csv", name).mean(), rel=1e-6)
    steps, values = bnn_report.curve(place, "rmse")
    assert steps.tolist() == list(range(2, 41, 2))
    assert values[-1] == pytest.approx(column(place / "splits.csv", "rmse").mean(), rel=1e-12)


def test_a_split_does_not_depend_on_the_splits_beside_it(folder):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd"]) == 0
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", "--splits", "1", "--name", "one"]) == 0
    both = [column(folder / "runs" / name / "small" / "svgd" / "splits.csv", "rmse") for name in ("bnn", "one")]
    assert len(both[1]) == 1
    assert both[0][0] == pytest.approx(both[1][0], rel=1e-4)  # float32
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", "--splits", "1", "--name", "other", "--seed", "1"]) == 0
    assert column(folder / "runs" / "other" / "small" / "svgd" / "splits.csv", "rmse")[0] != both[1][0]


def test_a_flipped_digit_in_a_fit_is_found(folder, capsys):
    study = ["bnn", *QUICK, "--methods", "svgd"]
    assert cli.run(study) == 0
    for name in ("config.json", "result.json", *bnn_report.FILES):
        path = folder / "runs" / "bnn" / "small" / "svgd" / name
        right = path.read_bytes()
        path.write_bytes(misread(right))
        capsys.readouterr()
        assert cli.run(study) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"small/svgd/{name} is damaged" in error
        path.write_bytes(right)


def test_files_of_a_fit_that_are_none_are_named(folder, capsys):
    study = ["bnn", *QUICK, "--methods", "svgd"]
    assert cli.run(study) == 0
    place = folder / "runs" / "bnn" / "small" / "svgd"
    right = read_sealed(place / "result.json")
    for change, words in (
        ({"seconds": "long"}, "result.json says that the fit took 'long' seconds"),
        ({"files": {}}, "splits.csv cannot be believed: result.json does not say what it held"),
        ({"files": {"splits.csv": digest(place / "curves.csv")}}, "splits.csv is damaged"),
    ):
        write_sealed(place / "result.json", right | change)
        assert cli.run(study) == 2
        assert words in capsys.readouterr().err
    for name, content, words in (
        ("splits.csv", b"rmse\nlow\n", "splits.csv holds no table of numbers"),
        ("splits.csv", (place / "splits.csv").read_bytes() + b"\xff", "splits.csv holds no table of numbers"),
        ("splits.csv", b"", "splits.csv holds no table of numbers"),
        ("splits.csv", (place / "splits.csv").read_bytes().replace(b"dev_rmse", b"rmse_dev"), "splits.csv holds no table of numbers"),
        ("splits.csv", b"".join((place / "splits.csv").read_bytes().splitlines(True)[:-1]), "splits.csv has 2 rows, not 3"),
        ("curves.csv", b"step,measure,split,value\n2,dev_log_likelihood,0\n", "curves.csv holds no table of numbers"),
        ("curves.csv", b"step,measure,split,value\n" + b"x" * 200_000 + b",1,1,1\n", "curves.csv holds no table of numbers"),
        ("predictions.csv", b"split,target\n1,2\n", "predictions.csv holds no table of numbers"),
    ):
        before = (place / name).read_bytes()
        (place / name).write_bytes(content)
        write_sealed(place / "result.json", right | {"files": right["files"] | {name: digest(place / name)}})
        assert cli.run(study) == 2
        assert words in capsys.readouterr().err
        (place / name).write_bytes(before)


LONG = ["bnn", "--sets", "small", "--iterations", "60", "--particles", "4", "--methods"]
FLOWS = ["wgf:inner_steps=9:lr=0.1", "langevin", "dropout"]


@pytest.fixture
def often(monkeypatch):
    """A checkpoint every seven iterations. ``often(25)``: the process kills itself in the 25th iteration that it sees."""
    state = {"at": 0, "seen": 0}

    def due(diary):
        state["seen"] += 1
        if state["seen"] == state["at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return diary._course.step % 7 == 0

    monkeypatch.setattr(bnn_diary.Diary, "due", due)
    for module in (bnn_toy, bnn_report):
        monkeypatch.setattr(module, "draw", lambda *args: None)
    yield lambda at: state.update(at=at)
    torch.set_num_threads(1)


def left(home):
    """What a study left that has to be equal byte for byte, by file: all but what says when and in which process."""
    found = {}
    for path in sorted(home.glob("runs/bnn/**/*")):
        name = path.relative_to(home).as_posix()
        if path.suffix == ".csv" and path.name != "table.csv":
            found[name] = path.read_bytes()
        if path.suffix == ".json":
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "process", "seal")}
    for place in (home / "runs" / "bnn" / "small").iterdir():
        events = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
        found |= {f"{place.name} {tag}": [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found


def test_a_study_that_was_killed_within_fits_ends_in_the_same_bytes(folder, often):
    """Killed between two checkpoints, where half of a file of one is written, before it has its name, and after."""
    calm, hard = folder / "calm", folder / "hard"
    calm.mkdir(), hard.mkdir()
    args = [*LONG, *FLOWS]
    assert not kills.ended(kills.started(args, calm))
    moments = int((calm / "moments.txt").read_text())
    assert moments > 3 * 8 * 10  # each fit had eight checkpoints of ten moments
    often(25)
    assert kills.ended(kills.started(args, hard))
    often(0)
    for at in (6, 18, 29, 69, 79, 71):
        assert kills.ended(kills.started(args, hard, at))
    assert not kills.ended(kills.started(args, hard))
    began = [int(line.split()[-1]) for line in (hard / "output.txt").read_text().splitlines() if "goes on from iteration" in line]
    assert len(began) == 7  # each time
    assert began[0] == 21
    assert all(0 < step < 60 and step % 7 == 0 for step in began)
    assert not list(hard.rglob("*unfinished*"))
    assert not list(hard.rglob("training"))
    one, other = left(calm), left(hard)
    assert len(one) == 3 * (5 + 7)
    assert one == other


def test_a_fit_that_was_stopped_goes_on_and_does_not_count_before(folder, often, monkeypatch, capsys):
    study, place = [*LONG, "svgd"], folder / "runs" / "bnn" / "small" / "svgd"
    assert cli.run([*study, "--name", "calm"]) == 0
    asked = count(1)

    def shown(progress, step, note):
        if next(asked) == 31:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(bnn.Progress, "show", shown)
    capsys.readouterr()
    assert cli.run(study) == 75
    said = capsys.readouterr().err
    assert "Ctrl-C: this fit is saved after this step, then the study stops" in said
    assert "runs/bnn/small/svgd stopped; the same command goes on from here" in said
    assert not (place / "result.json").exists()
    assert cli.run(study) == 0
    assert "small svgd goes on from iteration 32" in capsys.readouterr().out
    for name in bnn_report.FILES:
        assert (place / name).read_bytes() == (folder / "runs" / "calm" / "small" / "svgd" / name).read_bytes()


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before(folder, often, monkeypatch, capsys):
    real, study = os.fsync, [*LONG, "svgd"]
    moments = count(1)

    def full(fd):
        if next(moments) == 16:  # two of config.json, five of each of the first two checkpoints, four of the third
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    assert cli.run(study) == 2
    assert capsys.readouterr().err == "wgf: runs/bnn/small/svgd/training/training-21.json: No space left on device\n"
    assert cli.run(study) == 0
    captured = capsys.readouterr()
    assert "small svgd goes on from iteration 14" in captured.out
    assert captured.err == ""


def test_checkpoints_take_a_fortieth_of_the_time_at_most_and_a_fit_that_goes_on_counts_its_seconds_on(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(bnn_diary.time, "perf_counter", lambda: clock[0])
    course = Course(Settings(hidden=(2,), particles=2, iterations=9), torch.rand(1, 9, 1).double(), torch.rand(1, 9, 1).double(), [0])
    course.run(lambda *_: None, lambda _: None)
    diary = bnn_diary.Diary(tmp_path, {}, course, {"seconds": 5.0})

    def due(at):
        clock[0] = at
        return diary.due()

    def save(*args, **how):
        clock[0] += 2.0

    monkeypatch.setattr(bnn_diary.Store, "save", save)
    assert [due(at) for at in (100.0, 109.9, 110.0)] == [False, False, True]
    diary.keep()
    assert [due(at) for at in (112.0, 191.9, 192.0)] == [False, False, True]
    assert diary.seconds == 97.0
    diary.close()


def flipped(place, pattern):
    """Changes a bit of each of some files of a checkpoint."""
    for path in (place / "training").glob(pattern):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def edited(place):
    """Changes a number of the data."""
    path = place.parents[3] / "sets" / "small" / "data.txt"
    path.write_text("7.0" + path.read_text()[3:])


@pytest.mark.parametrize(
    ("damage", "more", "says"),
    [
        (lambda place: flipped(place, "training-*.json"), [], "holds no whole checkpoint"),
        (lambda place: flipped(place, "state-*.safetensors"), [], "holds no whole checkpoint"),
        (lambda place: None, ["--iterations", "50"], "holds a checkpoint of a fit with settings.iterations = 60, not 50"),
        (lambda place: None, ["--threads", "2"], "holds a checkpoint of a fit with threads = 1, not 2"),
        (lambda place: None, ["--seed", "1"], "holds a checkpoint of a fit with seed = 0, not 1"),
        (edited, [], "holds a checkpoint of a fit with data = "),
    ],
)
def test_a_checkpoint_that_is_damaged_or_of_another_fit_is_not_believed(folder, often, capsys, damage, more, says):
    study, place = [*LONG, "svgd"], folder / "runs" / "bnn" / "small" / "svgd"
    often(25)
    assert kills.ended(kills.started(study, folder))
    often(0)
    damage(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one for each damaged file
        assert cli.run([*study, *more]) == 0
    captured = capsys.readouterr()
    begins = [line for line in captured.err.splitlines() if line.startswith("wgf: runs/bnn/small/svgd begins anew: ")]
    assert len(begins) == 1
    assert says in begins[0]
    assert "goes on" not in captured.out
    assert cli.run([*study, *more, "--name", "calm"]) == 0
    for name in bnn_report.FILES:
        assert (place / name).read_bytes() == (folder / "runs" / "calm" / "small" / "svgd" / name).read_bytes()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--sets", "bostn"], "set 'bostn' is unknown; choose from boston, concrete"),
        (["--methods", "sgvd"], "method 'sgvd' is unknown; choose from wgf, svgd, smi, blob, langevin, ensemble, dropout"),
        (["--methods", "wgf:w3=exact"], "setting 'w3=exact' is not FIELD=VALUE; the fields"),
        (["--methods", "svgd:lr=-1"], "lr is -1.0; allowed is a positive, finite number"),
        (["--methods", "svgd:lr=1e30"], "small svgd,lr=1e30: the particles are not finite after 2 iterations; lower lr, which is 1e+30"),
        (["--splits", "4"], "splits is 4; small has 3, and 0 takes them all"),
        (["--data", "nowhere"], "data is 'nowhere', which is not a folder; give the one that holds boston/data.txt and so on"),
        (["--sets", "boston"], "there is no "),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--particles", "x"], "--particles is 'x'; it must be a whole number"),
    ],
)
def test_what_cannot_be_meant_is_one_line(folder, capsys, args, says):
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"wgf: {says}")
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(folder, capsys):
    (folder / "file").write_text("")
    assert cli.run(["bnn", *QUICK, "--methods", "svgd", "--out", "file"]) == 2
    assert capsys.readouterr().err == "wgf: file/bnn: Not a directory\n"


def test_data_must_be_named(folder, capsys, monkeypatch):
    monkeypatch.delenv("WGF_DATA")
    assert cli.run(["bnn", *QUICK]) == 2
    assert "data is not given; name the folder that holds boston/data.txt and so on by --data or WGF_DATA" in capsys.readouterr().err


def test_coverage_is_the_share_of_targets_inside():
    probability = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    np.testing.assert_allclose(bnn_report.coverage(probability), bnn_report.LEVELS, atol=4 * 0.5 / np.sqrt(200_000))
    np.testing.assert_allclose(bnn_report.coverage(np.array([0.5, 0.02, 0.99, 0.3]))[bnn_report.LEVELS == 0.5], 0.5)


def test_the_uncertainty_of_the_toy_grows_away_from_its_data(tmp_path):
    settings = {"svgd": Settings(flow="svgd", iterations=1500), "ensemble": Settings(flow="ensemble", iterations=1500)}
    widths = bnn_toy.draw(settings, 0, tmp_path / "toy.png")
    inside = np.abs(bnn_toy.GRID) < 3.0
    for width in widths.values():
        assert min(width[0], width[-1]) > 1.5 * width[inside].mean()
    x, y = bnn_toy.points(0)
    assert np.abs(x).max() < 4.0
    assert (y - x**3).std() == pytest.approx(3.0, abs=4.0 * 3.0 / np.sqrt(40))


def test_the_published_rows_of_a_set_stand_below_ours():
    columns = {name: np.array([0.5, 0.25]) for name in bnn_report.SCORES}
    rows = bnn_report.table("boston", [bnn_report.Scores("svgd", columns, 1.0)])
    assert [(row["method"], row["RMSE"], row["log-likelihood"]) for row in rows[1:]] == [
        ("Dropout, published", "4.32 ± 0.29", "-2.90 ± 0.07"),
        ("PBP, published", "3.01 ± 0.18", "-2.57 ± 0.09"),
        ("SVGD, published", "2.96 ± 0.10", "-2.50 ± 0.03"),
        ("WGF, published", "2.46 ± 0.34", "-2.40 ± 0.10"),
    ]
    assert all(list(found) == ["Dropout", "PBP", "SVGD", "WGF"] for found in bnn_report.PUBLISHED.values())
