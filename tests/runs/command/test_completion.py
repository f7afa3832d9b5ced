"""What bash completes with the script that wgf completion prints, asked in a real bash."""

import shutil
import subprocess
import sys

import gymnasium
import pytest

from wgf.agents import tasks
from wgf.agents.registry import AGENTS
from wgf.runs.command import cli

ASK = """
source script.bash
asked=$(complete -p wgf | sed 's/.*-F \\([^ ]*\\).*/\\1/')
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=(); $asked; echo "${COMPREPLY[*]}"; }
"""
LINES = {
    ("",): None,
    ("train", ""): None,
    ("exp",): ["export"],
    ("train", "dp-wgf", "--env", "Hop"): ["Hopper-v5"],
    ("doctor", "sac", "--env", "wgf/CartPoleS"): ["wgf/CartPoleSwingUp-v0"],
    ("compare", "--env", "Walk"): ["Walker2d-v5"],
    ("bench", "sac", "--rou"): ["--rounds"],
    ("bench", "--env", "Walk"): ["Walker2d-v5"],
    ("train", "sac", "--preset", "str"): ["strong", "strong-small"],
    ("train", "wpo", "--squ"): ["--squash"],
    ("train", "wpo", "--squash", ""): ["identity", "cbrt"],
    ("train", "es", "--squ"): [],
    ("eval", "--fr"): ["--frames"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What bash answers to each line."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash on this machine")
    from wgf.runs.command.completion import script

    folder = tmp_path_factory.mktemp("completion")
    (folder / "script.bash").write_text(script("bash"))
    asked = "".join("ask wgf " + " ".join(f"'{word}'" for word in line) + "\n" for line in LINES)
    done = subprocess.run(["bash", "-c", ASK + asked], cwd=folder, capture_output=True, text=True, check=True)
    return dict(zip(LINES, [answer.split() for answer in done.stdout.splitlines()], strict=True))


def test_bash_completes_commands_and_agents(answers):
    help_of = {line.split()[1] for line in cli.HELP.splitlines() if line.startswith("  wgf ") and line.split()[1].islower()}
    assert set(answers["",]) == (help_of - {"--version"}) | {"-h", "--help"}
    assert set(answers["train", ""]) >= set(AGENTS)


@pytest.mark.parametrize("line", [line for line, found in LINES.items() if found is not None], ids=" ".join)
def test_bash_completes_environments_options_and_their_values(answers, line):
    assert answers[line] == LINES[line]


def test_the_script_is_written_without_torch_and_offers_the_environments_that_there_are():
    code = (
        "import sys; from wgf.runs.command.completion import ids, script; script('zsh'); assert 'torch' not in sys.modules; print(*ids())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in found if name.startswith("wgf/")} == set(tasks.IDS)
    assert all(gymnasium.spec(name).id == name for name in found)


def test_another_shell_is_refused(person):
    code, out, err = person("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "shell is 'tcsh'; choose from 'bash', 'zsh'" in err
    assert err.count("\n") == 1
