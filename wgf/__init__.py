"""Wasserstein gradient flows on particles: tensors in, tensors out."""

from wgf import flow, kernels, natural, svgd, transport
from wgf.door import trusted

__all__ = ["flow", "kernels", "natural", "svgd", "transport", "trusted"]
