"""Reading the sets: what is right is taken as it is, what is wrong is named by file, line and expectation."""

import gzip
import hashlib
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wgf.bnn import data

SMALL = data.Set(6, 2, "nothing", None)
TEXT = "1 2\t3 \n4 5  6\n7 8 9\n1 2 3\n-1e3 .5 0\n2 2 2\n"
NUMBERS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3], [-1000, 0.5, 0], [2, 2, 2]])

# SHA-256 of all permutations, as little-endian int64, that the standard index files spell out
PERMUTATIONS = {"boston": "3a0f9d6fd12975eb", "naval": "c85d2a484c787dc1", "protein": "0abd139c01ad348d", "yacht": "28ca596560b98361"}


def put(folder, text, name="data.txt"):
    (folder / "toy").mkdir(exist_ok=True)
    (folder / "toy" / name).write_text(text)
    return folder


def test_a_file_is_read_whatever_white_space_parts_its_numbers(tmp_path):
    rows = data.load(put(tmp_path, TEXT), "toy", SMALL)
    np.testing.assert_array_equal(np.column_stack(rows), NUMBERS)


def test_a_gzipped_file_is_the_same(tmp_path):
    put(tmp_path, "")
    (tmp_path / "toy" / "data.txt").unlink()
    (tmp_path / "toy" / "data.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    np.testing.assert_array_equal(data.load(tmp_path, "toy", SMALL).x, NUMBERS[:, :2])


def test_the_year_set_has_commas_and_its_target_first_and_is_split_by_order(tmp_path):
    year = replace(data.SETS["year"], rows=3, features=2, first_test_row=2)
    (tmp_path / "year").mkdir()
    (tmp_path / "year" / "YearPredictionMSD.txt").write_text("2001,1.5,-2\n1999,3,4\n2010,5,6\n")
    rows = data.load(tmp_path, "year", year)
    np.testing.assert_array_equal(rows.y, [2001, 1999, 2010])
    np.testing.assert_array_equal(rows.x, [[1.5, -2], [3, 4], [5, 6]])
    (split,) = data.splits("year", year)
    assert split.train.tolist() == [0, 1]
    assert split.test.tolist() == [2]
    assert [len(part) for part in data.splits("year")[0]] == [463715, 51630]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 2 3\n4 5\n", r"toy/data.txt line 2 has 2 numbers; expected 3: 2 features and the target"),
        ("1 2 3\n4 x 6\n", r"toy/data.txt line 2: could not convert string to float: 'x'; expected 3 numbers"),
        ("1 2 3\n\n4 1_0 6\n", r"toy/data.txt line 3 has a '_'; expected 3 numbers"),
        ("1 2 3\n4 " + "x" * 9999 + " 6\n", r"toy/data.txt line 2: could not convert string to float: 'x{60,70}; expected 3 numbers"),
        (" " * 70000, r"toy/data.txt has 0.1 MiB, and 6 rows have at most 0.1 MiB; it is not this set"),
        ("1 2 3\n4 nan 6\n", r"toy/data.txt line 2 holds a number that is not finite; expected 3 numbers"),
        ("1 2 3\n4 5 6\n", r"toy/data.txt has 2 lines; toy has 6 rows: the file is cut short or not this set"),
        ("1 2 é\n", r"toy/data.txt cannot be read after line 0: 'ascii' codec .*; fetch it again"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        data.load(put(tmp_path, text), "toy", SMALL)


def test_a_gzipped_file_that_was_cut_is_named(tmp_path):
    put(tmp_path, "")
    (tmp_path / "toy" / "data.txt").unlink()
    (tmp_path / "toy" / "data.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-12])
    with pytest.raises(ValueError, match=r"toy/data.txt.gz cannot be read after line \d: .*; fetch it again"):
        data.load(tmp_path, "toy", SMALL)


def packed(folder, content):
    (folder / "toy").mkdir()
    (folder / "toy" / "data.txt.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1 2 3\n" * 1_000_000, "has more than 6 lines; toy has 6 rows: the file is not this set"),
        (b"1 2 3 " * 1_000_000, "has more text than 6 rows of 3 numbers; it is not this set"),
        (b"\n" * 10_000_000, "has more text than 6 rows of 3 numbers"),
        (b" " * 10_000_000, "has more text than 6 rows of 3 numbers"),
    ],
)
def test_a_small_file_that_unpacks_to_much_is_refused_before_it_does(tmp_path, content, says):
    path = packed(tmp_path, content)
    assert (path / "toy" / "data.txt.gz").stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"data.txt.gz {says}"):
        data.load(path, "toy", SMALL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # of 6 to 10 million bytes


def test_a_pipe_or_a_device_is_no_set(tmp_path):
    (tmp_path / "toy").mkdir()
    os.mkfifo(tmp_path / "toy" / "data.txt")
    (tmp_path / "toy" / "data.txt.gz").symlink_to("/dev/zero")
    with pytest.raises(data.Missing):
        data.load(tmp_path, "toy", SMALL)


def test_a_set_without_a_published_checksum_is_compared_with_what_was_fetched(tmp_path, monkeypatch):
    monkeypatch.setitem(data.SETS, "toy", SMALL)
    put(tmp_path, TEXT)
    data.load(tmp_path, "toy")
    data.note(tmp_path, "toy")
    data.load(tmp_path, "toy")
    with pytest.raises(ValueError, match=r"toy/data.txt holds other numbers than those that were fetched: their SHA-256 is"):
        data.load(put(tmp_path, TEXT.replace("-1e3", "-1.1e3")), "toy")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"there is no .*/toy/data.txt nor data.txt.gz; give the folder that holds toy/data.txt, or fetch it: wgf bnn-data fetch",
    ):
        data.load(tmp_path, "toy", SMALL)


