"""Augmentation before rendering: framing moves image and depth together, and nothing leaks where none is asked for."""

import torch

from argan.models.aperture import ApertureRenderer
from argan.training import diff_augment


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_no_probability_changes_nothing():
    draws = diff_augment.draw(4, 0.0, rng())
    image = torch.rand(4, 4, 16, 16)
    torch.testing.assert_close(diff_augment.reframe(image, draws), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(diff_augment.recolor(image[:, :3], draws), image[:, :3], atol=1e-6, rtol=0)


def test_a_share_of_the_images_is_changed():
    draws = diff_augment.draw(1000, 0.3, rng())
    still = torch.tensor([0.0, 0.5, 0.5])
    assert abs((draws[:, :3] != still).any(dim=1).float().mean() - 0.3) < 0.05
    assert abs((draws[:, 3:] != 0.5).any(dim=1).float().mean() - 0.3) < 0.05


def test_framing_and_colours_are_chosen_apart():
    draws = diff_augment.draw(1000, 0.5, rng())
    framed, coloured = (draws[:, :3] != torch.tensor([0.0, 0.5, 0.5])).any(1), (draws[:, 3:] != 0.5).any(1)
    assert 0.2 < (framed != coloured).float().mean() < 0.8


def test_every_colour_change_does_what_it_says():
    image = torch.rand(1, 3, 8, 8)
    grey, mean = image.mean(1, keepdim=True), image.mean()

    def changed(column):
        draws = torch.full((1, diff_augment.DRAWS), 0.5)
        draws[:, column] = 1
        return diff_augment.recolor(image, draws)

    torch.testing.assert_close(changed(3), image + 0.2)
    torch.testing.assert_close(changed(4), grey + 1.5 * (image - grey))
    torch.testing.assert_close(changed(5), mean + 1.5 * (image - mean))
    torch.testing.assert_close(changed(6), image + torch.tensor([-0.05, 0.1, -0.05]).view(1, 3, 1, 1))


def test_framing_moves_image_and_disparity_together_and_blur_grows_with_the_zoom():
    disparity = torch.rand(6, 1, 16, 16)
    draws = diff_augment.draw(6, 1.0, rng())
    framed = diff_augment.reframe(torch.cat([disparity.expand(-1, 3, -1, -1), disparity], dim=1), draws)
    zoom = 1 + 0.25 * draws[:, 0]
    torch.testing.assert_close(framed[:, 3:], framed[:, :1] * zoom.view(6, 1, 1, 1))


def test_framing_shows_nothing_from_beyond_the_frame():
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)
    framed = diff_augment.reframe(ramp, diff_augment.draw(64, 1.0, rng()))
    steps = framed.diff(dim=3)
    assert (steps > 1e-4).all()  # a border that is repeated would be flat


def test_framing_moves_as_far_as_the_frame_and_each_way_by_itself():
    """Zoomed by 1.25, four fifths are seen: a draw of 0 shows the first ones, 1 the last; of columns, then of rows."""
    place = torch.linspace(-1, 1, 81)[1::2]  # of pixels' middles, the frame at -1 and 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    framed = diff_augment.reframe(torch.stack([x, y, x])[None], torch.tensor([[1, 0, 1, 0.5, 0.5, 0.5, 0.5]]))
    torch.testing.assert_close(framed[0, :2], torch.stack([0.8 * x - 0.2, 0.8 * y + 0.2]), atol=0.006, rtol=0)


def test_framing_before_rendering_is_framing_after_it():
    """On a plane, whose blur is the same everywhere: away from the frame both orders give the same picture."""
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), size=(48, 48), mode="bicubic")
    disparity = torch.full((1, 1, 48, 48), 0.8)
    draws = torch.tensor([[1.0, 0.7, 0.4, 0.5, 0.5, 0.5, 0.5]])
    renderer, whole = ApertureRenderer(5, expansion=False), torch.ones(1)
    framed = diff_augment.reframe(torch.cat([smooth, disparity], dim=1), draws)
    before = renderer(framed[:, :3], framed[:, 3:], whole)
    after = diff_augment.reframe(renderer(smooth, disparity, whole), draws)
    inner = slice(6, -6)
    difference = (before - after)[..., inner, inner].abs()
    unrendered = (framed[:, :3] - after)[..., inner, inner].abs()
    assert difference.mean() < 0.2 * unrendered.mean()
    unzoomed = renderer(framed[:, :3], disparity, whole)
    assert difference.mean() < 0.6 * (unzoomed - after)[..., inner, inner].abs().mean()


def test_gradients_pass():
    image = torch.rand(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    draws = diff_augment.draw(2, 1.0, rng()).double()

    def both(image):
        framed = diff_augment.reframe(image, draws)
        return torch.cat([diff_augment.recolor(framed[:, :3], draws), framed[:, 3:]], dim=1)

    assert torch.autograd.gradcheck(both, image, fast_mode=True)
