"""A hundred corruptions of the files that commands read; the recipe of a thousand is tests/corruptions.py."""

import numpy as np

from tests import corruptions


def test_every_corruption_is_refused_in_a_line_or_answered_by_a_correct_fall_back(tmp_path):
    answers, faults = corruptions.attack(tmp_path, 100, seed=1)
    assert faults == []
    assert answers.total() == 100
    assert answers["refused in a line"] >= 60


def test_a_reader_that_believes_everything_is_found_out(tmp_path):
    """The count would show it: other content, a traceback, a line without the file."""
    (tmp_path / "file").write_text("12")
    reader = corruptions.Reader(tmp_path, ("file",), lambda folder: int((folder / "file").read_text()))
    answers = {}
    for content in ("12", " 12", "13", "x"):
        (tmp_path / "file").write_text(content)
        answers[content] = corruptions.answered(reader, tmp_path, 12, corruptions.Step(30, ""))
    assert answers == {
        "12": "read as it was written", " 12": "read as it was written", "13": "fault: other content was believed",
        "x": "fault: invalid literal for int() with base 10: 'x'",
    }  # fmt: skip


def test_every_corruption_is_one():
    random, content = np.random.default_rng(0), bytes(range(1, 101))
    found = [corruptions.corrupted(content, [b"other"], random) for _ in range(300)]
    assert {kind for kind, _ in found} == {"flip", "flips", "cut", "empty", "zeros", "zeroed", "longer", "swapped", "other", "gone"}
    flips = [after for kind, after in found if kind == "flip"]
    assert all(sum((a ^ b).bit_count() for a, b in zip(after, content, strict=True)) == 1 for after in flips)
    assert all(len(after) < len(content) for kind, after in found if kind == "cut")
    assert sum(after == content for _, after in found) < 15  # blocks of no length
