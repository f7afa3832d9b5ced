"""Output that nobody reads any more: the computation goes on, and only what is lost is told."""

import errno
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from wgf.agents.training.checkpoint import load
from wgf.runs.command.streams import GONE, Stream, open_standard

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


def test_a_stream_that_is_full_says_so_once_and_then_goes_nowhere(capsys):
    with open("/dev/full", "w") as full:
        stream = Stream(full, "the table")
        assert stream.write("waits\n") == 6
        assert (stream.lost, stream.encoding) == (False, full.encoding)
        stream.flush()
        assert stream.lost
        full.write("more")
        full.flush()  # which no longer fails
    assert capsys.readouterr().err == "wgf: the table cannot be written: No space left on device\n"


class Broken:
    """A stream that cannot be written, and has no number that another could take."""

    def __init__(self, number):
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    def fileno(self):
        raise ValueError("no file")


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, True), *((number, False) for number in GONE)])
def test_what_is_lost_is_told_unless_nobody_waits_for_it(capsys, number, told):
    stream = Stream(Broken(number), "the table")
    assert [stream.write("ab"), stream.write("c")] == [2, 1]
    assert stream.lost is told
    assert capsys.readouterr().err == f"wgf: the table cannot be written: {os.strerror(number)}\n" * told


@pytest.mark.parametrize(("closed", "opened"), [((), []), ((0, 1, 2), [0, 1, 2, 3, 4]), ((1,), [1, 3])])  # and one for each that is written
def test_standard_streams_that_are_missing_lead_nowhere_for_programs_that_are_started_too(closed, opened):
    code = (
        "import os, sys; from wgf.runs.command.streams import open_standard\n"
        "def held(): return {n for n in range(9) if os.path.exists(f'/proc/self/fd/{n}')}\n"
        "before = held(); out = open_standard(); out.write('a'); out.flush(); sys.stderr.flush()\n"
        "handed = sys.stdout is out and not out.lost and all(map(os.get_inheritable, (0, 1, 2)))\n"
        "sys.exit(7 * (handed and str(sorted(held() - before)) == sys.argv[1]))"
    )

    def close():
        for number in closed:
            os.close(number)

    command = [sys.executable, "-c", code, str(opened)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, preexec_fn=close).returncode == 7


def test_a_stream_that_a_program_put_there_is_kept(monkeypatch):
    ascii_only, errors = io.TextIOWrapper(io.BytesIO(), encoding="ascii"), io.StringIO()
    for out in (ascii_only, errors):  # the second has no encoding to set
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", errors)
        assert open_standard() is sys.stdout
        print("4²", file=sys.stdout, flush=True)
        print("±", file=sys.stderr)
    assert ascii_only.buffer.getvalue() == b"4\\xb2\n"
    assert errors.getvalue() == "±\n4²\n±\n"
