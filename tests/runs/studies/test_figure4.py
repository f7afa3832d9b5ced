"""The recipe of Figure 4: what each method is, what the table says of finished runs, and a tiny one from beginning to end."""

import csv
from dataclasses import asdict

import numpy as np
from matplotlib import image

from wgf.agents import es
from wgf.runs.studies.figure4 import METHODS, Options, rows
from wgf.runs.studies.main import run
from wgf.runs.trainer.compare import Curves


def test_each_method_is_es_with_what_its_name_says():
    options = Options(seeds=3, first_seed=7, pairs=4, iterations=40)
    jobs = {method: options.plan(method).job for method in METHODS}
    plain = asdict(es.Config(pairs=4))
    changed = {method: {name: value for name, value in asdict(job.cfg).items() if value != plain[name]} for method, job in jobs.items()}
    published, kernel = {"guide": "published"}, {"metric": "kernel"}
    assert changed == {
        "es": {},
        "es-clip": {"optimiser": "sgd", "lr": 1.0, "clip_norm": 1.0},
        "nsr-es": {"guide": "novelty", "shaping": "ranks", "earlier": 1000},
        "nsr-es-5": {"guide": "novelty", "shaping": "ranks", "earlier": 1000, "centres": 5},
        "bges": published,
        "bges-75": {**published, "guide_weight": 0.75},
        "bges-sinkhorn": {"guide": "wasserstein"},
        "wnes": kernel,
        "bg-wnes": {**published, **kernel},
    }
    for job in jobs.values():
        assert (job.env, job.seeds, job.schedule.steps, job.schedule.eval_every) == ("wgf/PointWall-v0", (7, 8, 9), 40 * 400, 2 * 400)


def test_the_quadruped_has_the_settings_of_its_code():
    job = Options(task="quadruped").plan("wnes").job
    assert (job.env, job.schedule.steps) == ("wgf/AntWall-v0", 200 * 2 * 251 * 400)
    cfg = job.cfg
    assert (cfg.pairs, cfg.hidden, cfg.lr, cfg.noise_std, cfg.embedding) == (251, (64, 64), 0.02, 0.045, "reward_to_go")
    assert (cfg.metric, Options(task="quadruped", pairs=3).plan("es").job.cfg.pairs, Options().plan("es").job.cfg.pairs) == (
        "kernel",
        3,
        50,
    )


def test_the_table_tells_the_mean_over_training_the_end_and_each_seeds_best_look():
    evals = np.array([[-760.0, -700.0, -720.0], [-764.0, -764.0, -764.0], [-764.0, -764.0, -764.0]])
    first, second = (Curves(name, np.array([1.0, 2.0, 3.0]), evals + up, [], 10.0) for name, up in (("es", 0.0), ("wnes", 50.0)))
    one, two = rows([first, second])
    assert one["best look of each seed"] == "-700, -764, -764"
    assert one["return at the end, IQM [95 %]"].startswith(f"{(-720.0 - 764.0 - 764.0) / 3.0:.1f}")  # of three none is left out
    assert one["return over training, IQM [95 %]"].startswith(f"{(-2180.0 / 3.0 - 764.0 - 764.0) / 3.0:.1f}")
    assert (one["P(better than es) at the end"], two["P(better than es) at the end"]) == ("-", "1")
    assert two["mean - that of es over training"].startswith("50 [")
    assert two["mean - that of es at the end"].startswith("50 [")
    assert rows([first._replace(seconds=np.array([60.0, 90.0, 180.0]))])[0]["minutes"] == "3"


def test_a_tiny_one_writes_table_rows_and_figure_and_goes_on_where_it_was(tmp_path, capsys):
    args = ["--methods", "es", "bg-wnes", "--iterations", "20", "--pairs", "2", "--seeds", "2", "--out", str(tmp_path)]
    assert run("figure4", args, "figure4") == 0
    folder = tmp_path / "figure4"
    found = list(csv.DictReader((folder / "evaluations.csv").open(newline="")))
    assert len(found) == 2 * 2 * 20
    assert [row["step"] for row in found[:20]] == [str(200 * k) for k in range(1, 21)]
    assert {row["label"] for row in found} == {"es", "bg-wnes"}
    assert image.imread(folder / "figure4.png").shape[0] > 100
    assert len(list(csv.DictReader((folder / "figure4.csv").open(newline="")))) == 2
    capsys.readouterr()
    assert run("figure4", args, "figure4") == 0
    assert "seeds 0, 1 finished before" in capsys.readouterr().out
