"""Wasserstein gradient flows on particles: tensors in, tensors out.

Modules load when they are first used, so that a command line that only lists names does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgf import agents, bnn, diagnostics, flow, kernels, natural, policies, svgd, transport
    from wgf.door import trusted

__all__ = ["__version__", "agents", "bnn", "diagnostics", "flow", "kernels", "natural", "policies", "svgd", "transport", "trusted"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "trusted":
        return import_module("wgf.door").trusted
    if name in __all__:
        return import_module(f"wgf.{name}")
    raise AttributeError(f"module 'wgf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
