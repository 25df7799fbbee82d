"""Apertures: outlines, what a lens does to them, and the moments of their pictures."""

import math
from dataclasses import replace

import pytest
import torch

from argan.kernels import render_bokeh
from argan.kernels.bokeh import APERTURES, Aperture, aperture_kernel
from argan.kernels.bokeh.aperture import BLADES, cat_eye_kernels, fitted_kernel, reach

HEART = torch.zeros(11, 9).index_fill_(0, torch.arange(2, 8), 1.0)
LENSES = {
    "disk": Aperture(),
    "turned": Aperture("hexagon", rotation=15),
    "curved": Aperture("pentagon", curvature=0.4),
    "wide": Aperture(anamorphic=0.5),
    "tall blades": Aperture("heptagon", rotation=20, curvature=0.2, anamorphic=2),
    "bright rim": Aperture(rim=1),
    "soft rim": Aperture("square", rim=-0.8),
    "image": Aperture(HEART),
    "turned image": Aperture(HEART, rotation=30, anamorphic=1.5, rim=0.5),
}
SPOTS = torch.zeros(40, 40).index_put_((torch.tensor([0, 0, 39, 39]), torch.tensor([0, 39, 0, 39])), torch.ones(4))
DOT = torch.zeros(41, 41).index_put_((torch.tensor([20]), torch.tensor([20])), torch.ones(1))
SLANTED = Aperture(torch.eye(9) + torch.eye(9).roll(1, 0).tril(), rotation=20, anamorphic=2)


def grid(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    return at[:, None], at


def fine_moments(lens: Aperture, behind: bool) -> tuple[float, float]:
    """Mean x^2 and y^2 of a lens's picture for radius 1, from a picture of it that is very much larger."""
    radius = -70.0 if behind else 70.0
    kernel = aperture_kernel(lens, radius)
    y, x = grid(kernel)
    return float((kernel * x * x).sum()) / radius**2, float((kernel * y * y).sum()) / radius**2


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
@pytest.mark.parametrize("radius", [0.7, -0.7, 2.5, -2.5, 17.3])
def test_light_is_kept_and_spread_as_wide_at_every_size(lens: Aperture, radius: float) -> None:
    kernel = aperture_kernel(lens, radius)
    assert kernel.shape == (2 * reach(lens, abs(radius)) + 1,) * 2
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel.min()) >= 0
    if abs(radius) > 1:
        y, x = grid(kernel)
        tolerance = 0.03 if isinstance(lens.shape, torch.Tensor) else 0.002  # coarse images: their samples are few
        wanted = radius**2 * sum(fine_moments(lens, radius < 0))
        assert float((kernel * (x * x + y * y)).sum()) == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("name", BLADES)
@pytest.mark.parametrize("curvature", [0, 1e-9, 0.3, 1])
def test_blades_enclose_the_disc_s_area(name: str, curvature: float) -> None:
    lens = Aperture(name, curvature=curvature)
    kernel = aperture_kernel(lens, 60)
    assert 1 / float(kernel.max()) == pytest.approx(math.pi * 60**2, rel=2e-3)
    n = BLADES[name]
    if curvature < 0.1:  # by hand: the polygon's circumradius
        assert lens.pupil == pytest.approx(math.sqrt(2 * math.pi / (n * math.sin(2 * math.pi / n))), rel=1e-4)


@pytest.mark.parametrize("name", ["triangle", "octagon"])
def test_fully_curved_blades_are_the_disc(name: str) -> None:
    round_blades, disc = (aperture_kernel(a, 20) for a in (Aperture(name, curvature=1), Aperture("disk")))
    n = disc.shape[0] // 2
    centre = round_blades.shape[0] // 2
    assert (
        round_blades[centre - n : centre + n + 1, centre - n : centre + n + 1] - disc
    ).abs().max() < 0.1 * disc.max()


