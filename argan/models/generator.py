"""The AR-GAN generator: from noise to a deep-focus image and its signed disparity (Kaneko, CVPR 2021).

The backbone is HoloGAN's 2-D half: a learned constant, and blocks of upsampling, convolution and AdaIN on z. Image and
disparity share every layer except their last one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.models.camera import FOCAL_LENGTH, POSE_FEATURES, pose_features

REFERENCE_RESOLUTION = 64  # px: the size at which disparities are quoted
POSED_SIZE = 8  # px: blocks up to this size see the camera, as in RGBD-GAN; the finer ones only paint
POSE_GAIN = 10.0  # RGBD-GAN's: a camera weighs about as much as z does


def channels_at(resolution: int, width: int) -> int:
    """Channels of a feature map: `width` at 32 px, halved with every doubling of the size, at most 4 x `width`.

    ValueError where none is left.
    """
    channels = min(32 * width // resolution, 4 * width)
    if channels < 1:
        raise ValueError(f"a width of {width} leaves no channel at {resolution} px: at least {-(-resolution // 32)}")
    return channels


def block_sizes(resolution: int) -> list[int]:
    """Sides that blocks double 4 px to, from 8 px to `resolution`. ValueError for what is not reached."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two from 8 up, got {resolution}")
    return [2**k for k in range(3, resolution.bit_length())]


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang and Belongie 2017): the style z sets each channel's scale and offset."""

    def __init__(self, channels: int, z_dim: int):
        super().__init__()
        self.style = nn.Linear(z_dim, 2 * channels)
        nn.init.normal_(self.style.weight, std=z_dim**-0.5)  # styles of unit variance: samples differ from the start
        nn.init.zeros_(self.style.bias)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        scale, offset = self.style(z)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x) * (1 + scale) + offset


class UpBlock(nn.Module):
    """Doubles the size: nearest-neighbour upsampling, 3x3 convolution, AdaIN, leaky ReLU.

    The upsampling and the convolution are one transposed 4x4 convolution of stride 2, whose kernel is the 3x3 kernel
    spread over 2x2 pixels: the same numbers for 4/9 of the multiplications, and none of the checkerboards that a free
    4x4 kernel makes.
    """

    def __init__(self, in_channels: int, out_channels: int, z_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_channels, out_channels, 3, 3) * (2 / (9 * in_channels)) ** 0.5)
        self.norm = AdaIN(out_channels, z_dim)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        spread = F.pad(self.weight, (0, 1, 0, 1)) + F.pad(self.weight, (1, 0, 0, 1))
        spread = spread + F.pad(self.weight, (0, 1, 1, 0)) + F.pad(self.weight, (1, 0, 1, 0))
        return F.leaky_relu(self.norm(F.conv_transpose2d(x, spread, stride=2, padding=1), z), 0.2)


