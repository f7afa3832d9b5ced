"""A disk that is full and folders that cannot be written: the line names the file, and nothing is left that is in the way."""

import json
import resource

import pytest
from filelock import FileLock

from wgf.runs.trainer.reuse import locked, move_aside
from wgf.runs.trainer.tables import write, write_rows

RUN = "runs/main/InvertedPendulum-v5/sac"


def limit(size):
    """A process whose files cannot grow beyond a size, as where the disk is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("size", "code", "words"),
    [
        (100, 2, "seed-0/config.json cannot be written: File too large; write to another folder"),
        (3000, 70, "policy-0.safetensors cannot be written: File too large"),
        (9 << 10, 70, "seed-0/training/state-0.safetensors cannot be written: File too large"),
    ],
)
def test_a_disk_that_is_full_at_the_start_leaves_nothing_in_the_way(script, tiny, tmp_path, size, code, words):
    process = script("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny, preexec_fn=limit(size))
    _, err = process.communicate(timeout=300)
    assert words in err
    assert "is kept" not in err
    assert err.count("\n") == 1
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []
    again = script("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    assert again.communicate(timeout=300)[1] == ""


def test_a_seed_that_cannot_be_opened_leaves_no_other_half_open(person, tiny):
    (person.folder / RUN).mkdir(parents=True)
    (person.folder / RUN / "seed-1").write_text("a file")
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    assert (code, err) == (2, f"wgf: {RUN}/seed-1 cannot be written: File exists; write to another folder\n")
    assert [path.name for path in (person.folder / RUN).iterdir()] == ["seed-1"]
    (person.folder / RUN / "seed-1").unlink()
    assert person("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)[::2] == (0, "")


@pytest.mark.parametrize("names", [{"notes.txt": "mine"}, {"config.json": '{"model": 1}'}])
def test_a_folder_that_wgf_did_not_write_is_not_moved(person, tiny, names):
    folder = person.folder / RUN / "seed-0"
    folder.mkdir(parents=True)
    for name, content in names.items():
        (folder / name).write_text(content)
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    assert code == 2
    assert err.count("\n") == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == names
    with pytest.raises(ValueError, match=rf"seed-0 holds '{next(iter(names))}', which wgf did not write; give another --name or --out"):
        move_aside(folder)


def test_what_a_run_leaves_that_died_at_once_is_moved(tmp_path, capsys):
    (folder := tmp_path / "seed-0").mkdir()
    for name in (".lock", "metrics.csv", ".config.json.tmp"):
        (folder / name).write_text("")
    move_aside(folder)
    assert "moved to seed-0.unfinished-1" in capsys.readouterr().err
    assert len(list((tmp_path / "seed-0.unfinished-1").iterdir())) == 3


def test_a_table_on_a_full_disk_names_its_file(tmp_path):
    (tmp_path / "table.csv").write_text("a\n0\n")
    (tmp_path / ".table.csv.tmp").symlink_to("/dev/full")  # what is written before it is renamed
    with pytest.raises(OSError, match="No space left") as error:
        write_rows(tmp_path / "table.csv", ["a"], [[1]])
    assert error.value.filename == str(tmp_path / "table.csv")
    (tmp_path / ".table.csv.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "table", [{"a": "1"}])
    assert (tmp_path / "table.csv").read_text() == "a\n0\n"


def test_a_study_on_a_full_disk_is_one_line_and_the_folder_that_cannot_be_written_is_named_before_the_work(person):
    (person.folder / ".natural.md.tmp").symlink_to("/dev/full")
    from wgf.runs.studies.main import main

    code, _, err = person("natural", "--updates", 1, "--out", ".", main=main)
    assert (code, err) == (2, "wgf: natural.md: No space left on device\n")


def test_a_study_is_locked(tmp_path):
    bnn, says = tmp_path / "runs" / "bnn", "bnn is being written by another process; wait for it, or give another --name"
    with locked(bnn), pytest.raises(ValueError, match=says), locked(bnn):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bnn").mkdir()
    with FileLock(tmp_path / "bnn" / ".lock"), pytest.raises(ValueError, match="is being written"), locked(tmp_path / "bnn"):
        pass
    with locked(tmp_path / "bnn"):
        (tmp_path / "bnn" / "result.json").write_text(json.dumps({}))
    assert [path.name for path in (tmp_path / "bnn").iterdir()] == ["result.json"]