@pytest.mark.parametrize("lens", [*LENSES.values(), SLANTED], ids=[*LENSES, "slanted image"])
def test_a_shape_is_drawn_with_the_radius_that_was_asked_for(lens: Aperture) -> None:
    for radius in (-40.0, 40.0):
        assert fitted_kernel(lens, radius)[1] == pytest.approx(radius, rel=0.01)


def test_a_corner_of_blades_points_up() -> None:
    """In the picture of a point behind the focal plane: there the triangle reaches twice as far as down."""
    kernel = aperture_kernel("triangle", -20.0)
    rows = grid(kernel)[0][kernel.sum(1) > 1e-3 * kernel.sum(1).max()]
    circumradius = 20 * Aperture("triangle").pupil
    assert float(rows.min()) == pytest.approx(-circumradius, abs=2)
    assert float(rows.max()) == pytest.approx(circumradius / 2, abs=2)


def test_corners_of_a_turned_image_are_not_cut_off() -> None:
    kernel = aperture_kernel(Aperture(torch.ones(8, 8), rotation=45), -20.0)
    n = kernel.shape[0] // 2
    assert all(float(kernel[at]) > 0 for at in [(n, n - 27), (n, n + 27), (n - 27, n), (n + 27, n)])


@pytest.mark.parametrize("radius", [3, 6, 8, 11.9, 16])
@pytest.mark.parametrize("options", [{}, {"rotation": 30, "anamorphic": 1.6}], ids=["plain", "turned"])
def test_fine_parts_of_an_image_are_not_lost(radius: float, options: dict) -> None:
    """A star with arms of 8 of 1000 pixels is no point."""
    at = torch.arange(1000, dtype=torch.float64) - 499.5
    star = ((at.abs() < 4) | (at.abs() < 4)[:, None]).double()
    true = float((star * (at.square() + at.square()[:, None])).sum() / star.sum()) / 500**2
    lens = Aperture(star, **options)
    y, x = grid(kernel := aperture_kernel(lens, -radius))
    true *= sum(stretch**2 for stretch in lens.stretch) / 2
    assert math.sqrt(float((kernel * (x * x + y * y)).sum()) / true) == pytest.approx(radius, rel=0.02)
    if not options:  # all of the arms, evenly
        n = len(kernel) // 2
        arm = kernel.sum(0)[n + 1 : n + math.floor(radius)]
        assert float(arm.min() / arm.max()) > 0.8


def test_large_images_are_averaged() -> None:
    mask = torch.zeros(1500, 900)
    mask[::4, ::4] = 16
    lens = Aperture(mask)
    assert max(lens.shape.shape) == 512
    kernel, whole = (aperture_kernel(shape, 9) for shape in (lens, torch.ones(500, 300)))
    torch.testing.assert_close(kernel, whole, rtol=0, atol=0.06 * float(whole.max()))


