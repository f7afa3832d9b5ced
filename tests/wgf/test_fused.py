"""Small transport problems as one Triton kernel: on a CPU by Triton's interpreter, and compiled for a GPU that need not be there."""

import os
import subprocess
import sys

import pytest

from tests.ranks import ROOT

pytest.importorskip("triton", reason="triton is not installed")


def run(*command, **variables):
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_by_the_interpreter_it_is_the_iterations_in_torch():
    done = run("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/wgf/fused_by_interpreter.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout
    assert " 7 passed" in done.stdout


COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from wgf.fused import iterations
for kind in ("fp32", "fp64"):
    tensors = dict.fromkeys(("cost", "log_a", "log_b", "target", "level", "f_out", "g_out", "gap_out"), f"*{kind}")
    numbers = {"tol": "fp32", "cooling": "fp32", "max_iters": "i32", "m": "i32", "n": "i32", "M": "constexpr", "N": "constexpr"}
    found = compile(ASTSource(iterations, tensors | numbers, {"M": 64, "N": 64}), target=GPUTarget("cuda", 90, 32))
    print(kind, len(found.asm["cubin"]) > 0, ".local" in found.asm["ptx"])
"""


def test_it_compiles_for_a_gpu_with_the_plan_in_registers(tmp_path):
    """For compute capability 9.0, which needs none: no number is put into local memory."""
    done = run("-c", COMPILED, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["fp32 True False", "fp64 True False"]
