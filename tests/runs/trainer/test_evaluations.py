"""What a study knows from a file is not trained again, and joins what is trained now."""

import csv

import numpy as np
import pytest

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place
from wgf.runs.trainer import evaluations, tables
from wgf.runs.trainer.compare import Curves, plan
from wgf.runs.trainer.evaluations import HEAD, best, choices, gather, planned, read_rows, sweep, write_rows

SCHEDULE = Schedule(steps=40, warmup=20, eval_every=20, eval_episodes=1)


def plans(folder, seeds, first=0, lr="0.001"):
    """Two plans of SAC on the same seeds, of which the second has another deviation."""
    place = Place(out=str(folder), name="study", device="cpu", compile=False)
    contest = Contest(("sac",), "Pendulum-v1", seeds, first)
    tokens = {name: f"sac:preset=modern:hidden=8:batch=8:lr={lr}:tau={tau}" for name, tau in (("one", 0.01), ("two", 0.02))}
    return {name: planned(plan(token, contest, SCHEDULE, place), name) for name, token in tokens.items()}


def test_seeds_that_are_known_are_not_trained_again_and_join_the_others(tmp_path):
    said, file = [], tmp_path / "evaluations.csv"
    first = plans(tmp_path / "a", 2)["one"]
    code, found = gather({"one": first}, None, said.append)
    assert code == 0
    early = found["one"]
    write_rows(file, [(first, early)])
    assert (early.steps.tolist(), early.evals.shape) == ([20.0, 40.0], (2, 2))
    assert early.rate > 0.0
    wider, lines = plans(tmp_path / "b", 3), []
    code, found = gather(wider, file, lines.append)
    assert code == 0
    one, two = found["one"], found["two"]
    assert f"{file}: one, seeds 0, 1 known" in lines
    trained = sorted(str(path.relative_to(tmp_path / "b")) for path in tmp_path.glob("b/study/Pendulum-v1/*/seed-*"))
    assert trained == [f"study/Pendulum-v1/{name}" for name in ("one/seed-2", "two/seed-0", "two/seed-1", "two/seed-2")]
    np.testing.assert_allclose(one.evals[:2], early.evals, rtol=1e-8)  # nine digits
    assert (one.evals.shape, two.evals.shape) == ((3, 2), (3, 2))
    assert not np.allclose(one.evals[2], one.evals[1])
    assert (np.isnan(one.rate), two.rate > 0.0, len(two.episodes), len(one.episodes)) == (True, True, 3, 0)
    write_rows(file, [(wider[name], found[name]) for name in ("one", "two")])
    with file.open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == HEAD
    assert len(rows) == 2 * 3 * 2
    assert rows[0]["settings"] == "sac,preset=modern,hidden=8,batch=8,lr=0.001,tau=0.01,steps=40,warmup=20"
    code, again = gather(plans(tmp_path / "c", 2, first=1), file, lines.append)
    assert code == 0
    assert not (tmp_path / "c").exists()
    np.testing.assert_allclose(again["two"].evals, two.evals[1:], rtol=1e-8)


def curves(level, slope=0.0):
    """Five seeds that differ by 1, three looks that rise by ``slope``."""
    return Curves("any", np.arange(1.0, 4.0), level + np.arange(5.0)[:, None] + slope * np.arange(3.0), [], 1.0)


def test_the_setting_with_the_best_mean_over_training_is_chosen():
    runs = {6.0: curves(10.0, slope=-20.0), 7.0: curves(8.0), 8.0: curves(-9.0, slope=10.0)}
    assert best(runs) == 7.0
    assert choices({("CartPole", "svpg"): runs}) == [
        ("CartPole", "svpg", "6", "-10.0 -9.0 -8.0 -7.0 -6.0", ""),
        ("CartPole", "svpg", "7", "8.0 9.0 10.0 11.0 12.0", "x"),
        ("CartPole", "svpg", "8", "1.0 2.0 3.0 4.0 5.0", ""),
    ]
    early = runs[7.0]._replace(steps=np.arange(1.0, 3.0), evals=runs[7.0].evals[:, :2] + 0.1)  # all its seeds diverged
    assert best(runs | {9.0: early}) == 9.0


