"""wgf bench: its numbers follow from one another, and from what was timed."""

import json
import math
from types import SimpleNamespace

import pytest

from wgf.agents.training import needs
from wgf.agents.training.pace import Spent
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place
from wgf.runs.trainer import bench, training

AGENTS = ["sac:hidden=8,8:batch=8", "sac:hidden=8,8:batch=8:policy_delay=3", "ppo:hidden=8:horizon=32:batch=16:epochs=1"]
OPTIONS = ["--env", "InvertedPendulum-v5", "--preset", "modern", "--seeds", 2, "--rounds", 2, "--steps", 5_001, "--compile", "False"]


@pytest.fixture(scope="module")
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "TURN", 0.02)
        patch.setattr(bench, "LOOK", 0.01)
        yield


def test_its_numbers_follow_from_one_another(person, short):
    code, out, err = person("bench", *AGENTS, *OPTIONS, "--json", "found.json")
    assert (code, err) == (0, "")
    assert [path.name for path in person.folder.iterdir()] == ["found.json"]
    found = json.loads((person.folder / "found.json").read_text())
    assert [found[name] for name in ("env", "seeds", "steps", "rounds")] == ["InvertedPendulum-v5", 2, 5_001, 2]
    assert found["versions"]["torch"] in out
    assert found["machine"]["device_name"] in out
    assert [x["agent"] for x in found["agents"]] == [token.replace(":", ",") for token in AGENTS]
    assert [x["steps_per_update"] for x in found["agents"]] == [1, 3, 32]
    for x in found["agents"]:
        middle, low, high = x["update_ms"]
        assert 0.0 < low <= middle <= high
        assert x["learning_ms"] == pytest.approx(middle / x["steps_per_update"])
        assert x["step_ms"] == pytest.approx(x["learning_ms"] + x["acting_ms"] + x["environment_ms"])
        assert x["steps_per_second"] == pytest.approx(1000.0 / x["step_ms"])
        assert x["steps_per_second_all_seeds"] == pytest.approx(2.0 * x["steps_per_second"])
        assert x["hours"] == pytest.approx(5_001 / x["steps_per_second"] / 3600.0)
        assert x["compiling_seconds"] is None
        assert x["threads"] == 1
        for cell in (f"{x['step_ms']:.3g}", f"{x['steps_per_second']:,.0f}", f"{x['hours']:.3g}"):
            assert cell in out
    assert found["agents"][0]["time_ratio"] == [1.0, 1.0, 1.0]
    sizes = [needs.memory(job(token, 2).begun(), Schedule(steps=5_001)) for token in AGENTS]
    assert [x["memory_bytes"] for x in found["agents"]] == sizes


def job(token, seeds=1, **schedule):
    schedule = Schedule(**{"steps": 5_001} | schedule)
    return training.job(token, "modern", "InvertedPendulum-v5", tuple(range(seeds)), schedule, Place(device="cpu", threads=1))


def contender(token, turns, judged=(0.5,), longest=7, compiling=math.nan):
    made = job(token, 3, steps=1_000, eval_every=300)
    return bench.Contender(made, SimpleNamespace(agent=made.begun(), longest=longest, compiling=compiling), list(turns), list(judged))


# of each round: acting, stepping, learning, steps, updates
FIRST = [Spent(0.2, 0.4, 3.0, 10, 5), Spent(0.4, 0.8, 8.0, 20, 10), Spent(0.1, 0.1, 0.5, 10, 5)]
OTHER = [Spent(math.nan, 0.8, 6.4, 10, 1), Spent(math.nan, 1.6, 16.8, 20, 2), Spent(math.nan, 0.2, 1.2, 20, 2)]


def test_the_numbers_of_an_agent_are_medians_of_its_rounds():
    """By hand: updates of 600, 800, 100 ms; acting 20, 20, 10 ms a step; the environment 40, 40, 10; two steps an update."""
    first = contender("sac:hidden=8", FIRST, judged=(3.0, 0.5, 0.6))
    found = bench.measured(first, first)
    assert found["update_ms"] == pytest.approx((600.0, 100.0, 800.0))
    assert found["steps_per_update"] == 2.0
    assert [found[name] for name in ("learning_ms", "acting_ms", "environment_ms")] == pytest.approx([300.0, 20.0, 40.0])
    assert found["step_ms"] == pytest.approx(360.0)
    assert found["steps_per_second"] == pytest.approx(1.0 / 0.36)
    assert found["steps_per_second_all_seeds"] == pytest.approx(3.0 / 0.36)
    assert found["hours"] == pytest.approx(0.1)  # 1,000 steps of 0.36 s
    assert found["evaluation_hours_at_most"] == pytest.approx(4 * 7 * 0.6 / 3600.0)  # at 300, 600, 900 and the end
    assert found["time_ratio"] == (1.0, 1.0, 1.0)


