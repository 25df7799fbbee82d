"""The depth expansion network T: the reference against its definition, and Triton against the reference."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from argan.kernels import BackendUnavailable, expand_rays

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CASES = {
    #                        layers  B   V   H    W
    "as it is": (3, 2, 21, 5, 9),
    "one pixel, one view, one layer": (1, 1, 1, 1, 1),
    "one row": (2, 1, 3, 1, 70),
    "one column, many images": (2, 3, 2, 12, 1),
    "views of several groups": (2, 1, 69, 3, 5),
}


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def network(layers: int, views: int) -> list[Tensor]:
    return [torch.randn(views, views, 3, 3) / (3 * views**0.5) for _ in range(layers)]


def value_and_gradients(rays: Tensor, grad: Tensor, *weights: Tensor, impl: str) -> tuple[Tensor, ...]:
    rays, *weights = (tensor.detach().requires_grad_() for tensor in (rays, *weights))
    out = expand_rays(rays, weights, impl=impl)
    return out.detach(), *torch.autograd.grad(out, (rays, *weights), grad)


def assert_parity(*tensors: Tensor, tolerance: float) -> None:
    for got, expected in zip(
        value_and_gradients(*tensors, impl="triton"), value_and_gradients(*tensors, impl="reference"), strict=True
    ):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * scale)  # compares dtypes as well


def test_reference_follows_the_definition():
    rays, first, second = torch.randn(2, 2, 3, 4).double(), *(taps.double() for taps in network(2, 2))

    def at(image: Tensor, weights: Tensor, b: int, v: int, y: int, x: int) -> float:
        return sum(
            float(weights[v, u, i, j] * image[b, u, y + i - 1, x + j - 1])
            for u in range(2)
            for i in range(3)
            for j in range(3)
            if 0 <= y + i - 1 < 3 and 0 <= x + j - 1 < 4
        )

    places = torch.cartesian_prod(*map(torch.arange, rays.shape)).tolist()
    linear = torch.tensor([at(rays, first, *place) for place in places], dtype=torch.float64)
    inside = torch.where(linear > 0, linear, linear.exp() - 1).view(rays.shape)
    out = expand_rays(rays, [first, second], impl="reference")
    for place in places:
        assert out[tuple(place)] == pytest.approx(float(rays[tuple(place)]) + at(inside, second, *place))


@pytest.mark.parametrize("impl", ["reference", pytest.param("triton", marks=pytest.mark.triton)])
def test_gradients(impl, device):
    inputs = [tensor.double().to(device).requires_grad_() for tensor in (torch.randn(2, 2, 2, 3), *network(2, 2))]

    def expand(rays: Tensor, *weights: Tensor) -> Tensor:
        return expand_rays(rays, weights, impl=impl)

    assert torch.autograd.gradcheck(expand, inputs, fast_mode=impl == "triton")  # the interpreter takes its time


def test_the_reference_can_be_differentiated_twice():
    inputs = [tensor.double().requires_grad_() for tensor in (torch.randn(1, 2, 2, 3), *network(2, 2))]
    assert torch.autograd.gradgradcheck(lambda rays, *weights: expand_rays(rays, weights, impl="reference"), inputs)


@pytest.mark.triton
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_triton_equals_reference(case, dtype, tolerance, device):
    layers, *shape = case
    tensors = 3 * torch.randn(shape), torch.randn(shape), *network(layers, shape[1])
    assert_parity(*(tensor.to(device, dtype) for tensor in tensors), tolerance=tolerance)


@pytest.mark.triton
def test_gradients_of_many_blocks_are_added_up(device, monkeypatch):
    """More blocks of pixels than there are programs to share the sum."""
    from argan.kernels.expansion import triton as kernels

    monkeypatch.setattr(kernels, "PARTS", 3)
    shape = 2, 2, 11, 19
    assert 3 * kernels.BLOCK_P["ieee"] // 2 < 2 * 11 * 19
    tensors = torch.randn(shape), torch.randn(shape), *network(2, 2)
    assert_parity(*(tensor.to(device).double() for tensor in tensors), tolerance=1e-12)


@pytest.mark.triton
def test_images_do_not_see_one_another(device):
    """They lie side by side in memory, with a frame of zeros between them."""
    rays, weights = torch.randn(3, 4, 5, 6, device=device), [taps.to(device) for taps in network(3, 4)]
    apart = torch.cat([expand_rays(image[None], weights, impl="triton") for image in rays])
    torch.testing.assert_close(expand_rays(rays, weights, impl="triton"), apart, rtol=0, atol=1e-6)


@pytest.mark.triton
@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)], ids=str)
def test_half_precision_is_computed_in_float32(dtype, impl, device):
    rays = torch.randn(1, 3, 5, 7, device=device).to(dtype)
    weights = [taps.to(device) for taps in network(3, 3)]
    out = expand_rays(rays, weights, impl=impl)
    torch.testing.assert_close(out, expand_rays(rays.float(), weights, impl=impl).to(dtype), rtol=0, atol=0)
    out = expand_rays(rays, [taps.to(dtype) for taps in weights], impl=impl)
    torch.testing.assert_close(out.float(), expand_rays(rays.float(), weights, impl=impl), rtol=2**-6, atol=2**-6)


@pytest.mark.triton
def test_triton_takes_any_strides(device):
    rays = torch.randn(2, 5, 7, 3, device=device).permute(0, 3, 1, 2)
    weights = [taps.to(device).to(memory_format=torch.channels_last) for taps in network(2, 3)]
    grad = torch.randn(1, device=device).expand(2, 3, 5, 7)
    assert not any(tensor.is_contiguous() for tensor in (rays, grad, *weights))
    assert_parity(rays, grad, *weights, tolerance=1e-5)


@pytest.mark.triton
def test_triton_computes_only_the_gradients_that_are_needed(device, monkeypatch):
    from argan.kernels.expansion import triton as kernels

    rays, grad = torch.randn(1, 2, 4, 3, device=device), torch.ones(1, 2, 4, 3, device=device)
    weights = [taps.to(device) for taps in network(2, 2)]
    _, of_rays, *of_weights = value_and_gradients(rays, grad, *weights, impl="reference")
    launched, launch = [], kernels.launch
    monkeypatch.setattr(
        kernels, "launch", lambda kernel, *given, **more: launched.append(kernel) or launch(kernel, *given, **more)
    )
    out = expand_rays(rays.requires_grad_(), weights, impl="triton")
    launched.clear()
    torch.testing.assert_close(torch.autograd.grad(out.sum(), rays)[0], of_rays)
    assert launched.count(kernels.of_weights_kernel) == 0
    assert launched.count(kernels.convolve_kernel) == 2
    weights = [taps.requires_grad_() for taps in weights]
    out = expand_rays(rays.detach(), weights, impl="triton")
    launched.clear()
    torch.testing.assert_close(torch.autograd.grad(out.sum(), weights), tuple(of_weights))
    assert launched.count(kernels.of_weights_kernel) == 2
    assert launched.count(kernels.convolve_kernel) == 1


class Allocations(TorchDispatchMode):
    """The most numbers that a tensor made meanwhile has, but for those that the operation itself makes."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.most = max(self.most, made.numel() if isinstance(made, Tensor) else 0)
        return made


