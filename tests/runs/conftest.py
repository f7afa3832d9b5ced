"""The command line as a person runs it: the console script, in a folder of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TINY = [
    "--steps",
    "60",
    "--warmup",
    "20",
    "--hidden",
    "8,8",
    "--batch",
    "8",
    "--eval-every",
    "30",
    "--log-every",
    "15",
    "--eval-episodes",
    "2",
]


@pytest.fixture(autouse=True)
def told_apart(monkeypatch):
    """Of every figure that a test draws: two curves of its legend differ in line or marker, and not in the colour alone."""
    from matplotlib.lines import Line2D

    from wgf.runs.trainer import figures

    def below(drawn, axes, note, kept=figures._below):
        kept(drawn, axes, note)
        curves = [handle for legend in drawn.legends for handle in legend.legend_handles if isinstance(handle, Line2D)]
        looks = [(line.get_linestyle(), line.get_marker(), line.get_fillstyle()) for line in curves]
        assert len(set(looks)) == len(looks), looks

    monkeypatch.setattr(figures, "_below", below)


@pytest.fixture
def person(tmp_path, monkeypatch):
    """``person(*args)`` runs wgf in an empty folder, in this process: (exit code, stdout, stderr); ``main=`` another command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a command may add the folder, whose modules no other test is to find

    def run(*args, main=None):
        import io
        from contextlib import redirect_stderr, redirect_stdout

        from wgf.runs.command import cli

        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = (main or cli.run)([str(a) for a in args])
            except SystemExit as stop:
                code = stop.code or 0
        return code, out.getvalue(), err.getvalue()

    run.folder = tmp_path
    return run


@pytest.fixture
def script(tmp_path):
    """``script(*args)`` starts the console script itself; a Popen with its output piped."""
    wgf = Path(sys.executable).with_name("wgf")
    if not wgf.exists():
        pytest.skip("the console script is not installed beside this Python")

    def start(*args, **options):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
        first = options.pop("preexec_fn", lambda: None)

        def begin():
            for number in (signal.SIGHUP, signal.SIGINT):  # which tests that run under nohup would hand on as ignored
                signal.signal(number, signal.SIG_DFL)
            first()

        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([str(wgf), *map(str, args)], cwd=tmp_path, env=environment, preexec_fn=begin, **pipes)

    start.python = sys.executable
    return start


@pytest.fixture
def tiny():
    """Options of a training of a second."""
    return list(TINY)