def test_edges_of_an_ellipse_are_as_sharp_as_a_disc_s() -> None:
    """One pixel is between full and nothing at either end, along the width and along the height."""
    kernel = aperture_kernel(Aperture(anamorphic=4.0), -40.2)
    for line in (kernel[kernel.shape[0] // 2], kernel[:, kernel.shape[0] // 2]):
        between = (line > 0.01 * line.max()) & (line < 0.99 * line.max())
        assert int(between.sum()) == 2


def test_curved_edges_are_arcs() -> None:
    """The right edge of a square: a circle of twice the circumradius through its corners."""
    lens = Aperture("square", rotation=45, curvature=0.5)
    kernel = aperture_kernel(lens, 80.0)
    widths = (kernel / kernel.max()).sum(1)  # of every row
    corner, y = 80 * lens.pupil / math.sqrt(2), grid(kernel)[0][:, 0]
    bulge = torch.sqrt((2 * 80 * lens.pupil) ** 2 - y**2) - math.sqrt((2 * 80 * lens.pupil) ** 2 - corner**2)
    rows = y.abs() < corner - 2
    torch.testing.assert_close(widths[rows], 2 * (corner + bulge[rows]), rtol=0, atol=0.5)


def test_a_sixth_of_a_turn_leaves_a_hexagon_as_it_is() -> None:
    first, turned, between = (aperture_kernel(Aperture("hexagon", rotation=angle), 15) for angle in (0, 60, 30))
    assert (first - turned).abs().max() < 1e-6 * first.max()
    assert (first - between).abs().max() > 0.5 * first.max()


def test_rotation_is_clockwise() -> None:
    mask = torch.zeros(9, 9)
    mask[:3, 3:6] = 1  # above
    kernel = aperture_kernel(Aperture(mask, rotation=90), -12)  # behind the focal plane: upright
    y, x = grid(kernel)
    assert float((kernel * x).sum()) > 5
    assert abs(float((kernel * y).sum())) < 0.1


@pytest.mark.parametrize("squeeze", [0.5, 1.33, 2.0, 4.0])
def test_anamorphic_discs_are_ellipses_of_the_same_area(squeeze: float) -> None:
    kernel = aperture_kernel(Aperture(anamorphic=squeeze), 30)
    y, x = grid(kernel)
    height, width = (math.sqrt(float((kernel * at * at).sum())) for at in (y, x))
    assert height / width == pytest.approx(squeeze, rel=0.02)
    assert 1 / float(kernel.max()) == pytest.approx(math.pi * 30**2, rel=0.02)


@pytest.mark.parametrize("rim", [1.0, 0.5, -0.5, -1.0])
def test_rim_is_the_surplus_of_light_at_the_edge(rim: float) -> None:
    """By hand, for 1 + rim (2 t^2 - 1): its value at the centre and the edge, and the mean square 1/2 + rim / 6."""
    kernel = aperture_kernel(Aperture(rim=rim), -40) * math.pi * 40**2  # 1: the mean
    y, x = grid(kernel)
    away = torch.sqrt(y * y + x * x)
    assert float(kernel[40 + 1, 40 + 1]) == pytest.approx(1 - rim, abs=0.01)
    assert float(kernel[(away > 38) & (away < 39)].mean()) == pytest.approx(
        1 + rim * (2 * (38.5 / 40) ** 2 - 1), abs=0.03
    )
    assert float((kernel * away * away).sum() / kernel.sum()) == pytest.approx(1600 * (0.5 + rim / 6), rel=1e-4)


def test_rim_of_blades_is_at_the_corners() -> None:
    """The profile is that of the round opening that blades are cut from: 1 + rim (2 t^2 - 1), t = 1 at corners."""
    kernel = aperture_kernel(Aperture("square", rim=0.5), -60)
    n = kernel.shape[0] // 2
    t = 40 / (60 * Aperture("square").pupil)
    assert float(kernel[n, n + 40] / kernel[n, n]) == pytest.approx((0.5 + t * t) / 0.5, rel=0.02)


def test_in_front_the_rim_is_the_opposite_one() -> None:
    bright, soft = Aperture(rim=0.7), Aperture(rim=-0.7)
    torch.testing.assert_close(aperture_kernel(bright, 9), aperture_kernel(soft, -9))


CORNERS = [(x, y) for y in (-0.6, 0.6) for x in (-0.8, 0.8)]


def at_places(lens: Aperture, radius: float, places: list[tuple[float, float]]) -> torch.Tensor:
    return cat_eye_kernels(lens, *fitted_kernel(lens, radius), *torch.tensor(places, dtype=torch.float64).unbind(-1))


@pytest.mark.parametrize("radius", [-0.7, 2.5, -11.0, 30.0])
@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_cat_s_eyes_leave_the_middle_alone(lens: Aperture, radius: float) -> None:
    lens = replace(lens, cat_eye=1)
    middle, *corners = at_places(lens, radius, [(0, 0), *CORNERS])
    torch.testing.assert_close(middle, aperture_kernel(lens, radius), rtol=0, atol=1e-12)
    for kernel in corners:
        assert float(kernel.sum()) == pytest.approx(1)
        assert float(kernel.min()) >= 0


@pytest.mark.parametrize("radius", [-12.0, 12.0, -50.0])
@pytest.mark.parametrize("cat_eye", [0.3, 1.0])
def test_cat_s_eyes_are_lemons(radius: float, cat_eye: float) -> None:
    """Two discs of radius 1 a distance s apart share (2 acos(s/2) - s sqrt(1 - s^2/4)) / pi of a disc, in the middle
    between them: behind the focal plane what is left lies towards the picture's centre. It is widest across."""
    lens = Aperture(cat_eye=cat_eye)
    half_way, *corners = at_places(lens, radius, [(-0.5, 0), *CORNERS])
    for kernel, s in ((half_way, 0.5 * cat_eye), *((kernel, cat_eye) for kernel in corners)):
        share = (2 * math.acos(s / 2) - s * math.sqrt(1 - s * s / 4)) / math.pi
        assert float(aperture_kernel(lens, radius).max() / kernel.max()) == pytest.approx(share, rel=0.03)
    for kernel, (x, y) in zip(corners, CORNERS, strict=True):
        v, u = grid(kernel)
        along, across = u * x + v * y, u * y - v * x
        assert float((kernel * along).sum()) == pytest.approx(cat_eye * radius / 2, rel=0.03)
        assert float((kernel * across).sum()) == pytest.approx(0, abs=0.01)
        spread = (kernel * (along - cat_eye * radius / 2) ** 2).sum()
        assert float((kernel * across**2).sum()) > (1 + 0.9 * cat_eye) * float(spread)
    mirrored = corners[0], corners[1].flip(1), corners[2].flip(0), corners[3].flip(0, 1)
    for kernel in mirrored[1:]:
        torch.testing.assert_close(kernel, mirrored[0])


def test_the_rim_of_a_lens_touches_what_is_open_of_an_image() -> None:
    """An image of a small disc, closed around it: in the corner lemons as of any disc, and beyond it as there."""
    y, x = torch.meshgrid(*[torch.arange(101.0) - 50] * 2, indexing="ij")
    lens = Aperture((torch.hypot(x, y) < 25).float(), cat_eye=1)
    corner, beyond = at_places(lens, -60, [(0.8, 0.6), (1.6, 1.2)])
    assert float(aperture_kernel(lens, -60).max() / corner.max()) == pytest.approx(0.391, rel=0.05)
    torch.testing.assert_close(beyond, corner)


def test_cat_s_eyes_of_a_stretched_lens_are_stretched() -> None:
    """In the corner of a tall lens: the tall ellipse and the same beside it, shifted by its half-width and -height."""
    lens = Aperture(anamorphic=2, cat_eye=1)
    (kernel,) = at_places(lens, -60, [(-0.8, 0.6)])
    v, u = grid(kernel)
    wide, high = (60 * side for side in lens.stretch)
    first = torch.hypot(u / wide, v / high) <= 1
    second = torch.hypot(u / wide - 0.8, v / high + 0.6) <= 1
    assert float(kernel[first & second].sum()) > 0.98
    assert float((kernel > 0.5 * kernel.max()).sum()) == pytest.approx(float((first & second).sum()), rel=0.02)


@pytest.mark.parametrize("anamorphic", [0.4, 2.5])
def test_edges_that_the_rim_of_a_stretched_lens_cuts_are_one_pixel_wide(anamorphic: float) -> None:
    """As averaged over each pixel by many samples."""
    lens, place, fine = Aperture(anamorphic=anamorphic, cat_eye=0.8), (-0.6, 0.8), 15
    (kernel,) = at_places(lens, -14, [place])
    n = len(kernel) // 2
    at = (torch.arange((2 * n + 1) * fine, dtype=torch.float64) + 0.5) / fine - n - 0.5
    x, y = (at[None, :] / lens.stretch[0] / 14, at[:, None] / lens.stretch[1] / 14)
    passes = (torch.hypot(x, y) < 1) & (torch.hypot(x + 0.8 * place[0], y + 0.8 * place[1]) < 1)
    true = torch.nn.functional.avg_pool2d(passes.double()[None, None], fine)[0, 0]
    assert float((kernel - true / true.sum()).abs().sum()) < 0.008  # 0.011 and more where the stretch is forgotten


def test_the_rim_of_a_lens_does_not_turn_with_its_blades() -> None:
    places = [(0.8, 0.6)]
    pairs = [at_places(Aperture("square", angle, cat_eye=1), -20, places)[0] for angle in (0, 90)]
    torch.testing.assert_close(pairs[0], pairs[1], rtol=0, atol=1e-9)


def test_an_opening_that_the_rim_hides_is_whole() -> None:
    mask = torch.zeros(21, 21)
    mask[10, 20] = 1  # far right: hidden on the right of the picture
    (kernel,) = at_places(Aperture(mask, cat_eye=1), -9, [(1.0, 0.0)])
    torch.testing.assert_close(kernel, aperture_kernel(mask, -9))


@pytest.mark.parametrize("name", APERTURES)
def test_names_are_apertures(name: str) -> None:
    assert torch.equal(aperture_kernel(name, 7.5), aperture_kernel(Aperture(name), 7.5))


def test_the_renderer_takes_a_lens() -> None:
    """A point light, rendered: its picture is the lens's."""
    image = torch.zeros(1, 3, 61, 61)
    image[..., 30, 30] = 1
    lens = Aperture("hexagon", rotation=15, curvature=0.5, anamorphic=1.5, rim=0.5)
    picture = render_bokeh(image, torch.zeros(1, 1, 61, 61), 9.0, 1.0, aperture=lens)[0, 0].double()
    kernel = aperture_kernel(lens, -9.0)
    n = kernel.shape[0] // 2
    middle = picture[30 - n : 31 + n, 30 - n : 31 + n]
    assert float(middle.sum()) == pytest.approx(1, abs=1e-3)
    y, x = grid(kernel)
    for at in (y * y, x * x, y * x):
        assert float((middle * at).sum()) == pytest.approx(float((kernel * at).sum()), abs=0.4)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"shape": "round"}, ValueError, "disk"),
        ({"shape": 6}, TypeError, "name or a 2-D tensor"),
        ({"shape": torch.zeros(3, 3)}, ValueError, "somewhere positive"),
        ({"shape": torch.ones(3)}, ValueError, "2-D"),
        ({"shape": torch.tensor([[1.0, torch.nan]])}, ValueError, "finite"),
        ({"shape": torch.tensor([[1.0, -0.1]])}, ValueError, "nowhere negative"),
        ({"rotation": math.inf}, ValueError, "rotation"),
        ({"shape": "hexagon", "curvature": 1.1}, ValueError, "curvature"),
        ({"shape": "hexagon", "curvature": -0.1}, ValueError, "curvature"),
        ({"shape": "disk", "curvature": 0.5}, ValueError, "blades"),
        ({"shape": torch.ones(3, 3), "curvature": 0.5}, ValueError, "blades"),
        ({"anamorphic": 0.0}, ValueError, "anamorphic"),
        ({"anamorphic": 4.1}, ValueError, "anamorphic"),
        ({"anamorphic": math.nan}, ValueError, "anamorphic"),
        ({"rim": -1.5}, ValueError, "rim"),
        ({"rim": 1.5}, ValueError, "rim"),
        ({"shape": SPOTS, "rim": -1}, ValueError, "leaves no light"),
        ({"shape": SPOTS, "rim": 1}, ValueError, "leaves no light"),  # in front of the focal plane
        ({"shape": DOT, "rim": 1}, ValueError, "leaves no light"),
        ({"cat_eye": 1.5}, ValueError, "cat_eye"),
        ({"cat_eye": -0.5}, ValueError, "cat_eye"),
    ],
)
def test_what_is_no_aperture(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Aperture(**options)
