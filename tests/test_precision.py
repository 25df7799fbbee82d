"""Convolutions in full float32, for a while."""

from collections.abc import Callable
from typing import Any

import torch

from argan.precision import exact_convolutions


def test_calls_in_threads_that_overlap_leave_the_precision_as_it_was(set_precision: Callable[[Any, str], None]) -> None:
    convolutions = torch.backends.cudnn.conv
    set_precision(convolutions, "tf32")
    first, second = exact_convolutions(), exact_convolutions()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert convolutions.fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert convolutions.fp32_precision == "tf32"
