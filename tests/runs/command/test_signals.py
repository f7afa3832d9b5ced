"""What the first, the second and the third signal do to a long computation."""

import signal
import sys

import pytest

from wgf.runs.command.signals import stop_signals

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


def send(name):
    signal.raise_signal(getattr(signal, name))


@pytest.fixture
def before():
    """The signals that came to the handlers that stood before; a test's own process keeps its handlers."""
    seen, kept = [], {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in NAMES}
    for number in kept:
        signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))
    yield seen
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("name", "shown"), [(name, {"SIGINT": "Ctrl-C"}.get(name, name)) for name in NAMES])
def test_the_first_signal_asks_says_what_comes_and_is_the_programs_again_afterwards(before, capsys, name, shown):
    with stop_signals("it stops") as stopping:
        assert not stopping()
        send(name)
        assert stopping()
    assert capsys.readouterr().err == f"wgf: {shown}: it stops; Ctrl-C again stops at once\n"
    assert before == []
    for other in NAMES:
        send(other)
    assert before == list(NAMES)


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_the_second_stops_at_once_and_the_third_acts_as_it_did(before, capsys, first, second):
    with stop_signals("it stops"):
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(second)
        for name in NAMES:
            send(name)
    assert before == list(NAMES)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_signal_that_a_scheduler_repeats_waits_and_a_person_need_not(before):
    with stop_signals("it stops") as stopping:
        for name in ("SIGUSR1", "SIGUSR1", "SIGHUP"):
            send(name)
        assert stopping()
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
    assert before == []


def test_under_nohup_a_closed_terminal_stays_ignored(before):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals("it stops") as stopping:
        send("SIGHUP")
        assert not stopping()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_signal_that_comes_while_something_is_printed_still_asks(before, monkeypatch):
    class Busy:
        def write(self, text):
            raise RuntimeError("reentrant call inside")

    monkeypatch.setattr(sys, "stderr", Busy())
    with stop_signals("it stops") as stopping:
        send("SIGTERM")
        assert stopping()


def test_an_error_leaves_the_signals_as_they_were(before):
    with pytest.raises(OSError, match="full"), stop_signals("it stops"):
        raise OSError("full")
    send("SIGTERM")
    assert before == ["SIGTERM"]


def test_a_system_that_lacks_a_signal_has_the_others(before, monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    with stop_signals("it stops") as stopping:
        send("SIGTERM")
        assert stopping()
