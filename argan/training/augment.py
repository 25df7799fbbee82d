"""What real photos do that generated images do not: other subjects and framings, soft focus, noise, colour, JPEG."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def augment(
    image: Tensor, disparity: Tensor, rng: torch.Generator, light: float = 0.0, negatives: float = 0.0
) -> tuple[Tensor, Tensor]:
    """image (B, 3, S, S) in [0, 1] with its disparity (B, 1, S, S) -> both as a camera might have given them.

    Framing moves both together; all else changes the image alone. On the CPU, drawn from `rng`. `light` and
    `negatives` are `DepthConfig`'s.
    """
    image, disparity = reframe(image, disparity, rng)
    image = soften(image, rng)
    image = recolor(invert(relight(image, rng, light), rng, negatives), rng)
    image = compress(add_noise(image, rng), rng)
    return image, disparity


def collage(
    image: Tensor, disparity: Tensor, rng: torch.Generator, share: float, close: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Into a `share` of the pictures, another one's figure: smaller, somewhere, nearer or farther; the nearest is seen.

    What generators draw has one subject, in the middle, on the ground that is usual for it. Here subjects are
    anywhere, two to a picture, one hides a part of the other, and figure and ground do not know each other. A `close`
    share of the figures is larger than the others, mostly cut off by the frame, and the nearer the larger.

    Args:
        image, disparity: deep images (B, 3, S, S) and their disparity (B, 1, S, S), in one unit.
    """
    count = len(image)
    others = torch.cat([image, disparity, figure(disparity)], dim=1)[torch.randperm(count, generator=rng)]
    size, is_close = uniform(count, 0.4, 1, rng), torch.zeros(count, 1, 1, 1)
    if close:
        is_close = (torch.rand(count, 1, 1, 1, generator=rng) < close).float()
        size = size * 2.2**is_close
    middle = (1.2 * torch.rand(count, 2, 1, generator=rng) - 0.6) * (11 / 6) ** is_close[:, 0]  # up to the frame
    pasted, place, cover = put(others, size, middle)
    span = disparity.amax() - disparity.amin()
    place = place + span * (uniform(count, -0.1, 0.2, rng) + 0.3 * is_close * size)
    cover = cover * (place > disparity) * (torch.rand(count, 1, 1, 1, generator=rng) < share)
    return torch.lerp(image, pasted, cover), torch.lerp(disparity, place, cover)


def stage(image: Tensor, disparity: Tensor, rng: torch.Generator, share: float) -> tuple[Tensor, Tensor]:
    """For a `share` of the pictures, another: figures that stand on a receding ground before a backdrop.

    Close-ups know no ground. In most photographs it begins near the camera, at the lower edge, and recedes to a
    horizon: a plane, whose disparity is linear in the picture, and on which texture shrinks as disparity does. Figures
    touch it where it is as far as they are. All of them are cut out of the samples.

    Args:
        image, disparity: deep images (B, 3, S, S) and their disparity (B, 1, S, S), whose unit is kept.
    """
    chosen = torch.rand(len(image), generator=rng) < share
    if not chosen.any():
        return image, disparity
    count, side = int(chosen.sum()), image.shape[-1]
    far, near = disparity.flatten().quantile(torch.tensor([0.05, 0.95]))
    y = (torch.arange(side) + 0.5).view(1, 1, side, 1) * 2 / side - 1
    horizon, span = uniform(count, -1.6, 0.3, rng), (near - far) * uniform(count, 0.6, 1.1, rng)
    rise = ((y - horizon) / (1 - horizon)).expand(count, 1, side, side)  # 0 at the horizon, 1 at the lower edge
    ground, behind = ground_plane(pick(image, count, rng), rise, rng), backdrop(pick(image, count, rng), rng)
    scene = torch.where(rise > 0, ground, behind)
    place = far + span * rise.clamp(min=0)
    samples = torch.cat([image, disparity, figure(disparity)], dim=1)
    for _ in range(2):
        color, relief, cover = pick(samples, count, rng).split([3, 1, 1], dim=1)
        foot = uniform(count, 0.1, 1.1, rng)  # how far in front of the horizon it stands
        size = (foot * uniform(count, 0.5, 1.3, rng)).clamp(min=0.15)
        lowest = torch.where(cover.amax(dim=3, keepdim=True) > 0.5, y, -1).amax(dim=2, keepdim=True)
        middle = torch.cat([uniform(count, -0.8, 0.8, rng), horizon + foot * (1 - horizon) - size * lowest], dim=1)
        mean = (relief * cover).sum((2, 3), True) / cover.sum((2, 3), True).clamp(min=1e-6)
        stood = far + span * foot + 0.3 * (relief - mean)
        color, stood, cover = put(torch.cat([recolor(color, rng), stood, cover], dim=1), size, middle[..., 0])
        cover = cover * (stood > place)
        scene, place = torch.lerp(scene, color, cover), torch.lerp(place, stood, cover)
    return image.index_put((chosen,), scene.clamp(0, 1)), disparity.index_put((chosen,), place)


