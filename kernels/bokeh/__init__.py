"""The photo renderer: shallow depth of field from one photograph and its disparity."""

from argan.kernels.bokeh.aperture import APERTURES, Aperture, aperture_kernel
from argan.kernels.bokeh.op import develop_bokeh, render_bokeh

__all__ = ["APERTURES", "Aperture", "aperture_kernel", "develop_bokeh", "render_bokeh"]
