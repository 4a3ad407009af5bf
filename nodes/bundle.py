"""DIFFFAE: the small networks of one profile, each in its own patcher, so that ComfyUI loads and offloads them.

Denoiser and first stage are not here: they are a MODEL and a VAE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.utils
import torch
from torch import nn

from ..difffae.carry.options import CarryOptions
from ..difffae.common.batches import slices
from ..difffae.common.errors import ConfigError
from ..difffae.edit.recipe import file_sha256
from ..difffae.estimation.choose import Estimator
from ..difffae.faces.landmarker import FaceLandmarker
from ..difffae.head.morphable import HeadModel
from ..difffae.source.hair_matte import HairMatte
from ..difffae.source.identity import IdentityEncoder
from ..difffae.source.matte import PersonMatte
from ..difffae.source.occluder_matte import OccluderMatte
from ..difffae.source.slots import SlotEncoder
from .memory import hand_back_after


class Part(nn.Module):
    """A network under ComfyUI's model management, which writes attributes of its own on what it holds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def patcher(network: nn.Module) -> Any:
    """A ModelPatcher for any module."""
    return comfy.model_patcher.CoreModelPatcher(
        Part(network.eval().requires_grad_(False)), load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )


def patchers(*groups: dict[str, nn.Module]) -> dict[str, Any]:
    """A ModelPatcher per group of named networks, under each of the names. Networks that share modules belong in one group: of two
    patchers with the same module, one would move it away under the other."""
    return {name: part for group in groups for part in [patcher(nn.ModuleDict(group))] for name in group}


def loaded(part: Any, memory: float = 0) -> Any:
    """The module of a patcher, on the compute device; memory: bytes that its work will need."""
    mm.load_models_gpu([part], memory_required=memory)
    return part.model.network


@dataclass(frozen=True, eq=False)
class Bundle:
    """What the loader found: difffae's Parts of an edit. Each property gives a network that is ready on the compute device. A model with another source encoder
    has no slots.

    licenses: per file; image_size: side of the square crops in pixels; parts: the patcher of every network, by name (`patchers`);
    carries: whether the model is shown the photograph, moved and relit.
    """

    name: str
    path: Path
    licenses: dict[str, str]
    image_size: int
    parts: dict[str, Any]
    carries: bool = True

    def __post_init__(self) -> None:
        hand_back_after(self)

    @property
    def landmarker(self) -> FaceLandmarker:
        return self._part("landmarker")

    @property
    def identity(self) -> IdentityEncoder:
        return self._part("identity")

    @property
    def identity_name(self) -> str:
        return self.parts["identity"].model.network["identity"].name

    @property
    def slots(self) -> SlotEncoder:
        """Raises ConfigError for a model that was trained without."""
        if "slots" not in self.parts:
            raise ConfigError(
                f"difffae: {self.name} was trained with another encoder of the source in the slots' place, which knows no regions; "
                "load a checkpoint with slots, or use this one from the command line"
            )
        return self._part("slots")

    @property
    def encoder(self) -> SlotEncoder:
        return self.slots

    @property
    def device(self) -> torch.device:
        return mm.get_torch_device()

    @property
    def carry_options(self) -> CarryOptions | None:
        return CarryOptions() if self.carries else None

    def chunks(self, count: int, size: int) -> Iterator[slice]:
        """Slices of at most `size` frames, with a progress bar, each of which can be interrupted."""
        return each_chunk(count, size)

    @property
    def matte(self) -> PersonMatte:
        return self._part("matte")

    @property
    def hair(self) -> HairMatte:
        return self._part("hair")

    @property
    def occluders(self) -> OccluderMatte:
        return self._part("occluders")

    @property
    def estimator(self) -> Estimator:
        return self._part("estimator")

    @property
    def network(self) -> Estimator:
        """The fast estimator. Raises ConfigError for a model with a head of its own, which DECA estimates."""
        if "network" not in self.parts:
            raise ConfigError(f"difffae: {self.name} has a head model of its own, which the estimator network does not know; choose fit")
        return self._part("network")

    @property
    def head(self) -> HeadModel:
        return self.estimator.head

    def _part(self, name: str) -> Any:
        return loaded(self.parts[name])[name]

    @cached_property
    def sha256(self) -> str:
        """Of the checkpoint's file."""
        return file_sha256(self.path)


def each_chunk(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` frames, with a progress bar, each of which can be interrupted."""
    bar = comfy.utils.ProgressBar(count)
    for part in slices(count, size):
        mm.throw_exception_if_processing_interrupted()
        yield part
        bar.update_absolute(part.stop, count)