def ground_plane(texture: Tensor, rise: Tensor, rng: torch.Generator) -> Tensor:
    """A ground of colours (B, 3, S, S) in perspective; `rise` (B, 1, S, S) is its disparity, 1 at the lower edge."""
    count, side = len(texture), texture.shape[-1]
    texture = recolor(texture, rng)
    x = (torch.arange(side) + 0.5) * 2 / side - 1
    zoom, start = uniform(count, 0.3, 1, rng)[:, 0], uniform(count, -4, 4, rng)[:, 0]
    distance = 1 / rise[:, 0].clamp(min=0.04)
    grid = torch.stack([zoom * x * distance, start + 2 * zoom * distance], dim=3)
    fine = F.grid_sample(texture, grid, padding_mode="reflection", align_corners=False)
    return torch.lerp(texture.mean((2, 3), True), fine, (3 * rise).clamp(0.1, 1))  # far away it is too small to be seen


def backdrop(texture: Tensor, rng: torch.Generator) -> Tensor:
    """A wall, a wood or a sky of these colours (B, 3, S, S): anything between plain and as they are."""
    count = len(texture)
    texture = recolor(texture, rng)
    plain = F.interpolate(F.adaptive_avg_pool2d(texture, 2), texture.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(plain, texture, uniform(count, -0.3, 1, rng).clamp(min=0)) * uniform(count, 0.5, 1.6, rng)


def pick(samples: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` of them at random."""
    return samples[torch.randint(len(samples), (count,), generator=rng)]


def put(others: Tensor, size: Tensor, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, disparity and figure (B, 5, S, S), shrunk to `size` (B, 1, 1, 1) about `middle` (B, 2, 1) in [-1, 1]."""
    rows = torch.cat([torch.eye(2).expand(len(others), 2, 2), -middle], dim=2) / size[:, 0]
    grid = F.affine_grid(rows, list(others.shape), align_corners=False)
    pasted, place, cover = F.grid_sample(others, grid, align_corners=False).split([3, 1, 1], dim=1)
    return pasted, place, cover


def figure(disparity: Tensor) -> Tensor:
    """How much of each pixel belongs to the nearer half of a picture's disparities (B, 1, S, S), softly."""
    low, high = disparity.flatten(1).quantile(torch.tensor([0.1, 0.9]), dim=1).view(2, -1, 1, 1, 1)
    return torch.sigmoid(20 * ((disparity - low) / (high - low).clamp(min=1e-6) - 0.55))


def uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) draws from [low, high]."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=rng)


def reframe(image: Tensor, disparity: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, turn by up to 15 degrees, zoom by 0.8 to 1.25, stretch and shift; beyond the border, mirrored."""
    count = len(image)
    angle = uniform(count, -0.26, 0.26, rng).view(count)
    zoom, stretch = uniform(count, 0.8, 1.25, rng).view(count), uniform(count, 0.85, 1.18, rng).view(count)
    mirror = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    shift = 0.2 * torch.rand(count, 2, generator=rng) - 0.1
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [torch.stack([mirror * zoom * stretch * cos, -zoom * sin, shift[:, 0]], dim=1)]
    rows += [torch.stack([mirror * zoom * sin, zoom / stretch * cos, shift[:, 1]], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(image.shape), align_corners=False)
    both = F.grid_sample(torch.cat([image, disparity], dim=1), grid, padding_mode="reflection", align_corners=False)
    return both[:, :3], both[:, 3:]


def soften(image: Tensor, rng: torch.Generator) -> Tensor:
    """A little blur, by 0 to 100 % of a [1 2 1] / 4 filter."""
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (kernel[:, None] * kernel[None, :]).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return torch.lerp(image, blurred, uniform(len(image), 0, 1, rng))


def relight(image: Tensor, rng: torch.Generator, light: float) -> Tensor:
    """Uneven light: a smooth field of gains, whose logarithm deviates by up to `light`."""
    field = light * torch.randn(len(image), 1, 4, 4, generator=rng) * uniform(len(image), 0, 1, rng)
    return image * F.interpolate(field, image.shape[2:], mode="bicubic", align_corners=False).exp()


def invert(image: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """The negative of a `share` of the images: the depth is the same, what is bright is another."""
    chosen = torch.rand(len(image), 1, 1, 1, generator=rng) < share
    return torch.where(chosen, 1 - image.clamp(0, 1), image)


def recolor(image: Tensor, rng: torch.Generator) -> Tensor:
    """Exposure, contrast, white balance, saturation and gamma."""
    count = len(image)
    image = image.clamp(1e-3, 1) ** uniform(count, 0.75, 1.35, rng)
    balance = 0.85 + 0.3 * torch.rand(count, 3, 1, 1, generator=rng)
    grey = image.mean(dim=1, keepdim=True)
    image = torch.lerp(grey, image, uniform(count, 0.6, 1.4, rng)) * balance
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (image - mean) * uniform(count, 0.75, 1.3, rng)) * uniform(count, 0.75, 1.25, rng)


def add_noise(image: Tensor, rng: torch.Generator) -> Tensor:
    """Gaussian noise with a deviation of 0 to 0.04, clipped as a sensor does."""
    return (image + uniform(len(image), 0, 0.04, rng) * torch.randn(image.shape, generator=rng)).clamp(0, 1)


def compress(image: Tensor, rng: torch.Generator, share: float = 0.25) -> Tensor:
    """JPEG at quality 30 to 90, for a `share` of the images."""
    chosen = torch.nonzero(torch.rand(len(image), generator=rng) < share).flatten().tolist()
    qualities = torch.randint(30, 91, (len(image),), generator=rng).tolist()
    for index in chosen:
        pixels = (image[index] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=qualities[index])
        image[index] = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float() / 255
    return image
