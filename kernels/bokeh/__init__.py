"""The photo renderer: shallow depth of field from one photograph and its disparity."""

from argan.kernels.bokeh.aperture import APERTURES, aperture_kernel
from argan.kernels.bokeh.op import render_bokeh

__all__ = ["APERTURES", "aperture_kernel", "render_bokeh"]
