"""Resizing: sizes, values, and that exporters keep it dynamic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from argan.models.resize import _resize_by_products, resize, resize_short_side

SIZES = [(64, 64), (90, 70), (101, 77), (16, 16), (17, 301), (333, 32)]


class Resize(torch.nn.Module):
    def forward(self, image):
        return resize_short_side(image, 64)


@given(height=st.integers(16, 400), width=st.integers(16, 400), size=st.integers(8, 64))
def test_short_side_and_proportions(height, width, size):
    resized = resize_short_side(torch.zeros(1, 1, height, width), size)
    h, w = resized.shape[-2:]
    assert min(h, w) == size
    assert abs(max(h, w) - size * max(height, width) / min(height, width)) <= 0.5


def test_same_size_returns_the_same_pixels():
    image = torch.rand(2, 3, 64, 80)
    assert torch.equal(resize_short_side(image, 64), image)


def test_shrinking_averages_instead_of_skipping():
    checkerboard = (torch.arange(256)[:, None] + torch.arange(256)[None]).remainder(2).float()[None, None]
    assert (resize_short_side(checkerboard, 32)[..., 2:-2, 2:-2] - 0.5).abs().max() < 1e-3


def test_gradient_reaches_the_image():
    image = torch.rand(1, 3, 33, 47, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize_short_side(x, 16), image, fast_mode=True)


@pytest.mark.parametrize("size", SIZES)
def test_traced_graph_follows_sizes_that_it_has_not_seen(size):
    traced = torch.jit.trace(Resize(), torch.rand(1, 3, 90, 70))
    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(traced(image), resize_short_side(image, 64))


@pytest.mark.parametrize("size", SIZES)
def test_exported_program_follows_sizes_that_it_has_not_seen(size, exported):
    image = torch.rand(3, 3, *size)
    torch.testing.assert_close(exported.module()(image), resize_short_side(image, 64))


def test_exported_program_of_one_size_takes_no_anti_aliased_resize():
    """Converters for phones start from such programs: coremltools leaves the anti-aliasing out."""
    image = torch.rand(1, 3, 201, 150)
    program = torch.export.export(Resize(), (image,))
    assert not any("_aa" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(image), resize_short_side(image, 64), rtol=0, atol=2e-6)


def test_exported_program_has_no_formula_of_the_size(exported):
    """It would stand in every size that is made from it, and cost minutes."""
    (returned,) = exported.graph.find_nodes(op="output")
    resized = returned.args[0][0].meta["val"]
    assert all(side.node.expr.is_Symbol for side in resized.shape[2:])


@pytest.fixture(scope="module")
def exported():
    height, width = (torch.export.Dim(name, min=16) for name in ("height", "width"))
    dynamic = {0: torch.export.Dim("batch"), 2: height, 3: width}
    return torch.export.export(Resize(), (torch.rand(2, 3, 90, 70),), dynamic_shapes=(dynamic,))


@pytest.mark.parametrize("old", [(97, 131), (16, 33), (300, 50), (64, 64)])
@pytest.mark.parametrize("new", [(64, 64), (7, 200), (160, 17), (16, 16)])
def test_products_are_the_anti_aliased_resize(old, new):
    """What files for other runtimes do in its place, whatever shrinks or grows."""
    image = torch.rand(2, 3, *old)
    torch.testing.assert_close(_resize_by_products(image, new), resize(image, new), rtol=0, atol=2e-6)