@pytest.mark.triton
def test_backward_makes_no_zeros_of_what_was_seen(device):
    """It is many times as large as the rays and takes part in no gradient."""
    rays, weights = torch.randn(1, 1, 5, 6, device=device).requires_grad_(), [x.to(device) for x in network(3, 1)]
    loss = expand_rays(rays, weights, impl="triton").sum()
    with Allocations() as allocated:
        loss.backward()
    assert allocated.most == rays.numel()


@pytest.mark.triton
def test_torch_ops_are_registered_in_full(device):
    rays, weights = torch.randn(1, 2, 2, 3, device=device), torch.stack(network(2, 2)).to(device)
    tracked = rays.clone().requires_grad_(), weights.clone().requires_grad_()
    torch.library.opcheck(torch.ops.argan.expand_rays.default, tracked)
    _, seen = torch.ops.argan.expand_rays(rays, weights)
    for needs in ((True, True), (False, True), (True, False)):
        torch.library.opcheck(torch.ops.argan.expand_rays_backward.default, (rays, seen, weights, *needs))


@pytest.mark.triton
def test_second_order_is_refused(device):
    rays, weights = torch.randn(1, 1, 2, 3, device=device).requires_grad_(), network(2, 1)
    out = expand_rays(rays, [taps.to(device).requires_grad_() for taps in weights], impl="triton").square().sum()
    (gradient,) = torch.autograd.grad(out, rays, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='reference'"):
        gradient.square().sum().backward()


@pytest.mark.gpu
def test_the_same_every_time_and_near_enough_in_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    shape = 32, 21, 64, 64
    tensors = [tensor.cuda() for tensor in (torch.randn(shape), torch.randn(shape), *network(3, 21))]
    once, again = (value_and_gradients(*tensors, impl="triton") for _ in range(2))
    truth = value_and_gradients(*(tensor.double() for tensor in tensors), impl="reference")
    for got, same, exact in zip(once, again, truth, strict=True):
        assert torch.equal(got, same)
        assert (got - exact).norm() < 2e-3 * exact.norm()


@pytest.mark.triton
def test_precision_that_was_set_anew_is_obeyed(device, set_precision):
    """PyTorch refuses to read the elder setting then."""
    from argan.kernels.expansion.triton import multiplied

    set_precision(torch.backends.cudnn.conv, "ieee")
    assert multiplied(torch.float32) == "ieee"
    rays, weights = torch.randn(1, 2, 3, 4, device=device), [taps.to(device) for taps in network(2, 2)]
    expected = expand_rays(rays, weights, impl="reference")
    torch.testing.assert_close(expand_rays(rays, weights, impl="triton"), expected, rtol=1e-5, atol=1e-5)


def test_autocast_does_not_reach_it():
    rays, weights = torch.randn(1, 3, 6, 7), network(2, 3)
    expected = expand_rays(rays, weights, impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(expand_rays(rays, weights, impl="reference"), expected)


def test_bad_arguments_are_named():
    rays = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"weights\[1\]: expected \(V, V, 3, 3\) with V = 2"):
        expand_rays(rays, [torch.zeros(2, 2, 3, 3), torch.zeros(2, 3, 3, 3)])
    with pytest.raises(ValueError, match=r"weights\[0\]: expected \(V, V, 3, 3\)"):
        expand_rays(rays, [torch.zeros(2, 2, 5, 5)])
    with pytest.raises(ValueError, match="weights: expected at least one"):
        expand_rays(rays, [])
    with pytest.raises(TypeError, match="rays: expected a floating point tensor"):
        expand_rays(rays.int(), network(1, 2))


def test_triton_that_cannot_run_says_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailable, match="triton"):
        expand_rays(torch.zeros(1, 1, 2, 2), network(1, 1), impl="triton")
