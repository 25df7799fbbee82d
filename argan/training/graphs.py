"""CUDA graphs: the hundreds of launches of a training step are recorded once, and replayed as one.

At 64 px the GPU is done with a kernel before the host has launched the next one: a step takes as long as Python does.
What is recorded must do the same work on the same addresses every time, so a step is told apart by what it does and by
its inputs' sizes (its kind), and its inputs are copied to where the recording reads them.
"""

import copy
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from argan.errors import ArganError

Input = Any  # a tensor, None, or a tuple of inputs
Results = dict[str, Tensor]


class Graphs:
    """Runs functions of tensors: each kind once as it is, then recorded, then replayed.

    What a function changes (weights, an optimiser's moments) it must change in place and outside of the recording's
    memory, which all kinds share: nothing but the results outlives a replay, and they are copied.
    """

    def __init__(self) -> None:
        self.known: set[Hashable] = set()
        self.recordings: dict[Hashable, Recording] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, kind: Hashable, function: Callable[..., Results], *inputs: Input) -> Results:
        """`function(*inputs)`, which must depend on nothing else that changes but what it changes itself.

        Raises ArganError if it cannot be recorded: it waits for the device, or copies to it.
        """
        kind = kind, *(tensor.shape for tensor in tensors(inputs))
        if kind not in self.known:  # kernels are compiled and workspaces made on the way
            self.known.add(kind)
            return function(*inputs)
        if kind not in self.recordings:
            self.recordings[kind] = Recording(function, inputs, self.pool)
        return self.recordings[kind].replay(inputs)


class Recording:
    """One kind of step."""

    def __init__(self, function: Callable[..., Results], inputs: tuple[Input, ...], pool: Any):
        self.inputs = copy.deepcopy(inputs)
        self.graph = torch.cuda.CUDAGraph()
        try:
            # The thread that loads photographs may go on meanwhile.
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
                self.results = function(*self.inputs)
        except RuntimeError as error:
            hint = "--set cuda_graphs=false runs steps as they are"
            raise ArganError(f"the step cannot be recorded as a CUDA graph: {error}", hint=hint) from error

    def replay(self, inputs: tuple[Input, ...]) -> Results:
        for place, value in zip(tensors(self.inputs), tensors(inputs), strict=True):
            place.copy_(value)
        self.graph.replay()
        return {name: value.clone() for name, value in self.results.items()}


def tensors(inputs: Input) -> Iterator[Tensor]:
    """All tensors of nested tuples, in order."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif inputs is not None:
        for part in inputs:
            yield from tensors(part)
