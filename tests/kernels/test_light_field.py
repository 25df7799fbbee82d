"""Light field rendering: the reference against its definition, and Triton against the reference."""

import importlib.util
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from argan.kernels import BackendUnavailable, render_light_field, resolve, warp_disparity, why_not_triton

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DISK = torch.tensor([(x, y) for y in range(-2, 3) for x in range(-2, 3) if abs(x * y) < 4], dtype=torch.float64)
CROSS = torch.tensor([(0, 0), (-1, 0), (1.5, 0.5), (0, -2)], dtype=torch.float64)
PROPERTIES = settings(max_examples=20, derandomize=True, database=None)


def grid(*shape: int, span: float = 3.0) -> Tensor:
    """Random multiples of 1/32 in [-span, span].

    Positions made of them are exact in float32, and many are whole pixels, where interpolation has a kink: both
    implementations must take the same side there.
    """
    limit = int(span * 32)
    return torch.randint(-limit, limit + 1, shape, dtype=torch.float64) / 32


def bilinear(image: Tensor, x: float, y: float) -> float:
    """The definition: interpolate an image (H, W) at a position that is clamped to the border."""
    height, width = image.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    x0, y0 = math.floor(x), math.floor(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    top = (1 - (x - x0)) * image[y0, x0] + (x - x0) * image[y0, x1]
    bottom = (1 - (x - x0)) * image[y1, x0] + (x - x0) * image[y1, x1]
    return float((1 - (y - y0)) * top + (y - y0) * bottom)


# The reference is the definition.


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (5, 7), (8, 4)])
def test_reference_follows_the_definition(size):
    height, width = size
    image, weights = torch.rand(2, 2, height, width).double(), torch.rand(4).double()
    rays = 3 * torch.randn(2, 4, height, width).double()
    disparity = 3 * torch.randn(2, 1, height, width).double()
    rendered = render_light_field(image, rays, CROSS, weights, impl="reference")
    warped = warp_disparity(disparity, CROSS, impl="reference")
    for b in range(2):
        for y in range(height):
            for x in range(width):
                here = disparity[b, 0, y, x]
                for v, (ux, uy) in enumerate(CROSS):
                    assert warped[b, v, y, x] == pytest.approx(bilinear(disparity[b, 0], x + ux * here, y + uy * here))
                for c in range(2):
                    samples = [
                        bilinear(image[b, c], x + ux * rays[b, v, y, x], y + uy * rays[b, v, y, x])
                        for v, (ux, uy) in enumerate(CROSS)
                    ]
                    mean = sum(w * s for w, s in zip(weights, samples, strict=True)) / weights.sum()
                    assert rendered[b, c, y, x] == pytest.approx(float(mean))


def test_reference_gradients():
    image, rays = torch.rand(1, 2, 3, 5).double(), torch.randn(1, 4, 3, 5).double()
    weights, disparity = torch.rand(4).double() + 0.5, torch.randn(1, 1, 3, 5).double()

    def render(image, rays, weights):
        return render_light_field(image, rays, CROSS, weights, impl="reference")

    def warp(disparity):
        return warp_disparity(disparity, CROSS, impl="reference")

    for function, inputs in ((render, (image, rays, weights)), (warp, (disparity,))):
        tracked = [tensor.requires_grad_() for tensor in inputs]
        assert torch.autograd.gradcheck(function, tracked)
        assert torch.autograd.gradgradcheck(function, tracked)


def test_clamped_positions_do_not_move():
    image, rays = torch.rand(1, 3, 6, 6).double(), torch.full((1, 1, 6, 6), 50.0).double().requires_grad_()
    right = torch.tensor([[1.0, 0.0]]).double()
    out = render_light_field(image, rays, right)
    assert torch.equal(out, image[..., -1:].expand_as(image))
    assert torch.equal(torch.autograd.grad(out.sum(), rays)[0], torch.zeros_like(rays))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    image, rays, disparity = torch.rand(1, 3, 9, 7).to(dtype), grid(1, 21, 9, 7).to(dtype), grid(1, 1, 9, 7).to(dtype)
    out, warped = render_light_field(image, rays, DISK), warp_disparity(disparity, DISK)
    assert out.dtype == warped.dtype == dtype
    assert torch.equal(out, render_light_field(image.float(), rays.float(), DISK).to(dtype))
    assert torch.equal(warped, warp_disparity(disparity.float(), DISK).to(dtype))


