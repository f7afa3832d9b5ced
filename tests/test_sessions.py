"""The page of recorded sessions has the commands that are recorded, and they are still understood."""

import sys

import pytest

from tests.sessions import FILES, PAGE, SESSIONS, commands
from wgf.runs.command import arguments, cli, tokens

LINES = [line for lines in SESSIONS.values() for line in lines]
WRONG = SESSIONS["What cannot be understood"][:2]


def test_the_page_has_every_command():
    assert commands(PAGE.read_text()) == LINES


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_still_understood(line, tmp_path, monkeypatch, capsys):
    """It stops as soon as its options are read."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    parse = arguments.parse
    assert tokens.parse is parse  # it was imported before what follows

    def read(*args, **kwargs):
        parse(*args, **kwargs)
        sys.exit(0)

    monkeypatch.setattr(arguments, "parse", read)
    for name in [name for name, module in sys.modules.items() if name.startswith("wgf.runs.studies") and hasattr(module, "parse")]:
        monkeypatch.setattr(f"{name}.parse", read)  # another test may have imported it
    monkeypatch.setattr("wgf.runs.command.doctor.examine", lambda planned, say: 0)
    try:
        code = cli.run(line.split()[1:])
    except SystemExit as stop:
        code = stop.code
    if line in WRONG:
        assert code == 2
        assert capsys.readouterr().err.strip() in PAGE.read_text()
    else:
        assert code == 0, capsys.readouterr().err
