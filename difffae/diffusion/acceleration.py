"""Faster ways of calling the same networks: compiled by torch.compile, recorded as a CUDA graph, or both.

At batch 1 the U-Net's kernels are short and launching them from Python takes longer than running them; a graph launches all of them at
once. Shapes are fixed per recording, so every batch size has its own. Shape letters: as in `conditions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..common.errors import ConfigError
from .conditions import Conditions
from .denoiser import Denoiser, DenoiserConfig

MODES = ("eager", "compiled", "graphed", "compiled-graphed")
WARM_UP = 3  # calls before a recording: kernels are chosen and memory is set aside in them

Function = Callable[..., Tensor]
Replay = Callable[[], Tensor]
Recorder = Callable[[Function, Sequence[Tensor]], Replay]


def record_cuda(function: Function, inputs: Sequence[Tensor]) -> Replay:
    """A CUDA graph of function(*inputs): each call of the result computes it anew from whatever the inputs hold by then."""
    stream = torch.cuda.Stream(inputs[0].device)
    stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
    with torch.cuda.stream(stream):  # not on the default stream, which a recording may not depend on
        for _ in range(WARM_UP):
            function(*inputs)
    torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(*inputs)

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class Recorded:
    """A function of tensors, recorded once for every set of shapes. Its weights must stay where they are."""

    def __init__(self, function: Function, recorder: Recorder = record_cuda) -> None:
        self._function = function
        self._recorder = recorder
        self._recordings: dict[tuple, tuple[list[Tensor], Replay]] = {}

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in inputs)
        if key not in self._recordings:
            held = [tensor.clone() for tensor in inputs]
            self._recordings[key] = held, self._recorder(self._function, held)
        held, replay = self._recordings[key]
        for own, given in zip(held, inputs, strict=True):
            own.copy_(given)
        return replay().clone()  # the next replay overwrites it, and samplers keep earlier predictions


def accelerate(function: Function, mode: str, device: torch.device | str, backend: str = "inductor") -> Function:
    """The same function of tensors in another mode.

    Args:
        function: of tensors, to a tensor.
        mode: one of MODES.
        device: where it runs.
        backend: of torch.compile.

    Raises:
        ConfigError: an unknown mode, or a graph without CUDA.
    """
    if mode not in MODES:
        raise ConfigError(f"mode '{mode}' is unknown; choose from {', '.join(MODES)}")
    if mode.endswith("graphed") and torch.device(device).type != "cuda":
        raise ConfigError(f"mode '{mode}' records CUDA graphs, but the device is '{device}'; use --device cuda, or eager or compiled")
    if mode.startswith("compiled"):
        function = torch.compile(function, backend=backend, dynamic=False)
    return Recorded(function) if mode.endswith("graphed") else function


class FastDenoiser:
    """A Denoiser's forward in another mode, for `sampling.sample`: called as (noisy, steps (B,), conditions). Gives no attention maps."""

    def __init__(self, denoiser: Denoiser, mode: str, device: torch.device | str, backend: str = "inductor") -> None:
        self.config: DenoiserConfig = denoiser.config

        def predict(noisy: Tensor, steps: Tensor, *conditions: Tensor) -> Tensor:
            return denoiser(noisy, steps, Conditions(*conditions))

        self._predict = accelerate(predict, mode, device, backend)

    def __call__(self, noisy: Tensor, steps: Tensor, conditions: Conditions) -> Tensor:
        given = (conditions.tokens, conditions.identity, conditions.render, conditions.carried, conditions.validity)
        return self._predict(noisy, steps, *(tensor for tensor in given if tensor is not None))