def test_autocast_does_not_reach_it():
    image, rays, views = torch.rand(1, 3, 9, 8), torch.randn(1, 4, 9, 8), torch.randn(4, 2)
    expected = render_light_field(image, rays, views, impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(render_light_field(image, rays, views, impl="reference"), expected)


def test_weights_of_double_precision_make_it_computed_in_that():
    image, rays = torch.rand(1, 3, 9, 7), grid(1, 4, 9, 7).float()
    weights = torch.tensor([1.0, 1e9, -1e9, 1.0], dtype=torch.float64)  # their sum is 2: in float32 little is left
    rays[:, 2], views = rays[:, 1], torch.stack([CROSS[0], CROSS[1], CROSS[1], CROSS[3]])
    out = render_light_field(image, rays, views, weights)
    expected = render_light_field(image.double(), rays.double(), views, weights)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected.float(), rtol=0, atol=1e-5)


# Properties of the aperture renderer.

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**31)


@PROPERTIES
@given(sizes, seeds, st.floats(0, 1))
def test_constant_image_is_fixed(size, seed, value):
    torch.manual_seed(seed)
    image, rays = torch.full((1, 3, *size), value, dtype=torch.float64), 9 * torch.randn(1, 21, *size).double()
    torch.testing.assert_close(render_light_field(image, rays, DISK), image)


@PROPERTIES
@given(sizes, seeds)
def test_zero_disparity_is_the_identity(size, seed):
    torch.manual_seed(seed)
    image, zero = torch.rand(2, 3, *size), torch.zeros(2, 1, *size)
    assert torch.equal(warp_disparity(zero, DISK), zero.expand(-1, 21, -1, -1))
    torch.testing.assert_close(render_light_field(image, zero.expand(-1, 21, -1, -1), DISK), image, rtol=1e-6, atol=0)
    # One view adds nothing up: the identity is exact, at every size.
    assert torch.equal(render_light_field(image, zero, DISK[:1]), image)


@PROPERTIES
@given(sizes, seeds)
def test_symmetric_aperture_is_even_in_disparity(size, seed):
    torch.manual_seed(seed)
    image, disparity = torch.rand(1, 3, *size).double(), torch.randn(1, 1, *size).double()
    front, behind = (
        render_light_field(image, warp_disparity(signed, DISK), DISK) for signed in (disparity, -disparity)
    )
    torch.testing.assert_close(front, behind)


@PROPERTIES
@given(sizes, seeds, st.floats(-3, 3))
def test_linear_in_the_image(size, seed, factor):
    torch.manual_seed(seed)
    one, other, rays = torch.rand(1, 2, *size).double(), torch.rand(1, 2, *size).double(), grid(1, 21, *size)
    together = render_light_field(one + factor * other, rays, DISK)
    apart = render_light_field(one, rays, DISK) + factor * render_light_field(other, rays, DISK)
    torch.testing.assert_close(together, apart)


@PROPERTIES
@given(sizes, seeds)
def test_order_of_views_does_not_matter_and_weights_are_relative(size, seed):
    torch.manual_seed(seed)
    image, rays, weights = torch.rand(1, 2, *size).double(), grid(1, 21, *size), torch.rand(21).double() + 0.1
    order = torch.randperm(21)
    expected = render_light_field(image, rays, DISK, weights)
    torch.testing.assert_close(render_light_field(image, rays[:, order], DISK[order], 7 * weights[order]), expected)
    masked = torch.cat((weights, weights.new_zeros(1)))  # a blocked view is no view
    more_rays, more_views = torch.cat((rays, rays[:, :1]), 1), torch.cat((DISK, DISK[:1] + 3))
    torch.testing.assert_close(render_light_field(image, more_rays, more_views, masked), expected)


