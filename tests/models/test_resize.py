"""Resizing: sizes, values, and that exporters keep it dynamic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from argan.models import resize as module
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


@pytest.mark.parametrize(
    ("old", "new", "dtype", "device", "products"),
    [
        ((4512, 4512), (48, 48), torch.float32, "cuda", False),
        ((4513, 6000), (48, 64), torch.float32, "cuda", True),
        ((8000, 100), (48, 100), torch.float32, "cuda", False),
        ((12000, 100), (48, 100), torch.float32, "cuda", True),
        ((100, 9000), (100, 48), torch.float32, "cuda", False),
        ((2300, 2300), (48, 48), torch.float64, "cuda", True),
        ((6000, 9000), (48, 72), torch.float32, "cpu", False),
    ],
)
def test_what_cuda_refuses_to_shrink_at_once_is_shrunk_by_products(old, new, dtype, device, products, monkeypatch):
    """Its anti-aliased resize needs 32 a + 33 b numbers in 48 KB: a = 2 ceil(old / new) + 1 of the width, b the height.

    Stand-ins for tensors on a GPU have no values, so that none is needed.
    """
    asked = []

    def by_products(x, size):
        asked.append(x.dtype)
        return x.new_empty(*x.shape[:2], *size)

    monkeypatch.setattr(module, "_resize_by_products", by_products)
    with FakeTensorMode():
        resized = resize(torch.empty(1, 3, *old, dtype=dtype, device=device), new)
    assert (*resized.shape[2:], resized.dtype, resized.device.type) == (*new, dtype, device)
    assert asked == [torch.float32] * products


def test_products_are_made_where_the_image_is():
    image = torch.rand(1, 2, 300, 200)
    with torch.device("meta"):  # where all goes that is not told where
        resized = _resize_by_products(image, (7, 5))
    assert torch.equal(resized, _resize_by_products(image, (7, 5)))


@pytest.mark.parametrize(("old", "new"), [((4600, 40), (48, 3)), ((30, 9001), (5, 64))])
def test_products_shrink_much_at_once(old, new):
    image = torch.rand(1, 2, *old)
    torch.testing.assert_close(_resize_by_products(image, new), resize(image, new), rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("old", [(4512, 4512), (4513, 4800), (12000, 400), (8736, 11648)])
def test_large_photos_are_shrunk_alike_on_a_gpu(old):
    image = torch.rand(1, 3, *old)
    torch.testing.assert_close(resize(image.cuda(), (48, 48)).cpu(), resize(image, (48, 48)), rtol=0, atol=1e-5)