class ResidualUpBlock(nn.Module):
    """An UpBlock and a second convolution, with a shortcut around both (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, z_dim: int):
        super().__init__()
        self.up = UpBlock(in_channels, out_channels, z_dim)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = AdaIN(out_channels, z_dim)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        fine = F.leaky_relu(self.norm(self.conv(self.up(x, z)), z), 0.2)
        return (fine + F.interpolate(self.shortcut(x), scale_factor=2.0, mode="nearest")) * 0.5**0.5


UP_BLOCKS: dict[str, type[UpBlock] | type[ResidualUpBlock]] = {"plain": UpBlock, "residual": ResidualUpBlock}


class Generator(nn.Module):
    """G(z) = (I_d, D), or G(z, camera) for one that knows viewpoints (RGBD-GAN, Noguchi and Harada, ICLR 2020).

    Args:
        resolution: side S of the square images, a power of two from 8 up (the presets use 32, 64 and 128).
        z_dim: length of the noise vector, z ~ N(0, 1).
        width: channels at 32 px; see `channels_at`.
        max_disparity: largest |D| in px per aperture step at 64 px; it grows with the resolution, so that a scene is
            blurred by the same fraction of its width at every size.
        depth_stride: px of the image to a px of the disparity that is drawn, a power of two: at 2 the depth head sees
            the block before the last one, and its map is enlarged bilinearly. Depth then follows things, not texture.
        blocks: "plain" or "residual".
        viewpoints: whether the coarse blocks take a camera beside z.
        aperture_step: in orbit radii; with viewpoints, it must leave every depth positive (`argan.models.camera`).
    """

    def __init__(
        self,
        resolution: int = 64,
        z_dim: int = 128,
        width: int = 64,
        max_disparity: float = 3.0,
        depth_stride: int = 1,
        blocks: str = "plain",
        viewpoints: bool = False,
        aperture_step: float = 0.05,
    ):
        super().__init__()
        sizes = block_sizes(resolution)
        if max_disparity <= 0:
            raise ValueError(f"max_disparity must be above 0, got {max_disparity}")
        self.resolution, self.z_dim = resolution, z_dim
        self.max_disparity = max_disparity * resolution / REFERENCE_RESOLUTION
        if viewpoints and max_disparity >= FOCAL_LENGTH * REFERENCE_RESOLUTION * aperture_step:
            raise ValueError(f"aperture_step {aperture_step} is too small for a disparity of {max_disparity} px")
        self.viewpoints = viewpoints
        posed_dim = z_dim + (POSE_FEATURES if viewpoints else 0)
        block = UP_BLOCKS[blocks]
        self.constant = nn.Parameter(torch.randn(channels_at(4, width), 4, 4))
        self.input_norm = AdaIN(channels_at(4, width), posed_dim)
        # Named by their output size, so that a larger generator can take a smaller one's blocks over.
        self.blocks = nn.ModuleDict(
            {
                str(size): block(
                    channels_at(size // 2, width), channels_at(size, width), posed_dim if size <= POSED_SIZE else z_dim
                )
                for size in sizes
            }
        )
        self.image_head = nn.Conv2d(channels_at(resolution, width), 3, 3, padding=1)
        strides = [resolution // size for size in reversed(sizes)]
        if depth_stride not in strides:
            raise ValueError(f"depth_stride must be a power of two from 1 to {strides[-1]}, got {depth_stride}")
        self.depth_size = resolution // depth_stride
        self.depth_head = nn.Conv2d(channels_at(self.depth_size, width), 1, 3, padding=1)
        # Small but not zero: R is even in D, so its gradient vanishes at D = 0 and a zero head would never start.
        nn.init.normal_(self.depth_head.weight, std=0.01)
        nn.init.constant_(self.depth_head.bias, 0)  # type: ignore[arg-type]

    def forward(self, z: Tensor, camera: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (B, z_dim) -> deep image (B, 3, S, S) in [0, 1], signed disparity (B, 1, S, S) in px per aperture step.

        camera (B, 2): pitch and yaw in rad; None is the frontal one. A generator of one viewpoint takes none.
        """
        posed = torch.cat([z, self.pose(z, camera)], dim=1) if self.viewpoints else z
        x = self.constant.expand(z.shape[0], -1, -1, -1)
        x = F.leaky_relu(self.input_norm(x, posed), 0.2)
        depth = x
        for size, block in self.blocks.items():
            x = block(x, posed if int(size) <= POSED_SIZE else z)
            depth = x if int(size) <= self.depth_size else depth
        image = 0.5 + 0.5 * torch.tanh(self.image_head(x))
        disparity = self.depth_head(depth)
        if self.depth_size < self.resolution:
            disparity = F.interpolate(disparity, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return image, self.max_disparity * torch.tanh(disparity / self.max_disparity)

    def pose(self, z: Tensor, camera: Tensor | None) -> Tensor:
        """What the coarse blocks are told of the camera, (B, 4)."""
        if camera is None:
            return z.new_zeros(z.shape[0], POSE_FEATURES)
        return POSE_GAIN * pose_features(camera).to(z.dtype)
