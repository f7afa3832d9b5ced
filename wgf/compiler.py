"""Functions of tensors as machine code, by torch's compiler, Inductor.

A function is recorded as it runs once. ``torch.compile`` would record it too, and ask before every call whether the recording still holds,
which is a good part of a short call. Who calls here knows: the same function, shapes and layouts.
"""

import logging
import warnings
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["available", "machine_code", "settled", "tanh", "tanh_", "uncompiled"]

_aten = torch.ops.aten
ONCE = (_aten.expm1.default, _aten.remainder.Scalar)  # what compiled code would repeat for every number that a scalar meets
LARGE = 7.90531110763549805  # where tanh is 1 in float32
ODD = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
       6.37261928875436e-04, 4.89352455891786e-03)  # fmt: skip
EVEN = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
_failed = [0]
# That an operator is called some microseconds slower is nothing to warn of
logging.getLogger("torch._inductor.ir").addFilter(lambda record: "c-shim" not in str(record.msg))


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


def settled(x: Tensor) -> Tensor:
    """x itself, which compiled code puts into memory before it goes on; else it may compute x again for each number that is made of it."""
    from torch._inductor.inductor_prims import force_stride_order  # a second of imports, which a run that compiles nothing does without

    return force_stride_order(x, x.stride())  # type: ignore[no-any-return]


def tanh(x: Tensor) -> Tensor:
    """tanh x in float32 as compiled code computes it, y p(y^2) / q(y^2) with y = x cut to +-7.9; other types and devices have torch's.

    **Source** the ratio of Eigen and XLA. **Limits** within 4e-7 of tanh x, relatively; torch's own cannot be part of a longer loop.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return NotImplemented  # type: ignore[no-any-return]
    y = x.clamp(-LARGE, LARGE)
    p, q = (reduce(lambda sum, c: sum * y.square() + c, cs[1:], torch.full_like(y, cs[0])) for cs in (ODD, EVEN))
    return settled(y * p / q)


def tanh_(x: Tensor) -> Tensor:
    """The same in place."""
    y = tanh(x)
    return y if y is NotImplemented else x.copy_(y)


def machine_code(function: Callable[..., Any], *args: Tensor) -> Callable[..., Any] | None:
    """``function`` for tensors of the shapes and layouts of ``args``, with every tensor that it changes among them; equal to it but for
    rounding. Takes seconds, or minutes for a large one, and runs the function once.

    Whole or not at all: None, with a RuntimeWarning, where there is no C++ compiler or where the function looks at numbers. Torch keeps
    machine code in a folder for temporary files: a later process with the same kind of processor and number of threads takes it.
    """
    import torch._inductor.inductor_prims  # which `settled` needs while it is recorded
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    shapes = FakeTensorMode(shape_env=ShapeEnv(assume_static_by_default=True))  # without one torch keeps no more than single loops
    tag = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    try:
        recorded = make_fx(function, {_aten.tanh.default: tanh, _aten.tanh_.default: tanh_})(*args)
        _once(recorded.graph)
        for node, arg in zip(recorded.graph.find_nodes(op="placeholder"), args, strict=True):
            node.meta["val"] = shapes.from_tensor(arg, static_shapes=True)
        recorded.recompile()
        whole = {"cpp_wrapper": all(t.is_cpu for t in args)}  # loops and their calls are one file of C++, which is made and run sooner
        with tracing(TracingContext(shapes)), torch.compiler.config.patch(cache_key_tag=tag):  # type: ignore[attr-defined]
            return torch._inductor.compile(recorded, list(args), options=whole)  # type: ignore[no-any-return]
    except RuntimeError as error:
        _failed[0] += 1
        warnings.warn(f"not compiled: {' '.join(str(error).split())[:200]}", RuntimeWarning, stacklevel=2)
        return None


def _once(graph: Graph) -> None:
    """Puts what the operators of ``ONCE`` make of a single number into memory: of two equal ones, since one number is never put there."""
    call = graph.call_function
    for operator in ONCE:
        for node in graph.find_nodes(op="call_function", target=operator):
            if node.meta["val"].numel() == 1:
                with graph.inserting_before(node):
                    two = call(_aten.expand.default, (call(_aten.reshape.default, (node.args[0], [1])), [2]))
                    kept = call(torch._inductor.inductor_prims.force_stride_order, (call(operator, (two, *node.args[1:])), (1,)))
                    one = call(_aten.select.int, (kept, 0, 0))
                    node.replace_all_uses_with(call(_aten.reshape.default, (one, list(node.meta["val"].shape))))
                graph.erase_node(node)
