"""Functions of tensors as machine code, by torch's compiler, Inductor.

A function is recorded as it runs once. ``torch.compile`` would record it too, and ask before every call whether the recording still holds,
which is a good part of a short call. Who calls here knows: the same function, shapes and layouts.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

# What torch does faster on a CPU than compiled code: tanh, several times; putting together, which would not be a copy but a choice for
# every number; and what compiled code would repeat for every number that a scalar meets
_aten = torch.ops.aten
LEFT = (_aten.tanh.default, _aten.tanh_.default, _aten.cat.default, _aten.expm1.default, _aten.remainder.Scalar)
_failed = [0]


def uncompiled() -> int:
    """Returns how many functions could not be compiled since the process began."""
    return _failed[0]


def available() -> bool:
    """Whether there is a C++ compiler, which machine code for a CPU needs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def machine_code(function: Callable[..., Any], *args: Any) -> Callable[..., Any] | None:
    """``function`` for arguments of the shapes and layouts of ``args``, tensors or tuples of them, with every tensor that it changes among
    them; equal to it but for rounding. Takes seconds, and runs the function once.

    Whole or not at all: None, with a RuntimeWarning, where there is no C++ compiler or where the function looks at numbers.
    """
    try:
        recorded = make_fx(function)(*args)
        for operator in LEFT:
            for node in recorded.graph.find_nodes(op="call_function", target=operator):
                node.meta["custom"] = {"fallback_to_eager": node.meta["val"].is_cpu}
        return torch._inductor.compile(recorded, list(args))  # type: ignore[no-any-return]
    except RuntimeError as error:
        _failed[0] += 1
        warnings.warn(f"not compiled: {' '.join(str(error).split())[:200]}", RuntimeWarning, stacklevel=2)
        return None