# Triton against the reference: values, and gradients to every input.

CASES = {
    #                   B  C   H   W  views   span of disparity
    "odd sizes, batch": (2, 3, 9, 17, CROSS, 3.0),
    "beyond the border": (1, 3, 5, 7, CROSS, 100.0),
    "zero disparity": (2, 1, 7, 5, CROSS, 0.0),
    "one view": (1, 3, 11, 13, CROSS[2:3], 3.0),
    "one pixel": (3, 2, 1, 1, CROSS[1:], 2.0),
    "one row": (1, 1, 1, 130, CROSS[2:], 4.0),
    "one column": (1, 1, 6, 1, CROSS[2:], 4.0),
    "many channels": (1, 10, 4, 5, CROSS[1:3], 2.0),
    "power of two": (1, 3, 16, 16, CROSS[2:], 2.0),
}


def warp_and_gradient(disparity: Tensor, views: Tensor, grad: Tensor, impl: str) -> tuple[Tensor, ...]:
    disparity = disparity.detach().requires_grad_()
    out = warp_disparity(disparity, views, impl=impl)
    return out.detach(), *torch.autograd.grad(out, disparity, grad)


def render_and_gradients(image, rays, views, weights, grad: Tensor, impl: str) -> tuple[Tensor, ...]:
    inputs = [tensor.detach().requires_grad_() for tensor in (image, rays, weights)]
    out = render_light_field(inputs[0], inputs[1], views, inputs[2], impl=impl)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_parity(function, *tensors: Tensor, tolerance: float) -> None:
    """Compare relative to the largest element: sums of terms of both signs can cancel."""
    for got, expected in zip(function(*tensors, "triton"), function(*tensors, "reference"), strict=True):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * scale)  # compares dtypes as well


@pytest.mark.triton
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_triton_equals_reference(case, dtype, tolerance, device):
    b, c, h, w, views, span = case
    v = len(views)
    warped = grid(b, 1, h, w, span=span), views, torch.randn(b, v, h, w)
    assert_parity(warp_and_gradient, *(tensor.to(device, dtype) for tensor in warped), tolerance=tolerance)
    rendered = torch.rand(b, c, h, w), grid(b, v, h, w, span=span), views, torch.rand(v) + 0.1, torch.randn(b, c, h, w)
    assert_parity(render_and_gradients, *(tensor.to(device, dtype) for tensor in rendered), tolerance=tolerance)


@pytest.mark.triton
@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)], ids=str)
def test_triton_equals_reference_in_half_precision(dtype, device):
    # bfloat16 is for a GPU: the interpreter gets its arithmetic wrong.
    tolerance = 2 * torch.finfo(dtype).eps
    warped = grid(1, 1, 5, 7), CROSS[1:], torch.randn(1, 3, 5, 7)
    assert_parity(warp_and_gradient, *(tensor.to(device, dtype) for tensor in warped), tolerance=tolerance)
    rendered = torch.rand(1, 3, 5, 7), grid(1, 3, 5, 7), CROSS[1:], torch.ones(3), torch.randn(1, 3, 5, 7)
    assert_parity(render_and_gradients, *(tensor.to(device, dtype) for tensor in rendered), tolerance=tolerance)


@pytest.mark.triton
def test_triton_at_positions_between_pixels(device):
    """Ordinary float positions, whose rounding may differ by an ulp: values are continuous, so they must agree."""
    image, rays = torch.rand(2, 3, 10, 6, device=device), 4 * torch.randn(2, 3, 10, 6, device=device)
    views = CROSS[1:].float().to(device)
    results = [render_light_field(image, rays, views, impl=impl) for impl in ("triton", "reference")]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