def test_an_agent_is_compared_with_the_first_round_by_round():
    """Steps of 0.36, 0.46, 0.07 s against 0.72, 0.92, 0.07: twice, twice and once as long."""
    found = bench.measured(contender("sac:hidden=9", OTHER, compiling=23.4), contender("sac:hidden=8", FIRST))
    assert found["time_ratio"] == pytest.approx((2.0, 1.0, 2.0))
    assert found["acting_ms"] is None
    assert found["environment_ms"] == pytest.approx(80.0)
    assert found["step_ms"] == pytest.approx(6400.0 / 10 + 80.0)
    assert found["compiling_seconds"] == 23.4


def test_the_table_has_a_row_for_each_number_and_a_column_for_each_agent():
    first, other = contender("sac:hidden=8", FIRST), contender("sac:hidden=9", OTHER, compiling=23.4)
    rows = bench.table([bench.measured(c, first) for c in (first, other)], 1_000)
    cells = {row[""].strip(): [row["sac,hidden=8"], row["sac,hidden=9"]] for row in rows}
    assert cells["an update, ms [95 %]"] == ["600 [100, 800]", "6,400 [600, 8,400]"]
    assert cells["acting"] == ["20", "with the environment"]
    assert cells["steps/s, all seeds together"] == ["8", "4"]
    assert cells["hours of 1,000 steps"] == ["0.1", "0.2"]
    assert cells["machine code, s to compile"] == ["no", "23"]
    assert cells["time of a step / sac,hidden=8 [95 %]"] == ["1", "2 [1, 2]"]


def test_agents_take_turns_and_each_has_one_a_round(person, short, monkeypatch):
    order, shown, turn = [], [], bench.Contender.turn

    def noted(self):
        order.append(self.job.label)
        turn(self)

    monkeypatch.setattr(bench.Contender, "turn", noted)
    monkeypatch.setattr(bench.Progress, "show", lambda self, step, note: shown.append((step, self.steps, note)))
    code, _, _ = person("bench", *AGENTS[:2], *OPTIONS, "--rounds", 3)
    labels = [token.replace(":", ",") for token in AGENTS[:2]]
    assert code == 0
    assert order == labels * 3
    begun = [(k, 8, f"{label} begins") for k, label in enumerate(labels)]  # of eight: two begin, and six turns end
    assert shown == [*begun, *((k, 8, label) for k, label in enumerate(labels * 3, 3))]


@pytest.mark.parametrize(("seconds", "told"), [(6.0, True), (7.0, False)])
def test_it_says_where_other_work_took_the_processor(person, short, monkeypatch, seconds, told):
    """Of eight seconds by the clock this process had 6 of a processor, which is less than 80 %, or 7."""
    clock = {"perf_counter": iter([100.0, 108.0]).__next__, "process_time": iter([20.0, 20.0 + seconds]).__next__}
    monkeypatch.setattr(bench, "time", SimpleNamespace(**clock))
    code, out, _ = person("bench", AGENTS[0], *OPTIONS, "--json", "found.json")
    assert code == 0
    assert ("other work ran on this machine: these numbers were taken with 75% of a processor\n" in out) is told
    assert ("other work" in out) is told
    assert json.loads((person.folder / "found.json").read_text())["machine"]["share_of_a_processor"] == seconds / 8.0


def test_options_of_a_file_count_as_in_a_comparison(person, short):
    (person.folder / "mine.yaml").write_text("agents: ['sac:hidden=8,8:batch=8']\nenv: InvertedPendulum-v5\nsteps: 4000\npreset: modern\n")
    code, out, err = person("bench", "--config", "mine.yaml", "--rounds", 2, "--compile", "False")
    assert (code, err) == (0, "")
    assert "hours of 4,000 steps" in out
    assert "sac,hidden=8,8,batch=8" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a2c"], "agent 'a2c' is unknown; choose from"),
        (["sac", "sac"], "agent 'sac' is named twice"),
        (["sac:speed=1"], "setting 'speed=1' is not FIELD=VALUE; the fields of this agent are activation, "),
        (["sac:lr=-1"], "lr is -1.0; it must be above 0"),
        (["sac", "--lr", "1e-3"], "option --lr is unknown (see wgf bench --help); settings of an agent follow its name, as in sac:lr"),
        (["sac", "--rounds", "1"], "rounds is 1; it must be at least 2"),
        (["sac", "--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["sac", "--threads", "-1"], "threads is -1; it must be from 0"),
        (["sac", "--json", "x.csv"], "json 'x.csv' must be a .json file in a folder that exists"),
        (["sac", "--json", "no/x.json"], "json 'no/x.json' must be a .json file in a folder that exists"),
        (["sac", "--env", "Nothing-v0"], "environment 'Nothing-v0' cannot be made"),
        (["sac", "--preset", "best"], "preset 'best' is unknown to sac"),
        (["sac", "--out", "x"], "option --out is unknown"),
    ],
)
def test_what_cannot_be_timed_is_one_line(person, args, words):
    code, _, err = person("bench", *args)
    assert code == 2
    assert words in err
    assert err.startswith("wgf: ")
    assert err.count("\n") == 1
    assert list(person.folder.iterdir()) == []
