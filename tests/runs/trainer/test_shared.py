"""``wgf train`` whose policies several processes share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ranks as started
from tests.runs.trainer import shared_training
from wgf.agents.training.checkpoint import read_sealed

pytestmark = started.needs_gloo
PROGRAM = Path(shared_training.__file__)
SMALL = ["--env", "wgf/CartPole-v0", "--hidden", "6", "--seeds", "2", "--device", "cpu", "--eval-episodes", "1", "--threads", "1"]
# five iterations or updates, of which the third is evaluated; a checkpoint at each second
AGENTS = {
    "es": ["--pairs", "5", "--horizon", "20", "--steps", "1000", "--checkpoint-every", "400", "--eval-every", "600"],
    "ip-wgf": [
        *("--particles", "5", "--batch", "20", "--envs", "2", "--critic-steps", "2", "--weight-noise", "0.1"),
        *("--steps", "500", "--checkpoint-every", "200", "--eval-every", "300"),
    ],
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]


def command(agent, *more):
    return ["train", agent, *SMALL, *AGENTS[agent], "--log-every", "1", *more]


def written(folder, name, agent):
    """What a run leaves that follows from its settings alone: policies, and all numbers but the rate."""
    found = {}
    for seed in (0, 1):
        place = folder / "runs" / name / "wgf_CartPole-v0" / agent / f"seed-{seed}"
        found |= {(seed, path.name): path.read_bytes() for path in place.glob("policy-*.safetensors")}
        found[seed] = [line for line in (place / "metrics.csv").read_text().splitlines() if "per_second" not in line]
        assert read_sealed(place / "result.json")["status"] == "finished"
    return found


def said(done):
    """The lines on standard error of all ranks that are ours, and the exit codes."""
    return [line for _, _, err in done for line in err.splitlines() if line.startswith("wgf:")], [code for code, _, _ in done]


def close(text, other):
    """Whether two runs have the same numbers but for rounding, which chaos has had five updates to magnify."""
    rows, others = ([line.rsplit(",", 1) for line in lines[1:]] for lines in (text, other))
    assert [name for name, _ in rows] == [name for name, _ in others]
    np.testing.assert_allclose([float(x) for _, x in rows], [float(x) for _, x in others], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("agent", "step"), [("es", 400), ("ip-wgf", 200)])
def test_ranks_write_the_run_of_one_process_and_one_that_is_killed_changes_nothing(person, agent, step):
    assert person(*command(agent, "--name", "one"))[0] == 0
    alone = written(person.folder, "one", agent)
    done = started.copies(2, PROGRAM, *command(agent, "--name", "two", "--shards", "True"))
    assert [code for code, _, _ in done] == [0, 0], done
    assert done[1][1:] == ("", "")  # the first rank speaks
    assert done[0][1].count("steps each") == 1
    whole, place = written(person.folder, "two", agent), person.folder / "runs" / "two" / "wgf_CartPole-v0" / agent / "seed-0"
    assert read_sealed(place / "config.json")["ranks"] == 2
    assert len(list(place.glob("events.*"))) == 1
    if agent == "es":
        assert whole == alone
    for seed in (0, 1):
        close(whole[seed], alone[seed])

    again = {**os.environ, "DIES": "1", "AT": "4", "PYTHONPATH": str(started.ROOT), "OMP_NUM_THREADS": "1"}
    killed = [*TORCHRUN, PROGRAM, *command(agent, "--name", "killed", "--shards", "True")]
    done = subprocess.run([*map(str, killed)], env=again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"from step {step} on" in done.stdout  # and not from the beginning
    assert written(person.folder, "killed", agent) == whole


def test_a_run_whose_ranks_have_environments_of_their_own_goes_on_with_as_many(person):
    done = started.copies(2, PROGRAM, *command("ip-wgf", "--shards", "True"))
    assert [code for code, _, _ in done] == [0, 0], done
    code, _, err = person("resume", "runs/main/wgf_CartPole-v0/ip-wgf/seed-0", "--steps", "600")
    assert (code, err.count("\n")) == (2, 1)
    assert "the environments in it are those of 2 ranks, not of 1; go on with as many, by torchrun and shards" in err
    lines, codes = said(started.copies(3, PROGRAM, *command("ip-wgf", "--shards", "True", "--steps", "600")))
    assert len(lines) == 1
    assert "those of 2 ranks, not of 3" in lines[0]
    assert codes == [2, 2, 2]


def test_a_run_that_lost_a_rank_says_so_and_one_process_goes_on_with_it(person):
    assert person(*command("es", "--name", "one"))[0] == 0
    lines, codes = said(started.copies(2, PROGRAM, *command("es", "--shards", "True"), DIES=("1", "1"), AT=("4", "4")))
    assert codes == [70, -9]
    assert len(lines) == 1
    assert "rank 0 of 2 lost another rank" in lines[0]
    assert lines[0].endswith("the same command goes on from the last checkpoint")
    assert person("resume", "runs/main/wgf_CartPole-v0/es/seed-0")[0] == 0
    assert written(person.folder, "main", "es") == written(person.folder, "one", "es")


def test_where_one_rank_is_asked_to_stop_all_stop_and_the_same_command_goes_on(person):
    assert person(*command("es", "--name", "one"))[0] == 0
    shared = [PROGRAM, *command("es", "--shards", "True")]
    lines, codes = said(started.copies(2, *shared, DIES=("1", "1"), AT=("2", "2"), SIGNAL=("SIGTERM", "SIGTERM")))
    assert codes == [75, 75]
    assert len(lines) == 1
    assert lines[0].endswith("seeds 0, 1 interrupted; the same command goes on from here")
    done = started.copies(2, *shared)
    assert [code for code, _, _ in done] == [0, 0], done
    assert "from step 400 on" in done[0][1]
    assert written(person.folder, "main", "es") == written(person.folder, "one", "es")


@pytest.mark.parametrize(
    ("args", "each", "says"),
    [
        ((), {"NOGLOO": ("1", "1", "1")}, "shards on cpu need the back end gloo, which this torch lacks"),
        (("--pairs", "1"), {}, "3 ranks are too many for 2 particles; start at most 2"),
        ((), {"OMP_NUM_THREADS": ("1", "1", "1"), "ATEN_CPU_CAPABILITY": ("avx2", "avx2", "default")}, "the ranks disagree: processor is"),
    ],
)  # fmt: skip
def test_what_ranks_cannot_do_is_one_line_of_the_first(person, args, each, says):
    start = started.together if "ATEN_CPU_CAPABILITY" in each else started.copies  # torch asks once a process for its processor
    lines, codes = said(start(3, PROGRAM, *command("es", "--shards", "True"), *args, **each))
    assert len(lines) == 1
    assert says in lines[0]
    assert set(codes) == {2}
    assert not list(person.folder.glob("runs/**/config.json"))


@pytest.mark.parametrize(("option", "says"), [("--lr", "lr is 1.0 on rank 0 and 2.0 on rank 1"), ("--out", "out is '1' on rank 0 and '2'")])
def test_ranks_with_other_settings_are_one_line(person, option, says):
    (person.folder / "other.py").write_text(f"""
import os, sys, runpy
sys.argv = [{str(PROGRAM)!r}, *{command("es", "--shards", "True")!r}, {option!r}, str(1 + int(os.environ["RANK"]))]
runpy.run_path(sys.argv[0], run_name="__main__")
""")
    lines, codes = said(started.copies(2, person.folder / "other.py"))
    assert len(lines) == 1
    assert f"the ranks disagree: {says}" in lines[0]
    assert codes == [2, 2]


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ("es", "shards is True, but the environment has no RANK and no WORLD_SIZE; start the command by: torchrun"),
        ("sac", "agent 'sac' has no policies that ranks could share; es and ip-wgf have"),
        ("ip-wgf --normalize both", "normalize is 'both', but the ranks of shards do not count together what they see; give none"),
    ],
)
def test_what_cannot_be_shared_is_one_line(person, monkeypatch, agent, says):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = person("train", *agent.split(), *SMALL, "--shards", "True")
    assert code == 2
    assert err.count("\n") == 1
    assert says in err
