"""Light field rendering: what an aperture sees of an all-in-focus image with a disparity for every ray."""

from argan.kernels.light_field.op import render_light_field, warp_disparity

__all__ = ["render_light_field", "warp_disparity"]
