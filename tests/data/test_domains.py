"""Deep and shallow photographs told apart by their backgrounds."""

import numpy as np
import pytest
import torch

from argan.data.domains import FocusDomains, background_sharpness
from argan.data.synthetic import draw_scene, photograph
from argan.errors import ArganError


def photographs(count: int = 12, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Sharp photographs, and the same with only their surroundings blurred; (N, 3, S, S) uint8."""
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(count, 3, size, size, generator=generator)
    kernel = torch.ones(3, 1, 5, 5) / 25
    blurred = torch.nn.functional.conv2d(sharp, kernel, padding=2, groups=3)
    blurred[:, :, 10:22, 10:22] = sharp[:, :, 10:22, 10:22]
    return (255 * sharp).to(torch.uint8), (255 * blurred).to(torch.uint8)


def test_blurred_surroundings_are_less_sharp_whatever_their_contrast():
    sharp, blurred = photographs()
    assert (background_sharpness(sharp) > 2 * background_sharpness(blurred)).all()
    dimmed = background_sharpness(sharp // 2)
    torch.testing.assert_close(dimmed, background_sharpness(sharp), rtol=0.05, atol=0)
    torch.testing.assert_close(background_sharpness(sharp.float() / 255), background_sharpness(sharp))


def test_a_sharp_subject_does_not_count():
    _, blurred = photographs()
    softer = blurred.clone()
    softer[:, :, 12:20, 12:20] = 128
    torch.testing.assert_close(background_sharpness(softer), background_sharpness(blurred))


def test_domains_alternate_and_flip():
    sharp, blurred = photographs(6)
    domains = FocusDomains(torch.cat([blurred, sharp]))
    assert len(domains) == 4
    assert (domains.deep >= 6).all()
    assert (domains.shallow < 6).all()
    batch = domains.batch(torch.tensor([0, 0, 3, 3]), torch.tensor([False, False, True, True]))
    assert batch.shape == (4, 3, 32, 32)
    assert torch.equal(batch[0], domains.images[domains.deep[0]].float() / 255)
    assert torch.equal(batch[1], domains.images[domains.shallow[0]].float() / 255)
    assert torch.equal(batch[2], domains.images[domains.deep[3]].flip(-1).float() / 255)


def test_the_same_scenes_at_two_apertures_are_told_apart():
    photos = []
    for index in range(12):
        scene = draw_scene(np.random.default_rng(index))
        photos += [photograph(scene, 32, aperture, np.random.default_rng(index)) for aperture in (0.0, 1.0)]
    images = (255 * torch.from_numpy(np.stack(photos))).round().to(torch.uint8)
    sharpness = background_sharpness(images).view(12, 2)
    assert (sharpness[:, 0] > sharpness[:, 1]).float().mean() > 0.9
    domains = FocusDomains(images)
    assert (domains.deep % 2 == 0).float().mean() > 0.7
    assert (domains.shallow % 2 == 1).float().mean() > 0.7


def test_too_few_photographs_are_refused():
    assert len(FocusDomains(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))) == 1
    with pytest.raises(ArganError, match="at least 3"):
        FocusDomains(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
