"""The thin lens: how large a blurred point is on the sensor, from f-number, focal length and distances.

Conventions. Distances are in metres from the lens, focal lengths and blur on the sensor in millimetres, inverse
distances in dioptres (1 / m). The circle of confusion is a signed *diameter*: positive in front of the focal plane, 0
on it, negative behind, as signed disparity is everywhere in argan. A photo's long side is the sensor's.
"""

import math
from dataclasses import dataclass

from argan.errors import UsageError


@dataclass(frozen=True)
class ThinLens:
    """A lens of `focal` mm at f / `f_number`, before a sensor whose long side is `sensor` mm."""

    f_number: float
    focal: float = 50.0
    sensor: float = 36.0  # full frame

    def __post_init__(self) -> None:
        for name, value in (("an f-number", self.f_number), ("a focal length", self.focal), ("a sensor", self.sensor)):
            if not 0 < value < math.inf:
                raise UsageError(f"{name} is a number above 0, not {value}")

    def spread(self, focus: float) -> float:
        """mm of blur on the sensor for each dioptre from the focus, which is given in dioptres (0: infinity).

        A point at distance z is imaged at distance v with 1/f = 1/z + 1/v, one in focus at s on the sensor. Similar
        triangles over the aperture f/N give f/N (v - v_s) / v = f^2 / N (1/z - 1/s) s / (s - f): linear in 1/z.
        """
        focal = self.focal / 1000  # m
        if not 0 <= focus * focal < 1:
            raise UsageError(
                f"a lens of {self.focal:g} mm cannot focus at {1 / focus:.3g} m"
                if focus > 0
                else "focus beyond infinity",
                hint="a focus distance is greater than the focal length",
            )
        return 1000 * focal**2 / self.f_number / (1 - focal * focus)

    def blur(self, focus: float, dioptres: tuple[float, float]) -> float:
        """`blur` of `argan.render`, percent of the long side, for disparity that means `dioptres` at 0 and at 1."""
        return 100 / self.sensor * self.spread(focus) * (dioptres[1] - dioptres[0])
