"""A sweep as a person calls it, whose trainings are forks of this process: real ones, without the seconds that Python takes to start."""

import os
import signal
import sys
from pathlib import Path

import pytest

from wgf.runs.command import cli
from wgf.runs.sweeps import engines

TINY = {"steps": 40, "warmup": 10, "log_every": 20, "eval_every": 20, "eval_episodes": 1, "checkpoint_every": 20, "threads": 1}


class Forked:
    """A training in a fork of this process."""

    def __init__(self, args, log):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.code, self.pid = None, os.fork()
        if self.pid:
            return
        code = 70
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1), os.dup2(out, 2)
            sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
            code = cli.run(args)
        finally:
            os._exit(code)

    def poll(self):
        if self.code is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if process else None
        return self.code

    def send(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send(signal.SIGTERM)

    def kill(self):
        self.send(signal.SIGKILL)


class Forks:
    """An engine of forks; ``started`` are all of them, and ``before(command)`` is called before each."""

    def __init__(self):
        self.started, self.before = [], lambda command: None

    def start(self, command):
        self.before(command)
        self.started.append((command, Forked(command.args, command.log)))
        return self.started[-1][1]


@pytest.fixture
def forks(monkeypatch):
    """The engine that a local sweep has in a test."""
    found = Forks()

    def chosen(name, options, folder):
        return found if name == "local" else engines.engine(name, options, folder)

    monkeypatch.setattr("wgf.runs.sweeps.sweep.engine", chosen)
    yield found
    for _, fork in found.started:
        fork.kill()


@pytest.fixture
def sweep(person, forks):
    """``sweep(*options, **fields)`` writes tiny.yaml and calls ``wgf sweep`` on it: (exit code, stdout, stderr)."""
    import yaml

    def call(*options, **fields):
        file = {**TINY, "environments": ["wgf/CartPole-v0"], "agents": ["sac:hidden=8:batch=8"], "seeds": 1, "slots": 2, **fields}
        (person.folder / "tiny.yaml").write_text(yaml.safe_dump(file))
        return person("sweep", "tiny.yaml", *options)

    call.folder = person.folder / "runs" / "tiny"
    call.cartpole = Path(call.folder) / "wgf_CartPole-v0"
    return call