def test_altered_numbers_are_found_by_their_checksum(tmp_path):
    known = replace(SMALL, sha256=hashlib.sha256(NUMBERS.astype("<f8").tobytes()).hexdigest())
    data.load(put(tmp_path, TEXT), "toy", known)
    with pytest.raises(
        ValueError, match=r"toy/data.txt holds other numbers than the published toy: their SHA-256 is \w{64}, expected \w{64}"
    ):
        data.load(put(tmp_path, TEXT.replace("-1e3", "-1.1e3")), "toy", known)


@pytest.mark.parametrize("name", sorted(PERMUTATIONS))
def test_the_splits_are_the_standard_ones(name):
    about, digest = data.SETS[name], hashlib.sha256()
    found = data.splits(name)
    for split in found:
        assert len(split.train) == round(0.9 * about.rows)
        digest.update(np.concatenate(split).astype("<i8").tobytes())
    assert len(found) == about.splits
    assert digest.hexdigest()[:16] == PERMUTATIONS[name]


@pytest.mark.skipif("WGF_DATA" not in os.environ, reason="the sets are not part of this project: WGF_DATA names a folder that holds them")
@pytest.mark.parametrize("name", sorted(data.SETS.keys() - {"year"}))
def test_the_sets_and_the_index_files_at_hand_are_these(name):
    folder = Path(os.environ["WGF_DATA"])
    about, rows = data.SETS[name], data.load(folder, name)
    assert rows.x.shape == (about.rows, about.features)
    for i, split in enumerate(data.splits(name)):
        for part in ("train", "test"):
            file = next((folder / name).glob(f"index_{part}_{i}.txt*"))
            np.testing.assert_array_equal(getattr(split, part), np.loadtxt(file, dtype=int))


def test_repeated_rows_are_those_whose_inputs_and_target_are_in_the_train_part():
    rows = data.Rows(NUMBERS[:, :2], NUMBERS[:, 2])
    split = data.Split(np.array([0, 1, 2]), np.array([3, 4, 5]))
    assert data.repeated(rows, split).tolist() == [True, False, False]
    assert data.repeated(data.Rows(rows.x, rows.y + np.eye(6)[0]), split).tolist() == [False, False, False]
