"""Launches: what is compiled once, what anew, and what is refused, with a stand-in for Triton's compiler."""

from types import SimpleNamespace

import pytest
import torch

from argan.kernels import launch as module
from argan.kernels.launch import launch


class Compiler:
    """A kernel as Triton has it: kernel[grid](...) compiles and runs, and what that returns runs."""

    arg_names = ("source", "scale", "count", "BLOCK", "KIND")
    __name__ = "stand_in"

    def __init__(self, specialised: tuple[str, ...] = ()):
        self.params = [SimpleNamespace(name=n, do_not_specialize=n not in specialised) for n in self.arg_names]
        self.compiled, self.runs = 0, []

    def __getitem__(self, grid):
        def run(*arguments, **constants):
            self.compiled += 1
            self.runs.append((grid, arguments, tuple(constants.items())))
            return Compiled(self)

        return run


class Compiled:
    def __init__(self, kernel: Compiler):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *arguments: self.kernel.runs.append((grid, arguments, ()))


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(module, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # the CPU's index
    monkeypatch.setattr(module, "_compiled", {})
    return Compiler()


def test_a_kernel_is_compiled_once_for_all_numbers(kernel):
    x = torch.zeros(8)
    launch(kernel, 3, x, 0.5, 7, KIND="one", BLOCK=4, num_warps=2)
    launch(kernel, 5, x, 1.5, 9, KIND="one", BLOCK=4, num_warps=2)
    assert kernel.compiled == 1
    grid, arguments, _ = kernel.runs[-1]
    assert grid == (5, 1, 1) and arguments[1:] == (1.5, 9, 4, "one")  # constants in the kernel's own order
    assert arguments[0] is x


@pytest.mark.parametrize(
    "other",
    [
        lambda x: ((x.double(), 0.5, 7), {"KIND": "one", "BLOCK": 4}),
        lambda x: ((x[1:], 0.5, 7), {"KIND": "one", "BLOCK": 4}),
        lambda x: ((x, 0.5, 2**31), {"KIND": "one", "BLOCK": 4}),
        lambda x: ((x, 0.5, 7), {"KIND": "two", "BLOCK": 4}),
        lambda x: ((x, 0.5, 7), {"KIND": "one", "BLOCK": 8}),
    ],
    ids=["type", "alignment", "64 bits", "constant", "size"],
)
def test_other_kinds_of_arguments_are_compiled_for(kernel, other):
    x = torch.zeros(64)
    assert x.data_ptr() % 16 == 0
    launch(kernel, 1, x, 0.5, 7, KIND="one", BLOCK=4)
    arguments, constants = other(x)
    launch(kernel, 1, *arguments, **constants)
    launch(kernel, 1, *arguments, **constants)
    assert kernel.compiled == 2
    launch(kernel, 1, x[4:], 0.5, 7, KIND="one", BLOCK=4)  # aligned as the first
    assert kernel.compiled == 2


def test_a_kernel_that_knows_its_numbers_is_refused(kernel):
    with pytest.raises(TypeError, match="stand_in: count is specialised"):
        launch(Compiler(specialised=("count",)), 1, torch.zeros(4), 0.5, 7, KIND="one", BLOCK=4)


def test_the_interpreter_gets_everything_as_it_is(kernel, monkeypatch):
    monkeypatch.setattr(module, "interpreting", lambda: True)
    x = torch.zeros(4)
    for _ in range(2):
        launch(kernel, 2, x, 0.5, 7, KIND="one", BLOCK=4)
    assert kernel.compiled == 2
    assert kernel.runs[-1] == ((2,), (x, 0.5, 7), (("KIND", "one"), ("BLOCK", 4)))
