"""Bytes to what the networks take."""

import numpy as np
import pytest
import torch

from argan.data.batch import gather

ALL_BYTES = torch.arange(3 * 3 * 16 * 16).remainder(256).to(torch.uint8).view(3, 3, 16, 16)


def test_every_byte_is_the_nearest_float_to_its_255th():
    (batch,) = gather(ALL_BYTES, torch.tensor([1]), torch.tensor([False]))
    assert batch.dtype == torch.float32
    assert np.array_equal(batch.numpy(), ALL_BYTES[1].numpy() / np.float32(255))


def test_rows_in_any_order_are_mirrored_by_themselves():
    batch = gather(ALL_BYTES, torch.tensor([2, 0, 2]), torch.tensor([True, False, False]))
    for got, row in zip(batch, (ALL_BYTES[2].flip(-1), ALL_BYTES[0], ALL_BYTES[2]), strict=True):
        assert torch.equal(got, row.float() / 255)


def test_the_host_only_moves_bytes(monkeypatch):
    """What leaves the CPU is uint8, and flips; the numbers are made on the device."""
    moved, move = [], torch.Tensor.to

    def to(tensor, *args, **options):
        if tensor.device.type == "cpu":
            moved.append(tensor.dtype)
        return move(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch = gather(ALL_BYTES, torch.tensor([2, 0]), torch.tensor([True, False]), "meta")
    assert (batch.device.type, batch.dtype, batch.shape) == ("meta", torch.float32, (2, 3, 16, 16))
    assert moved == [torch.uint8, torch.bool]


@pytest.mark.gpu
def test_the_gpu_makes_the_same_numbers():
    rows, flips = torch.tensor([2, 0, 1]), torch.tensor([True, False, True])
    assert torch.equal(gather(ALL_BYTES, rows, flips, "cuda").cpu(), gather(ALL_BYTES, rows, flips))
