"""The one entry of all studies: help, errors in one line, exit codes."""

import pytest

from wgf.runs.studies import main as entry
from wgf.runs.studies.main import STUDIES, main, run


def test_without_a_name_every_study_is_told_with_its_first_line(capsys):
    for args in ([], ["--help"], ["-h"]):
        assert main(args) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("usage: python -m wgf.runs.studies NAME")
        assert [line.split()[0] for line in lines[2:]] == list(STUDIES)
        assert all(len(line.split()) > 3 for line in lines[2:])


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_tells_its_options_and_refuses_others_in_one_line(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: python -m wgf.runs.studies {name} " in " ".join(capsys.readouterr().out.split())
    needed = ["--data", "x"] if name == "bnn_data" else []
    assert main([name, *needed, "--no-such-option", "1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wgf: option --no-such-option is unknown")
    assert err.endswith(f"(see python -m wgf.runs.studies {name} --help)\n")
    assert err.count("\n") == 1


def test_an_unknown_study_is_one_line(capsys):
    assert main(["figur1"]) == 2
    assert capsys.readouterr().err == (
        f"wgf: study 'figur1' is unknown; choose from {', '.join(STUDIES)} (did you mean 'figure1'?)\n"
    )  # fmt: skip
    assert main(["x"]) == 2
    assert capsys.readouterr().err.endswith("wpo_mixture\n")


def test_an_option_that_is_needed_is_named(capsys):
    assert main(["bnn_data"]) == 2
    assert capsys.readouterr().err == "wgf: --data is missing (see python -m wgf.runs.studies bnn_data --help)\n"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("wpo_mixture", ["--out", str(tmp_path / "file" / "below"), "--iterations", "1", "--batch", "2"], "x") == 2
    assert capsys.readouterr().err == f"wgf: {tmp_path / 'file' / 'below'}: Not a directory\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("a\n is 1;  it must be 2"), 2, "wgf: a is 1; it must be 2\n"),
        (KeyboardInterrupt(), 75, "wgf: stopped\n"),
    ],
)
def test_what_a_study_raises_is_its_exit_code(monkeypatch, capsys, error, code, words):
    def broken(options, say):
        raise error

    monkeypatch.setattr(entry.import_module("wgf.runs.studies.natural"), "main", broken)
    assert run("natural", [], "x") == code
    assert capsys.readouterr().err == words


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def broken(options, say):
        raise OSError("no file is named")

    monkeypatch.setattr(entry.import_module("wgf.runs.studies.natural"), "main", broken)
    with pytest.raises(OSError, match="no file"):
        run("natural", [], "x")
