"""Output that nobody reads any more: the computation goes on, and only what is lost is told."""

import json
import os
import pty
import subprocess

import pytest

from wgf.agents.training.checkpoint import load

RUN = "runs/main/InvertedPendulum-v5/sac/seed-0"


def finished(folder):
    return json.loads((folder / RUN / "result.json").read_text())["status"] == "finished" and load(folder / RUN)[0]["step"] == 60


@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_leaves_ends_no_training(script, tiny, tmp_path, both):
    read, write = os.pipe()
    streams = {"stdout": write, "stderr": write} if both else {"stdout": write}
    process = script("train", "sac", "--env", "InvertedPendulum-v5", *tiny, **streams)
    os.close(write)
    os.read(read, 1)  # as head -c 1 does
    os.close(read)
    assert process.communicate(timeout=300)[1] in ("", None)
    assert process.returncode == 0
    assert finished(tmp_path)


def test_a_terminal_that_is_closed_ends_no_training(script, tiny, tmp_path):
    main, side = pty.openpty()
    process = script("train", "sac", "--env", "InvertedPendulum-v5", *tiny, stdout=side, stderr=side)
    os.close(side)
    os.read(main, 1)
    os.close(main)
    assert process.wait(timeout=300) == 0
    assert finished(tmp_path)


@pytest.mark.parametrize("args", [["agents"], ["train", "sac", "--help"], ["--help"], ["--version"]])
def test_a_reader_that_left_before_the_first_line_is_no_error(script, args):
    read, write = os.pipe()
    os.close(read)
    process = script(*args, stdout=write)
    os.close(write)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def test_an_output_that_is_lost_is_told_once(script):
    with open("/dev/full", "w") as full:
        process = script("train", "--help", stdout=full)
    assert process.communicate(timeout=300)[1] == "wgf: standard output cannot be written: No space left on device\n"
    assert process.returncode == 70


def test_without_standard_streams_a_command_still_runs_and_its_files_stay_clean(script, tiny, tmp_path):
    def close():
        for number in (0, 1, 2):
            os.close(number)

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = script("train", "sac", "--env", "InvertedPendulum-v5", *tiny, preexec_fn=close, **quiet)
    assert process.wait(timeout=300) == 0
    assert finished(tmp_path)
    assert b"replay" not in (tmp_path / RUN / "metrics.csv").read_bytes()


def test_a_letter_that_a_terminal_lacks_is_shown_by_its_number(script, tmp_path):
    process = script("train", "sac", "--env", "Größe-v0", env={"PYTHONIOENCODING": "ascii"})
    assert process.communicate(timeout=300)[1].startswith(r"wgf: environment 'Gr\xf6\xdfe-v0' cannot be made")
    code = "from wgf.runs.command.answers import launch, say; launch(lambda args: say('4² ± 1') or 0)"
    python = [script.python, "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\\xb2 \\xb1 1\n", "")
