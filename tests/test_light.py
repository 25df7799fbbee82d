"""Transfer curves: exact inverses, known values, ICC profiles."""

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from argan.curves import SRGB, STRAIGHT, Curve, Parametric, Sampled, curve_of
from argan.light import from_linear, quantise, to_linear

ADOBE = Parametric("Adobe RGB", g=563 / 256)
A, B = 1.09929682680944, 0.018053968510807  # Rec. 2020's exact constants: its two branches meet
REC2020 = Parametric("Rec. 2020", g=1 / 0.45, a=1 / A, b=1 - 1 / A, c=1 / 4.5, d=4.5 * B)
OFFSET = Parametric("with offsets", g=2.0, a=0.9, b=0.05, c=0.1, d=0.1, e=0.001, f=0.0106)
TABLE = Sampled("table", tuple((torch.linspace(0, 1, 33, dtype=torch.float64) ** 1.8).tolist()))
CURVES = [SRGB, STRAIGHT, ADOBE, REC2020, OFFSET, TABLE]


@pytest.fixture(params=CURVES, ids=lambda curve: curve.name)
def curve(request: pytest.FixtureRequest) -> Curve:
    return request.param


def test_srgb_is_the_standard() -> None:
    """IEC 61966-2-1: 18 % grey is stored as 0.4614, stored 0.5 is 0.2140 of full light, the toe has slope 12.92."""
    stored = torch.tensor([0.0, 0.02, 0.5, 1.0], dtype=torch.float64)
    linear = torch.tensor([0.0, 0.02 / 12.92, 0.21404114, 1.0], dtype=torch.float64)
    torch.testing.assert_close(SRGB.decode(stored), linear, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        SRGB.encode(torch.tensor(0.18, dtype=torch.float64)).item(), 0.46135613, rtol=0, atol=1e-7
    )


def test_encode_inverts_decode(curve: Curve) -> None:
    stored = torch.linspace(0, 1, 10001, dtype=torch.float64)
    torch.testing.assert_close(curve.encode(curve.decode(stored)), stored, rtol=0, atol=1e-12)
    linear = torch.linspace(float(curve.decode(stored[0])), 1, 10001, dtype=torch.float64)
    torch.testing.assert_close(curve.decode(curve.encode(linear)), linear, rtol=0, atol=1e-12)


def test_curves_rise(curve: Curve) -> None:
    stored = torch.linspace(0, 1, 5001, dtype=torch.float64)
    assert (curve.decode(stored).diff() > 0).all()


def test_gradients_are_finite_everywhere(curve: Curve) -> None:
    x = torch.linspace(0, 1.5, 301, dtype=torch.float64, requires_grad=True)
    for function in (curve.decode, curve.encode):
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
        assert torch.isfinite(gradient).all()
        assert (gradient >= 0).all()
    middle = torch.linspace(0.21, 0.83, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: curve.encode(curve.decode(x) * 0.7), middle)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_untouched_integers_come_back(curve: Curve, dtype: torch.dtype) -> None:
    steps = 256 if dtype == torch.uint8 else 65536
    pixels = torch.arange(steps).to(dtype).reshape(1, 16, -1).expand(3, -1, -1)
    linear = to_linear(pixels, curve)
    assert linear.dtype == torch.float32
    assert torch.equal(from_linear(linear, curve, dtype).int(), pixels.int())


def test_8_bits_are_rounded_to_the_nearest(curve: Curve) -> None:
    linear = torch.rand(3, 100, 101)
    exact = curve.encode(linear.double()).clamp(0, 1) * 255
    assert (from_linear(linear, curve, torch.uint8) - exact).abs().max() < 0.504


def test_tables_agree_with_formulas(curve: Curve) -> None:
    pixels = torch.randint(0, 256, (3, 20, 21), dtype=torch.uint8)
    torch.testing.assert_close(to_linear(pixels, curve), curve.decode(pixels.double() / 255).float())


def test_not_contiguous() -> None:
    pixels = torch.randint(0, 256, (20, 21, 3), dtype=torch.uint8).permute(2, 0, 1)
    assert torch.equal(from_linear(to_linear(pixels), dtype=torch.uint8), pixels)


def test_integers_are_clamped_and_floats_are_not() -> None:
    linear = torch.tensor([-0.5, 0.0, 1.0, 4.0]).reshape(1, 1, 4)
    assert from_linear(linear, dtype=torch.uint8).flatten().tolist() == [0, 0, 255, 255]
    assert from_linear(linear, dtype=torch.uint16).flatten().tolist() == [0, 0, 65535, 65535]
    assert from_linear(linear).flatten()[3] > 1
    assert from_linear(linear).flatten()[0] == 0  # there is no negative light
    assert quantise(torch.tensor([0.4999 / 255, 0.5001 / 255]), torch.uint8).tolist() == [0, 1]


def test_float64_stays() -> None:
    assert from_linear(to_linear(torch.rand(3, 4, 5, dtype=torch.float64)), dtype=torch.float64).dtype == torch.float64


# ICC profiles


def icc(**tags: bytes) -> bytes:
    """A profile with these tags and nothing else."""
    start = 132 + 12 * len(tags)
    entries, body = b"", b""
    for name, data in tags.items():
        entries += struct.pack(">4sII", name.encode(), start + len(body), len(data))
        body += data
    return bytes(128) + struct.pack(">I", len(tags)) + entries + body


def all_channels(data: bytes) -> bytes:
    return icc(rTRC=data, gTRC=data, bTRC=data)


