"""The depth expansion network T, which bends rays where an edge hides what they come from."""

from argan.kernels.expansion.op import expand_rays

__all__ = ["expand_rays"]