@pytest.mark.triton
def test_triton_takes_any_strides_and_mixed_dtypes(device):
    views = CROSS[1:].float().to(device)
    image = torch.rand(2, 3, 6, 5, device=device).to(memory_format=torch.channels_last)
    rays = grid(2, 6, 5, 3).float().to(device).permute(0, 3, 1, 2)
    weights = torch.rand(6, device=device)[::2]
    views = torch.stack((views, -views), 1)[:, 0]
    grad = torch.rand(1, device=device).expand(2, 3, 6, 5)
    assert not any(tensor.is_contiguous() for tensor in (image, rays, weights, views, grad))
    assert_parity(render_and_gradients, image, rays, views, weights, grad, tolerance=1e-4)
    assert_parity(render_and_gradients, image.half(), rays, views.double(), weights, grad.half(), tolerance=2e-3)


@pytest.mark.triton
def test_triton_computes_only_the_gradients_that_are_needed(device):
    views = CROSS[2:].float().to(device)
    inputs = [torch.rand(1, 2, 4, 3), grid(1, 2, 4, 3).float(), torch.rand(2)]
    inputs = [tensor.to(device).requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(render_light_field(*inputs[:2], views, inputs[2], impl="reference").sum(), inputs)
    for wanted, gradient in zip(range(3), expected, strict=True):
        image, rays, weights = (t if i == wanted else t.detach() for i, t in enumerate(inputs))
        out = render_light_field(image, rays, views, weights, impl="triton").sum()
        torch.testing.assert_close(torch.autograd.grad(out, inputs[wanted])[0], gradient)


@pytest.mark.triton
def test_triton_survives_what_is_not_a_position(device):
    """No index leaves the image, whatever the rays hold; the reference reads nan as 0 as well."""
    image, views = torch.rand(1, 1, 4, 4, device=device), torch.ones(1, 2, device=device)
    rays = torch.zeros(1, 1, 4, 4, device=device)
    rays[0, 0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30])
    results = [render_light_field(image, rays, views, impl=impl) for impl in ("triton", "reference")]
    assert torch.equal(*results)


@pytest.mark.triton
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_position_is_read_alike_with_gradients(value, device):
    """Views have coordinates of 0 too, where what is infinite is no position either."""
    image, views = torch.rand(1, 2, 4, 5, device=device), CROSS.float().to(device)
    rays = torch.rand(1, 4, 4, 5, device=device)
    rays[:, :, 1, 2:4] = value
    expected = render_light_field(image, rays, views, impl="reference")
    for inputs in ((image.clone().requires_grad_(), rays), (image, rays.clone().requires_grad_())):
        assert torch.equal(render_light_field(*inputs, views, impl="reference").detach(), expected)
    torch.testing.assert_close(render_light_field(image, rays, views, impl="triton"), expected)
    disparity = torch.full((1, 1, 4, 5), value, device=device)
    results = [warp_disparity(x, views, impl="reference") for x in (disparity, disparity.clone().requires_grad_())]
    assert torch.equal(*(x.detach().nan_to_num(7) for x in results))


@pytest.mark.triton
def test_torch_ops_are_registered_in_full(device):
    views, weights = CROSS[2:].float().to(device), torch.rand(2, device=device)
    image, rays = torch.rand(1, 1, 2, 3, device=device), grid(1, 2, 2, 3).float().to(device)
    tracked = [tensor.requires_grad_() for tensor in (image, rays)]
    torch.library.opcheck(torch.ops.argan.render_light_field.default, (*tracked, views, weights))
    torch.library.opcheck(torch.ops.argan.warp_disparity.default, (image, views))
    inputs = [tensor.detach() for tensor in (image, image, rays, views, weights)]
    for needs in ((True, True, True), (False, True, False)):
        torch.library.opcheck(torch.ops.argan.render_light_field_backward.default, (*inputs, *needs))
    torch.library.opcheck(torch.ops.argan.warp_disparity_backward.default, (rays.detach(), image.detach(), views))


