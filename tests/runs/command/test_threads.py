"""Threads that wait for each other sleep, so that a busy machine does not starve them."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("chosen", "expected"), [({}, "0"), ({"GOMP_SPINCOUNT": "100"}, "100"), ({"OMP_WAIT_POLICY": "active"}, "None")])
def test_waiting_threads_sleep_before_torch_is_imported_unless_a_person_chose(chosen, expected):
    code = (
        "import os, sys; from wgf.runs.command.answers import launch\n"
        "launch(lambda args: print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules) or 0)"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=plain | chosen, check=True)
    assert done.stdout == f"{expected} False\n"
