"""Convolution between few channels: what the depth expansion network T is made of."""

from argan.kernels.convolution.op import convolve

__all__ = ["convolve"]
