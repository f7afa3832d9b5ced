"""One training as a process of its own: it is stopped when who started it dies, and its log says why it failed. Imports nothing heavy."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

__all__ = ["LOOK", "Restartable", "completed", "reason", "started"]

LIBC = ctypes.CDLL(None)
DEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies
LOOK = 0.1  # seconds between two looks at a process
TAIL = 2**16  # bytes at the end of a log among which the reason is looked for


def started(args: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    """Starts ``wgf ARGS``, whose output goes to the end of a log; returns the process.

    It has a session of its own, so that a Ctrl-C is its starter's alone, and gets SIGUSR1 when that dies, whatever kills it: it saves,
    and stops. SIGUSR2, by which schedulers warn a whole job, is its starter's to answer.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ wgf {shlex.join(args)}\n".encode())
        file.flush()
        command = [sys.executable, "-P", "-m", "wgf.runs.command", *args]
        follow = partial(_follow, os.getpid())
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, preexec_fn=follow,
        )  # fmt: skip


def _follow(parent: int) -> None:
    LIBC.prctl(DEATHSIG, signal.SIGUSR1)  # not SIGTERM: it comes once for each thread of the parent, and a second SIGTERM does not wait
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGUSR1)


def completed(args: Sequence[str], log: str, folder: str) -> int:
    """Runs ``wgf ARGS`` in a folder until it ends; returns its exit code. Where it is interrupted itself, it stops that command."""
    os.chdir(folder)
    return _waited(started(args, Path(log)))


def _waited(process: "subprocess.Popen[bytes]") -> int:
    try:
        while (code := process.poll()) is None:
            time.sleep(LOOK)
        return code
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


class Restartable:
    """``completed`` for a scheduler that may interrupt a job and begin it again: ``checkpoint`` stops the command, which saves first."""

    def __call__(self, args: Sequence[str], log: str, folder: str) -> int:
        """Runs ``wgf ARGS``; returns its exit code."""
        os.chdir(folder)
        self.process = started(args, Path(log))
        return _waited(self.process)

    def checkpoint(self, args: Sequence[str], log: str, folder: str) -> object:
        """Stops the command, waits until it has saved, and returns what is to be begun again.

        It may come while ``__call__`` holds the lock of the process, and so waits for the process without it.
        """
        from submitit.helpers import DelayedSubmission

        with suppress(ProcessLookupError, ChildProcessError):  # it has ended by itself
            os.kill(self.process.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Restartable(), args, log, folder)


def reason(log: Path, offset: int, code: int) -> str:
    """Returns in one line why a command failed: its own last line of error, from this offset of its log on, or what ended it."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - TAIL))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    own = [line.removeprefix("wgf: ") for line in lines if line.startswith("wgf: ")]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return own[-1] if own else f"ended with exit code {code}" + (f": {lines[-1]}" if lines and not lines[-1].startswith("$ ") else "")