@pytest.mark.triton
def test_second_order_is_refused(device):
    views = CROSS[2:].float().to(device)
    image, rays = torch.rand(1, 1, 2, 3, device=device), torch.randn(1, 2, 2, 3, device=device).requires_grad_()
    (gradient,) = torch.autograd.grad(
        render_light_field(image, rays, views, impl="triton").sum(), rays, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="impl='reference'"):
        gradient.square().sum().backward()
    disparity = torch.randn(1, 1, 2, 3, device=device).requires_grad_()
    (gradient,) = torch.autograd.grad(
        warp_disparity(disparity, views, impl="triton").sum(), disparity, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="impl='reference'"):
        gradient.square().sum().backward()


@pytest.mark.triton
def test_launches_are_told_apart_by_their_constants(device, monkeypatch):
    """A compiled kernel is kept under its constants' values: they come in one order, and all of them come."""
    from argan.kernels.light_field import triton as kernels

    seen, launch = [], kernels.launch

    def watched(kernel, programs, *arguments, **constants):
        seen.append((kernel, len(arguments), constants))
        launch(kernel, programs, *arguments, **constants)

    monkeypatch.setattr(kernels, "launch", watched)
    views, image = CROSS[2:].float().to(device), torch.rand(1, 2, 4, 3, device=device)
    for wanted in range(3):
        inputs = [image.clone(), grid(1, 2, 4, 3).float().to(device), torch.rand(2, device=device)]
        inputs[wanted].requires_grad_()
        render_light_field(*inputs[:2], views, inputs[2], impl="triton").sum().backward()
    warp_disparity(image[:, :1].requires_grad_(), views, impl="triton").sum().backward()
    assert len({kernel for kernel, _, _ in seen}) == 4
    for kernel, count, constants in seen:
        assert set(kernel.arg_names[count:]) == set(constants) - {"num_warps", "enable_fp_fusion"}
        orders = {tuple(names) for other, _, names in seen if other is kernel}
        assert orders == {tuple(constants)}


@pytest.mark.gpu
def test_triton_gradient_to_rays_is_deterministic():
    image, rays = torch.rand(2, 3, 65, 67, device="cuda"), torch.randn(2, 21, 65, 67, device="cuda")
    views, weights = DISK.float().cuda(), torch.rand(21, device="cuda")
    runs = [render_and_gradients(image, rays, views, weights, torch.ones_like(image), "triton") for _ in range(3)]
    for value in (0, 2, 3):  # the picture, the gradients to rays and weights
        assert torch.equal(runs[0][value], runs[1][value])
        assert torch.equal(runs[0][value], runs[2][value])


@pytest.mark.gpu
def test_atomic_gradients_obey_the_deterministic_switch():
    image, views = torch.rand(1, 1, 8, 8, device="cuda", requires_grad=True), DISK.float().cuda()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="not deterministic"):
            warp_disparity(image, views, impl="triton").sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.slow
def test_offsets_beyond_31_bits():
    size, count = 16384, 9  # 9 planes of 2^28 rays
    image, views = torch.rand(1, 1, size, size, device="cuda"), torch.zeros(count, 2, device="cuda")
    rays = torch.zeros(1, count, size, size, device="cuda")
    torch.testing.assert_close(render_light_field(image, rays, views, impl="triton"), image)


# Choice of implementation, graphs, messages.


class Renderer(torch.nn.Module):
    def __init__(self, impl: str):
        super().__init__()
        self.impl = impl

    def forward(self, image: Tensor, disparity: Tensor) -> Tensor:
        views = DISK.float()
        return render_light_field(image, warp_disparity(disparity, views, impl=self.impl), views, impl=self.impl)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_exported_graphs_hold_aten_operations_only(impl):
    example = torch.rand(2, 3, 6, 5), torch.randn(2, 1, 6, 5)
    unseen = torch.rand(3, 3, 9, 7), torch.randn(3, 1, 9, 7)
    module = Renderer(impl)
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(module, example, dynamic_shapes=(dynamic, dynamic))
    operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [operation for operation in operations if "argan" in operation]
    torch.testing.assert_close(program.module()(*unseen), module(*unseen))
    traced = torch.jit.trace(module, example)
    assert "argan::" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(*unseen), module(*unseen))