def test_a_seed_that_diverged_has_the_rows_that_it_was_looked_at_for(tmp_path, monkeypatch):
    """By what was trained, and again by its file, which has nan at the next look."""
    mine, file = plans(tmp_path, 2)["one"], tmp_path / "evaluations.csv"
    c = Curves("one", np.array([20.0, 40.0]), np.array([[1.0, 1.0], [2.0, 3.0]]), [], 1.0, diverged={0: 1})
    write_rows(file, [(mine, c)])
    rows = {seed: list(looks.items()) for (_, _, seed), (_, looks) in read_rows(file).items()}
    assert (str(rows[0]), rows[1]) == ("[(20.0, 1.0), (40.0, nan)]", [(20.0, 2.0), (40.0, 3.0)])
    code, found = gather({"one": mine}, file, print)
    assert (code, found["one"].evals.tolist(), dict(found["one"].diverged)) == (0, c.evals.tolist(), {0: 1})
    seen = []
    monkeypatch.setattr(evaluations, "complete", lambda jobs, say, *, diverged: seen.append(diverged) or 0)
    monkeypatch.setattr(evaluations, "read", lambda label, folders: c._replace(evals=c.evals + 10.0))
    code, found = gather({"one": plans(tmp_path, 4)["one"]}, file, print)
    assert (found["one"].evals[:, -1].tolist(), dict(found["one"].diverged)) == ([1.0, 3.0, 11.0, 13.0], {0: 1, 2: 1})
    assert seen == [True]
    both = c._replace(steps=c.steps[:1], evals=c.evals[:, :1], diverged={0: 1, 1: 1})
    write_rows(file, [(mine, both)])
    found = gather({"one": mine}, file, print)[1]["one"]
    assert (found.steps.tolist(), found.evals.tolist(), dict(found.diverged)) == ([20.0], [[1.0], [2.0]], {0: 1, 1: 1})
    late = c._replace(evals=np.array([[1.0, 4.0], [2.0, 3.0]]), diverged={0: 2})  # its last policy was not finite
    write_rows(file, [(mine, late)])
    found = gather({"one": mine}, file, print)[1]["one"]
    assert (found.evals.tolist(), dict(found.diverged)) == (late.evals.tolist(), {0: 2})
    write_rows(file, [(mine, both._replace(diverged={}))])  # stopped, as its rows of one length are
    assert dict(gather({"one": mine}, file, print)[1]["one"].diverged) == {}
    file.write_text(",".join(HEAD) + f'\nPendulum-v1,one,"{mine.settings}",0,20,nan\nPendulum-v1,one,"{mine.settings}",1,20,1')
    with pytest.raises(ValueError, match="the seeds of one were not looked at after the same steps"):
        gather({"one": mine}, file, print)


def test_a_sweep_is_what_is_gathered_by_name_and_setting(tmp_path):
    mine = plans(tmp_path / "a", 1)
    code, found = sweep({"tau": {0.01: mine["one"], 0.02: mine["two"]}}, None, print)
    _, expected = gather(mine, None, print)
    assert (code, list(found["tau"])) == (0, [0.01, 0.02])
    np.testing.assert_array_equal(found["tau"][0.02].evals, expected["two"].evals)


def test_what_a_file_has_with_other_settings_is_refused(tmp_path):
    file = tmp_path / "evaluations.csv"
    file.write_text(",".join(HEAD) + '\nPendulum-v1,one,"sac,lr=0.5",0,20,1.0\n')
    with pytest.raises(ValueError, match=r"evaluations.csv has one with sac,lr=0.5, not sac,preset=modern.*; give the same settings"):
        gather(plans(tmp_path, 1), file, print)
    settings = plans(tmp_path, 1)["one"].settings
    file.write_text(",".join(HEAD) + "".join(f'\nPendulum-v1,one,"{settings}",{seed},{20 + seed},1.0' for seed in (0, 1)))
    with pytest.raises(ValueError, match="the seeds of one were not looked at after the same steps; leave --known out"):
        gather({"one": plans(tmp_path, 2)["one"]}, file, print)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "agent,seed,step,return\nsac,0,1,2\n",
        "{row}\n{row}",
        "{row}\nP,one,other,0,30,1.0",
        "P,one,s,0,20,inf",
        "P,one,s,0,nan,1.0",
        "P,one,s,0,20,nan\nP,one,s,0,40,1.0",
        "P,one,s,zero,20,1.0",
        "P,one",
    ],
    ids=["empty", "another file", "a step twice", "two settings", "infinite", "no step", "after it diverged", "no seed", "short"],
)
def test_a_file_of_anything_else_is_one_line(tmp_path, text):
    (file := tmp_path / "rows.csv").write_text(f"{','.join(HEAD)}\n{text.format(row='P,one,s,0,20,1.0')}\n" if text[:1] in "{P" else text)
    if not text:
        assert read_rows(file) == {}
        return
    with pytest.raises(
        ValueError, match=r"rows.csv is no file of evaluations[:,].* with (the columns )?environment, label, settings, seed, step, return$"
    ):
        read_rows(file)


def test_a_file_without_a_column_says_which(tmp_path):
    (file := tmp_path / "rows.csv").write_text("environment,label,seed,step,return\nP,one,0,20,1.0\n")
    with pytest.raises(ValueError, match=r"rows.csv is no file of evaluations: it has no column 'settings'; give one with environment, "):
        read_rows(file)


def test_rows_that_were_not_asked_for_stay_where_the_known_file_is_written_again(tmp_path):
    mine = plans(tmp_path / "a", 1)
    _, found = gather(mine, None, print)
    file = tmp_path / "evaluations.csv"
    write_rows(file, [(mine[key], found[key]) for key in mine], None)
    whole = file.read_text()
    write_rows(file, [(mine["two"], found["two"])], file)
    assert file.read_text() == whole
    write_rows(file, [(mine["two"], found["two"])], None)
    assert set(read_rows(file)) == {("Pendulum-v1", "two", 0)}


def test_a_file_that_has_none_of_the_trainings_is_told(tmp_path):
    (file := tmp_path / "rows.csv").write_text(",".join(HEAD) + "\nP,one,s,0,20,1.0\n")
    told = []
    gather(plans(tmp_path, 1), file, told.append)
    assert told[0] == f"{file} has none of these trainings"


def test_rows_that_cannot_be_made_leave_the_old_file(tmp_path):
    (file := tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(ZeroDivisionError):
        tables.write_rows(file, ["a"], ([1 / n] for n in (1, 0)))
    assert [(path, path.read_text()) for path in tmp_path.iterdir()] == [(file, "a\n1\n")]


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.csv cannot be read: No such file or directory$"):
        read_rows(tmp_path / "nothing.csv")
