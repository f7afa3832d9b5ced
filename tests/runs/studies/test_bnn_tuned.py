"""Tuning on the dev part, from folders made by hand: which setting a split takes, and what may not move the choice."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from wgf.agents.training.checkpoint import digest, write_sealed
from wgf.runs.studies import bnn_report
from wgf.runs.studies.bnn import SCORES
from wgf.runs.trainer.tables import write_rows

SPLITS = 4
DEV = {
    "svgd,lr=0.1": [3.0, 1.0, 1.0, 5.0],
    "svgd,lr=0.2": [2.0, 2.0, 0.0, 4.0],
    "wgf": [0.0, 1.0, 2.0, 3.0],
    "wgf,w2_scale=9": [1.0, 0.0, 3.0, 9.0],
}
TAKEN = {"svgd": [0, 1, 0, 0], "wgf": [1, 0, 1, 1]}  # by the largest of each column


def folders(place, change=lambda label, name, values: values):
    """A finished fit for each label: the scores are random, but for the dev part's log-likelihood."""
    random, found = np.random.default_rng(0), []
    for k, (label, dev) in enumerate(DEV.items()):
        columns = {name: change(label, name, random.standard_normal(SPLITS)) for name in SCORES}
        columns["dev_log_likelihood"] = change(label, "dev_log_likelihood", np.array(dev))
        (place / label).mkdir(parents=True)
        write_rows(place / label / "splits.csv", ["split", *SCORES], [[s, *(columns[name][s] for name in SCORES)] for s in range(SPLITS)])
        files = {"splits.csv": digest(place / label / "splits.csv")}
        write_sealed(place / label / "config.json", {"splits": SPLITS})
        write_sealed(place / label / "result.json", {"seconds": 10.0 + k, "files": files})
        found.append(bnn_report.read(label, place / label))
    return found


def flow(found, name):
    return [each for each in found if each.label.startswith(name)]


@pytest.mark.parametrize("name", ["svgd", "wgf"])
def test_each_split_takes_the_setting_with_its_best_dev_part(tmp_path, name):
    settings = flow(folders(tmp_path), name)
    found, _ = bnn_report.tuned(name, settings)
    for score in SCORES:
        by_hand = [settings[k].columns[score][s] for s, k in enumerate(TAKEN[name])]
        np.testing.assert_array_equal(found.columns[score], by_hand)
    assert found.seconds == sum(each.seconds for each in settings)


def test_the_table_has_a_row_a_flow_and_the_difference_between_them(tmp_path):
    rows = bnn_report.tuned_table("elsewhere", folders(tmp_path))
    assert [row["method"] for row in rows if "repeated" not in row["method"]] == ["svgd, tuned over 2", "wgf, tuned over 2"]
    rows = {row["method"]: row for row in rows}
    assert rows["svgd, tuned over 2"]["taken"] == "3 lr=0.1; 1 lr=0.2"
    assert rows["wgf, tuned over 2"]["taken"] == "1 defaults; 3 w2_scale=9"
    for measure, column in (("RMSE", "rmse"), ("log-likelihood", "log_likelihood")):
        scores = {name: flow(folders(tmp_path / measure / name), name) for name in TAKEN}
        a, b = (np.array([scores[name][k].columns[column][s] for s, k in enumerate(TAKEN[name])]) for name in ("wgf", "svgd"))
        interval = ttest_rel(a, b).confidence_interval(0.95)
        expected = f"{(a - b).mean():+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"
        assert rows["wgf, tuned over 2"][f"{measure} - svgd, tuned over 2"] == expected
    assert rows["wgf, tuned over 2"]["seconds"] == "25"


def test_no_test_row_and_no_other_split_moves_a_choice(tmp_path):
    """Test scores turned round, and the other splits' dev parts with them: split 1 takes what it took."""

    def turned(label, name, values):
        found = values if name == "dev_log_likelihood" else -1e3 * values
        return np.where(np.arange(SPLITS) == 1, found, -found)

    plain, other = (flow(folders(tmp_path / name, how), "svgd") for name, how in (("a", lambda _, __, v: v), ("b", turned)))
    taken = [bnn_report.tuned("svgd", each)[0].columns["dev_log_likelihood"] for each in (plain, other)]
    assert taken[0][1] == taken[1][1]
    assert taken[0][0] == 3.0
    assert taken[1][0] == -2.0