def test_resolving_an_implementation():
    assert resolve("reference", "cpu") == resolve("auto", "cpu") == "reference"
    with pytest.raises(ValueError, match="auto, reference, triton, got 'cuda'"):
        resolve("cuda", "cpu")


def test_triton_that_cannot_run_says_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailable, match="triton"):
        warp_disparity(torch.zeros(1, 1, 2, 2), DISK, impl="triton")
    if importlib.util.find_spec("triton"):
        assert "on cpu" in why_not_triton("cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_is_not_finite_harms_nothing_in_the_backward_pass(value, device):
    """Training that diverges is to say so."""
    disparity = torch.full((1, 1, 8, 8), value, device=device, requires_grad=True)
    image = torch.rand(1, 3, 8, 8, device=device, requires_grad=True)
    views = DISK.to(device)
    warp_disparity(disparity, views).sum().backward()
    rays = disparity.expand(-1, len(views), -1, -1)
    render_light_field(image, rays, views).sum().backward()
    assert disparity.grad.shape == disparity.shape
    assert image.grad.shape == image.shape


def test_works_without_triton():
    program = """
import sys
sys.modules["triton"] = None  # as on a machine where it is not installed
import torch
from argan.kernels import BackendUnavailable, render_light_field, warp_disparity
views = torch.tensor([[1.0, 0.0]])
disparity = torch.rand(1, 1, 4, 4)
render_light_field(torch.rand(1, 3, 4, 4), warp_disparity(disparity, views), views)
try:
    warp_disparity(disparity, views, impl="triton")
except BackendUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not installed" in done.stdout


IMAGE, RAYS, VIEWS = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5), torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGE.numpy(), RAYS, VIEWS), TypeError, r"image: expected a tensor \(B, C, H, W\), got ndarray"),
        ((IMAGE.byte(), RAYS, VIEWS), TypeError, "image: expected a floating point tensor .* got torch.uint8"),
        ((IMAGE[0], RAYS, VIEWS), ValueError, r"image: expected \(B, C, H, W\), got \(3, 4, 5\)"),
        ((IMAGE, RAYS[:1], VIEWS), ValueError, r"rays: expected \(B, V, H, W\) with B = 2, got \(1, 2, 4, 5\)"),
        ((IMAGE, RAYS[..., :3], VIEWS), ValueError, "rays: expected .* with W = 5"),
        ((IMAGE, RAYS, torch.zeros(3, 2)), ValueError, "views: expected .* with V = 2"),
        ((IMAGE, RAYS, torch.zeros(2, 3)), ValueError, r"views: expected \(V, 2\), got \(2, 3\)"),
        ((IMAGE, RAYS, VIEWS, torch.ones(3)), ValueError, r"weights: expected \(V\) with V = 2"),
        ((IMAGE, RAYS[:, :0], VIEWS[:0]), ValueError, "rays: .* no empty dimension"),
        ((IMAGE, RAYS, VIEWS.clone().requires_grad_()), ValueError, "views: .* no gradient"),
        ((IMAGE, RAYS.to("meta"), VIEWS), ValueError, "one device, got image on cpu, rays on meta"),
    ],
)
def test_messages(arguments, error, message):
    with pytest.raises(error, match=message):
        render_light_field(*arguments)


def test_poisoned_memory_is_poisoned():
    space = {"__name__": "argan.kernels.example", "torch": torch}
    exec("made = torch.empty(3), torch.zeros(2).new_empty(3), torch.empty_like(torch.zeros(3))", space)
    assert all(memory.isnan().all() for memory in space["made"])
