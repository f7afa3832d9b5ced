"""Some of the wrong calls; the recipe of all of them is tests/mistakes.py."""

import math

import pytest
import torch

from tests import mistakes
from tests.mistakes import Call


def test_a_wrong_call_is_refused_in_a_line_that_names_the_argument_or_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers, faults = mistakes.attack(tmp_path, 149)
    assert faults == []
    assert answers["refused in a line"] > 50


def lines():
    raise ValueError("x is\nwrong")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: math.sqrt(-1.0), "fault: it does not name x"),
        (lambda x: lines(), "fault: several lines"),
        (lambda x: [][0], "fault: IndexError"),
        (lambda x: torch.tensor(math.nan), "fault: it answers nan"),
        (lambda x: torch.tensor(1.0), "worked"),
    ],
)
def test_what_is_no_refusal_of_one_line_is_found_out(function, says):
    assert mistakes.answer("x", Call(function, {"x": 1.0}), {"x": 1.0}).startswith(says)
