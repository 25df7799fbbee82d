"""Convolution between few channels: the reference against its definition, and Triton against the reference."""

import pytest
import torch
from torch import Tensor

from argan.kernels import BackendUnavailable, convolve

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CASES = {
    #                   B   C   K   H    W
    "T's": (2, 21, 21, 9, 17),
    "one pixel, one channel": (1, 1, 1, 1, 1),
    "one row": (1, 3, 2, 1, 130),
    "one column": (3, 2, 5, 70, 1),
    "made channels of several blocks": (1, 3, 40, 5, 7),
    "seen channels of several blocks": (1, 69, 5, 6, 13),
}


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def value_and_gradients(image: Tensor, weights: Tensor, grad: Tensor, impl: str) -> tuple[Tensor, ...]:
    inputs = [tensor.detach().requires_grad_() for tensor in (image, weights)]
    out = convolve(*inputs, impl=impl)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_parity(*tensors: Tensor, tolerance: float) -> None:
    for got, expected in zip(
        value_and_gradients(*tensors, "triton"), value_and_gradients(*tensors, "reference"), strict=True
    ):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * scale)  # compares dtypes as well


def test_reference_follows_the_definition():
    image, weights = torch.randn(2, 2, 3, 4).double(), torch.randn(3, 2, 3, 3).double()
    out = convolve(image, weights, impl="reference")
    for b, k, y, x in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        total = sum(
            weights[k, c, i, j] * image[b, c, y + i - 1, x + j - 1]
            for c in range(2)
            for i in range(3)
            for j in range(3)
            if 0 <= y + i - 1 < 3 and 0 <= x + j - 1 < 4
        )
        assert out[b, k, y, x] == pytest.approx(float(total))


def test_reference_gradients():
    inputs = [torch.randn(1, 2, 3, 4).double().requires_grad_(), torch.randn(2, 2, 3, 3).double().requires_grad_()]
    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.triton
def test_triton_gradients(device):
    inputs = [torch.randn(1, 2, 3, 4).double(), torch.randn(2, 2, 3, 3).double()]
    tracked = [tensor.to(device).requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda image, weights: convolve(image, weights, impl="triton"), tracked)


@pytest.mark.triton
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_triton_equals_reference(case, dtype, tolerance, device):
    b, c, k, h, w = case
    tensors = torch.randn(b, c, h, w), torch.randn(k, c, 3, 3), torch.randn(b, k, h, w)
    assert_parity(*(tensor.to(device, dtype) for tensor in tensors), tolerance=tolerance)


@pytest.mark.triton
def test_gradients_of_many_blocks_are_added_up(device, monkeypatch):
    """More blocks of pixels than there are programs to share the sum."""
    from argan.kernels.convolution import triton as kernels

    monkeypatch.setattr(kernels, "PARTS", 3)
    tensors = torch.randn(2, 2, 11, 19), torch.randn(2, 2, 3, 3), torch.randn(2, 2, 11, 19)
    assert 3 * kernels.BLOCK_P["ieee"] // 2 < 2 * 11 * 19
    assert_parity(*(tensor.to(device).double() for tensor in tensors), tolerance=1e-12)


@pytest.mark.triton
@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)], ids=str)
def test_half_precision_is_computed_in_float32(dtype, device):
    image, weights = torch.randn(1, 3, 5, 7, device=device).to(dtype), torch.randn(2, 3, 3, 3, device=device)
    for impl in ("reference", "triton"):
        out = convolve(image, weights, impl=impl)
        assert out.dtype == dtype
        torch.testing.assert_close(out, convolve(image.float(), weights, impl=impl).to(dtype), rtol=2**-7, atol=1e-3)
    grad = torch.randn(1, 2, 5, 7, device=device).to(dtype)
    assert_parity(image, weights, grad, tolerance=4 * torch.finfo(dtype).eps)


@pytest.mark.triton
def test_triton_takes_any_strides(device):
    image = torch.randn(2, 5, 7, 3, device=device).permute(0, 3, 1, 2)
    weights = torch.randn(4, 3, 3, 3, device=device).to(memory_format=torch.channels_last)
    grad = torch.randn(1, device=device).expand(2, 4, 5, 7)
    assert not any(tensor.is_contiguous() for tensor in (image, weights, grad))
    assert_parity(image, weights, grad, tolerance=1e-5)


@pytest.mark.triton
def test_triton_computes_only_the_gradients_that_are_needed(device, monkeypatch):
    from argan.kernels.convolution import triton as kernels

    image, weights = torch.randn(1, 2, 4, 3, device=device), torch.randn(2, 2, 3, 3, device=device)
    expected = value_and_gradients(image, weights, torch.ones(1, 2, 4, 3, device=device), "reference")[1:]
    of_weights, asked = kernels.of_weights, []
    monkeypatch.setattr(kernels, "of_weights", lambda *arguments: asked.append(1) or of_weights(*arguments))
    out = convolve(image.requires_grad_(), weights, impl="triton")
    torch.testing.assert_close(torch.autograd.grad(out.sum(), image)[0], expected[0])
    assert not asked
    out = convolve(image.detach(), weights.requires_grad_(), impl="triton")
    torch.testing.assert_close(torch.autograd.grad(out.sum(), weights)[0], expected[1])
    assert asked


@pytest.mark.triton
def test_torch_ops_are_registered_in_full(device):
    image, weights = torch.randn(1, 2, 2, 3, device=device), torch.randn(3, 2, 3, 3, device=device)
    tracked = image.clone().requires_grad_(), weights.clone().requires_grad_()
    torch.library.opcheck(torch.ops.argan.convolve.default, tracked)
    grad = torch.randn(1, 3, 2, 3, device=device)
    for needs in ((True, True), (False, True), (True, False)):
        torch.library.opcheck(torch.ops.argan.convolve_backward.default, (grad, image, weights, *needs))


@pytest.mark.triton
def test_second_order_is_refused(device):
    image = torch.randn(1, 1, 2, 3, device=device).requires_grad_()
    weights = torch.randn(1, 1, 3, 3, device=device).requires_grad_()
    out = convolve(image, weights, impl="triton").square().sum()
    (gradient,) = torch.autograd.grad(out, image, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='reference'"):
        gradient.square().sum().backward()


@pytest.mark.gpu
def test_the_same_every_time_and_near_enough_in_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    tensors = [torch.randn(*size, device="cuda") for size in ((32, 21, 64, 64), (21, 21, 3, 3), (32, 21, 64, 64))]
    once, again = (value_and_gradients(*tensors, "triton") for _ in range(2))
    truth = value_and_gradients(*(tensor.double() for tensor in tensors), "reference")
    for got, same, exact in zip(once, again, truth, strict=True):
        assert torch.equal(got, same)
        assert (got - exact).norm() < 1e-3 * exact.norm()


def test_bad_arguments_are_named():
    image = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"weights: expected \(K, C, 3, 3\) with C = 2"):
        convolve(image, torch.zeros(1, 3, 3, 3))
    with pytest.raises(ValueError, match=r"weights: expected \(K, C, 3, 3\), got \(1, 2, 5, 5\)"):
        convolve(image, torch.zeros(1, 2, 5, 5))
    with pytest.raises(TypeError, match="image: expected a floating point tensor"):
        convolve(image.int(), torch.zeros(1, 2, 3, 3))


def test_triton_that_cannot_run_says_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailable, match="triton"):
        convolve(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3), impl="triton")
