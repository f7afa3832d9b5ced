"""The command line before any training: help, listings and what cannot be understood."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from wgf.agents.registry import AGENTS
from wgf.runs.command.arguments import UsageError, parse
from wgf.runs.command.options import Place, What, together
from wgf.runs.studies.main import STUDIES


def imports(*args):
    """(modules that a command line imports, its stdout)."""
    code = (
        "import sys; from wgf.runs.command.cli import run\n"
        "try: run(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        [],
        ["agents"],
        ["train", "--help"],
        ["train", "sac", "--help"],
        ["doctor", "dp-wgf-v", "--preset", "strong", "--help"],
        ["compare", "--help"],
        ["bench", "--help"],
        ["sweep", "--help"],
        ["resume", "--help"],
        ["eval", "--help"],
        ["export", "--help"],
        ["multigoal", "--help"],
        ["bnn", "--help"],
        ["bnn-data", "--help"],
        ["completion", "--help"],
    ],
)
def test_help_imports_nothing_heavy(args):
    modules, out = imports(*args)
    assert not modules & {"torch", "gymnasium", "mujoco", "matplotlib", "scipy", "tensorboard"}
    assert "wgf" in out


def every(*lines):
    """For each of several command lines, run in one process: (exit code, stdout, stderr, whether torch is imported)."""
    code = (
        "import io, json, sys; from contextlib import redirect_stderr, redirect_stdout\n"
        "from wgf.runs.command.cli import run; from wgf.runs.studies.main import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    with redirect_stdout(out), redirect_stderr(err):\n"
        "        try: code = main(line[1:]) if line[0] == 'studies' else run(line)\n"
        "        except SystemExit as stop: code = stop.code or 0\n"
        "    print(json.dumps([code, out.getvalue(), err.getvalue(), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_help_of_every_agent_and_study_imports_no_torch():
    lines = [*(["train", agent, "--help"] for agent in AGENTS), *(["studies", study, "--help"] for study in STUDIES)]
    for line, (code, out, err, torch) in zip(lines, every(*lines), strict=True):
        assert (code, err, torch) == (0, "", False), line
        assert "--out" in out or "--data" in out, line


def test_a_wrong_option_is_told_in_a_line_without_torch(tmp_path):
    (tmp_path / "mine.yaml").write_text("agent: sac\nsteps: 1000\n")
    wrong = {
        ("train", "sca"): "did you mean 'sac'?",
        ("train", "DP-WGF"): "did you mean 'dp-wgf'?",
        ("train", "sac", "--stpes", "5"): "did you mean --steps?",
        ("train", "sac", "--lr", "fast"): "--lr is 'fast'; it must be a number",
        ("train", "sac", "--lr", "0"): "lr is 0.0; it must be above 0",
        ("train", "wpo", "--components", "3"): "components is 3; a gaussian policy has 1",
        ("train", "dp-wgf-v:particles=7"): "particles is 7; it must be a multiple of components, 4",
        ("train", "--config", str(tmp_path / "mine.yaml"), "--steps", "0"): "steps is 0; it must be at least 1",
        ("doctor", "sac", "--threads", "-1"): "threads is -1; it must be from 0",
        ("bench", "sac", "--rounds", "many"): "--rounds is 'many'; it must be a whole number",
        ("multigoal", "--seeds", "0"): "seeds is 0; it must be at least 1",
        ("studies", "figure3", "--spectra", "9"): "spectra is 9; it must be from 1 to 5",
    }
    for (line, words), (code, out, err, torch) in zip(wrong.items(), every(*map(list, wrong)), strict=True):
        assert (code, out, torch) == (2, "", False), line
        assert words in err, line
        assert err.count("\n") == 1, line


def test_help_names_every_command_and_exit_code(person):
    code, out, err = person("--help")
    assert (code, err) == (0, "")
    for words in ("wgf train AGENT", "wgf compare", "wgf eval RUN", "wgf agents", "75 interrupted"):
        assert words in out


def test_the_version_is_told_with_torchs_and_without_importing_it():
    modules, out = imports("--version")
    assert out == f"wgf {version('wgflow')} (torch {version('torch')})\n"
    assert "torch" not in modules


def test_agents_lists_every_preset_and_the_default(person):
    code, out, _ = person("agents")
    assert code == 0
    lines = out.splitlines()
    listed = [line.split()[:3] for line in lines if "--preset" in line and not line.startswith(("The ", "--"))]
    assert listed == [[name, "--preset", preset] for name in AGENTS for preset in AGENTS[name]]
    assert all("(default)" in line for line in lines if "--preset paper " in line)
    assert "The default is --preset paper" in out


@pytest.mark.parametrize(("agent", "words"), [("sac", "--components"), ("dp-wgf-v", "--w2-scale"), ("soft-q", "--particles")])
def test_an_agents_help_lists_its_own_options_with_the_presets_values(person, agent, words):
    (code, out, _), *modern = (person("train", agent, *preset, "--help") for preset in ([], ["--preset", "modern"], ["--preset=modern"]))
    assert code == 0
    assert words in out
    assert "(default:128,128)" in re.sub(r"[\s│]", "", out)  # wherever the line ends
    assert all("(default:256,256)" in re.sub(r"[\s│]", "", other) for _, other, _ in modern)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["trian"],
            "is unknown; choose from train, resume, compare, bench, sweep, eval, export, agents, doctor, multigoal, bnn, bnn-data, "
            "completion",
        ),
        (["agents", "x"], "agents takes no arguments, not 'x'"),
        (["eval"], "RUN is missing (see wgf eval --help)"),
        (["eval", "a", "b"], "argument 'b' is not understood"),
        (["eval", "a", "--epsodes", "2"], "option --epsodes is unknown; did you mean --episodes?"),
        (["compare", "--seeds", "two"], "--seeds is 'two'; it must be a whole number"),
        (
            ["compare", "--lr", "1e-3"],
            "option --lr is unknown (see wgf compare --help); settings of an agent follow its name, as in sac:lr",
        ),
        (["compare", "--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["compare", "--agents"], "agents is empty; name at least one"),
        (["compare", "--agents", "sac", "sac"], "agent 'sac' is named twice"),
        (["compare", "--agents", "a2c"], "agent 'a2c' is unknown; choose from"),
        (["compare", "--agents", "sac:speed=1"], "setting 'speed=1' is not FIELD=VALUE; the fields of this agent are activation, "),
        (["compare", "--agents", "sac:lr"], "setting 'lr' is not FIELD=VALUE"),
        (["compare", "--agents", "sac:lr=x"], "--lr is 'x'; it must be a number"),
        (["train", "sac", "--hidden", "64", "64"], "argument '64' is not understood; put commas between numbers, as in 64,64 (see"),
        (["train", "sac", "--hidden", "64,x"], "--hidden: 'x' in '64,x' is not a whole number; put commas between numbers, as in 64,64"),
        (["train", "sac", "--hidden", "64,0"], "hidden is 64,0; it must be at most 100 layers of at least 1 unit"),
        (["train", "sac", "--hidden"], "--hidden needs a value (see wgf train sac --help)"),
        (["compare", "--agents", "sac:hidden=8,y"], "--hidden: 'y' in '8,y' is not a whole number"),
        (["compare", "--agents", "sac:lr=-1"], "lr is -1.0; it must be above 0"),
        (["compare", "--agents", "sac:preset=best"], "preset 'best' is unknown"),
        (["compare", "--agents", "sac:activation=../../x"], "activation is ../../x; it must be tanh or relu"),
        (["compare", "--preset", "best"], "preset 'best' is unknown to sac; choose from paper, modern, strong, strong-small"),
    ],
)
def test_what_cannot_be_understood_is_one_line(person, args, words):
    code, _, err = person(*args)
    assert code == 2
    assert words in err
    assert err.startswith("wgf: ")
    assert err.count("\n") == 1
    assert list(person.folder.iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_error_is_one_line_in_any_terminal(script, encoding):
    _, err = script("train", "sac", "--lr", "fast", env={"PYTHONIOENCODING": encoding, "LC_ALL": "C"}).communicate(timeout=300)
    assert err == "wgf: --lr is 'fast'; it must be a number (see wgf train sac --help)\n"


def test_a_script_can_use_the_options_too():
    assert parse(What, ["--seeds", "3"], prog="x").chosen() == (0, 1, 2)
    with pytest.raises(UsageError, match=r"^option --seed is unknown; did you mean --first-seed or --seeds\? \(see x --help\)$"):
        parse(What, ["--seed", "3"], prog="x")


@pytest.mark.parametrize("where", ["empty", "results", "package"])
def test_it_works_from_any_folder(script, tmp_path, where):
    if where == "results":
        (tmp_path / "runs" / "old" / "results").mkdir(parents=True)
    if where == "package":  # as in a checkout of another project
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "__init__.py").write_text("raise SystemExit('the wrong runs')")
    process = script("train", "sac", "--env", "Nothing-v0")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.startswith("wgf: environment 'Nothing-v0' cannot be made")


def test_what_a_command_line_is_read_into_is_made_once():
    """The reader remembers every type that it has seen: a program that runs commands all day would grow with them."""
    groups = {"task": What(), "place": Place()}
    assert together("Train", groups) is together("Train", {"task": What(env="Hopper-v5"), "place": Place()})
    assert together("Train", groups) is not together("Train", {"place": Place()})