def curv(*values: int) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def para(function: int, *values: float) -> bytes:
    numbers = [round(value * 65536) for value in values]
    return b"para\0\0\0\0" + struct.pack(f">HH{len(values)}i", function, 0, *numbers)


def test_no_profile_is_srgb() -> None:
    assert curve_of(None) is SRGB
    assert curve_of(b"") is SRGB


def test_the_srgb_profile_is_srgb() -> None:
    assert curve_of(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) is SRGB


def test_srgb_as_a_table_is_srgb() -> None:
    table = (SRGB.decode(torch.linspace(0, 1, 1024, dtype=torch.float64)) * 65535).round().int().tolist()
    assert curve_of(all_channels(curv(*table))) is SRGB


def test_display_p3_has_the_srgb_curve() -> None:
    assert curve_of(all_channels(para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))) is SRGB


def test_adobe_rgb_gamma() -> None:
    curve = curve_of(all_channels(curv(563)))
    assert curve.name == "the photo's own profile"
    assert curve.decode(torch.tensor(0.5)).item() == pytest.approx(0.5 ** (563 / 256))


@pytest.mark.parametrize("data", [para(0, 2.2), curv(*(round(65535 * (x / 1023) ** 2.2) for x in range(1024)))])
def test_a_gamma_near_srgb_is_not_srgb(data: bytes) -> None:
    assert curve_of(all_channels(data)).decode(torch.tensor(0.5)).item() == pytest.approx(0.5**2.2, abs=1e-4)


def test_empty_table_is_linear() -> None:
    assert curve_of(all_channels(curv())).decode(torch.tensor(0.3)).item() == pytest.approx(0.3)


def test_grey_profile() -> None:
    assert curve_of(icc(kTRC=curv(461))).decode(torch.tensor(0.5)).item() == pytest.approx(0.5 ** (461 / 256))


def test_table() -> None:
    curve = curve_of(all_channels(curv(0, 1000, 20000, 65535)))
    at = torch.tensor([0.0, 1 / 3, 0.5, 1.0], dtype=torch.float64)
    expected = torch.tensor([0, 1000, 10500, 65535], dtype=torch.float64) / 65535
    torch.testing.assert_close(curve.decode(at), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        curv(0),  # gamma 0
        curv(0, 0, 0, 9000, 9000, 65535),  # flat in the middle
        curv(0, 30000, 65535, 65535),  # white before the end
        curv(65535, 30000, 0),
        para(1, 2.0, 1.25, -0.25),  # black up to a fifth
        para(4, 2.0, 0.9, 0.0, 0.1, 0.1, 100.0, 100.0),
        para(1, 2.0, 2.0, 0.0),  # white is four times white
        para(4, 1.0, 1.0, 0.0, 0.0, 0.0, -0.1, 0.0),  # black is less than none
    ],
)
def test_curves_without_an_inverse_are_taken_as_srgb(data: bytes) -> None:
    assert curve_of(all_channels(data)) is SRGB


@pytest.mark.parametrize(
    ("data", "formula"),
    [
        (para(0, 1.8), lambda x: x**1.8),
        (para(1, 2.0, 0.9, 0.1), lambda x: max(0.9 * x + 0.1, 0) ** 2),
        (para(2, 2.0, 0.9, 0.0, 0.1), lambda x: (0.9 * x) ** 2 + 0.1),
        (para(2, 2.0, 0.9, -0.001, 0.1), lambda x: max(0.9 * x - 0.001, 0) ** 2 + 0.1),
        (para(3, 2.2, 0.91, 0.09, 0.22, 0.08), lambda x: (0.91 * x + 0.09) ** 2.2 if x >= 0.08 else 0.22 * x),
        (
            para(4, 2.0, 0.9, 0.05, 0.1, 0.1, 0.02, 0.01),
            lambda x: (0.9 * x + 0.05) ** 2 + 0.02 if x >= 0.1 else 0.1 * x + 0.01,
        ),
    ],
)
def test_parametric(data: bytes, formula) -> None:
    curve = curve_of(all_channels(data))
    for x in (0.0, 0.05, 0.15, 0.3, 0.7, 1.0):
        assert curve.decode(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(formula(x), abs=1e-4)


def test_a_curve_that_starts_where_its_power_does_is_encoded() -> None:
    """a d + b of d = -b / a is rounded, here to less than 0, of which Python's powers are complex."""
    data = para(1, 153488 / 65536, 58168 / 65536, 7368 / 65536)
    curve = curve_of(all_channels(data))
    assert isinstance(curve, Parametric)
    assert curve.a * curve.d + curve.b < 0
    linear = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(curve.decode(curve.encode(linear)), linear, rtol=0, atol=1e-12)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(from_linear(to_linear(pixels, curve), curve, torch.uint8), pixels)


def test_channels_that_differ_are_taken_as_srgb() -> None:
    assert curve_of(icc(rTRC=curv(461), gTRC=curv(563), bTRC=curv(461))) is SRGB


def test_table_profiles_are_taken_as_srgb() -> None:
    assert curve_of(icc(A2B0=b"mft2" + bytes(100))) is SRGB


@given(st.binary(max_size=400))
def test_no_bytes_break_it(data: bytes) -> None:
    stored = torch.linspace(0, 1, 256)
    for profile in (data, all_channels(data), *(all_channels(kind + bytes(4) + data) for kind in (b"para", b"curv"))):
        curve = curve_of(profile)
        assert (curve.encode(curve.decode(stored)) - stored).abs().max() < 1 / 255
