"""The parts of a model wherever they lie: in a training checkpoint (`last.pt`), in a file of their own, or in a whole model.

A training checkpoint has two sets of weights: the averaged ones, which are read unless `raw` asks for the others.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.checkpoint import load_checkpoint, load_weights
from ...common.errors import CheckpointError, ConfigError
from ...diffusion.autoencoder import FirstStage
from ...diffusion.denoiser import KIND as DENOISER_KIND
from ...diffusion.denoiser import Denoiser, DenoiserConfig
from ...diffusion.first_stages import CHECKPOINT_KIND, build_first_stage, load_first_stage
from ...edit.model import EditModel
from ...source.other_encoders import SourceEncoder, build_source_encoder
from ...source.slots import KIND as SLOTS_KIND
from ...source.slots import SlotEncoder, SlotsConfig

State = dict[str, Any]


def read_training(path: str | Path, mapped: bool = True) -> State:
    """A training checkpoint. Raises CheckpointError.

    Args:
        path: Its file.
        mapped: Tensors are mapped from the file and read when they are used; else they are read now, so that the file may be replaced.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; give a training checkpoint (last.pt) or a .safetensors file") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: neither a complete training checkpoint nor a .safetensors file; correct the path") from error
    if not isinstance(state, dict) or not {"config", "model", "ema"} <= state.keys():
        raise CheckpointError(f"{path}: not a training checkpoint of this project; give the last.pt of a stage")
    return state


def read_first_stage(path: str | Path, raw: bool = False) -> FirstStage:
    """The first stage of a checkpoint of `train autoencoder`, of a file of `convert kl-f8`, `vq-f8` or `assemble`, or of a whole model;
    frozen. Raises CheckpointError, ConfigError."""
    if _is_file(path, raw):
        return load_first_stage(path) if load_checkpoint(path, parts=()).kind == CHECKPOINT_KIND else EditModel.load(path).autoencoder
    state = read_training(path)
    try:
        stage = build_first_stage(state["config"], path)
    except TypeError as error:
        raise CheckpointError(f"{path}: holds no first stage; give the checkpoint of `train autoencoder`") from error
    load_weights(stage, _weights(state, "", raw), path)
    return stage.eval().requires_grad_(False)


def read_slots(path: str | Path, raw: bool = False) -> SlotEncoder:
    """The slots of a checkpoint of `train slots`, or of a denoiser's that was trained together with them, of a `slots` file, or of a whole
    model; frozen. Raises CheckpointError, ConfigError."""
    if _is_file(path, raw):
        whole = load_checkpoint(path, parts=()).kind != SLOTS_KIND
        return EditModel.load(path).slots if whole else SlotEncoder.load(path)
    state = read_training(path)
    encoder = _encoder(state, path, raw)
    if not isinstance(encoder, SlotEncoder):
        raise CheckpointError(f"{path}: holds no slots; give the checkpoint of `train slots`, or of `train denoiser` with joint=true")
    return encoder


def read_denoiser(path: str | Path, raw: bool = False) -> tuple[Denoiser, SlotEncoder | SourceEncoder | None]:
    """The denoiser of a checkpoint of `train denoiser`, of a `denoiser` file, or of a whole model, and the encoder of the source that it
    was trained together with, if the file holds one; frozen. Raises CheckpointError, ConfigError."""
    if _is_file(path, raw):
        if load_checkpoint(path, parts=()).kind == DENOISER_KIND:
            return Denoiser.load(path), None
        model = EditModel.load(path)
        return model.denoiser, model.encoder
    state = read_training(path)
    if "denoiser" not in state["config"]:
        raise CheckpointError(f"{path}: holds no denoiser; give the checkpoint of `train denoiser`")
    denoiser = Denoiser(_sizes(DenoiserConfig, state, "denoiser", path))
    load_weights(denoiser, _weights(state, "denoiser.", raw), path)
    return denoiser.eval().requires_grad_(False), _encoder(state, path, raw)


def _is_file(path: str | Path, raw: bool) -> bool:
    """Whether a part lies in a .safetensors file, which has one set of weights."""
    if Path(path).suffix != ".safetensors":
        return False
    if raw:
        raise ConfigError(f"{path}: a finished file has only one set of weights; ask for raw ones of training checkpoints alone")
    return True


def _encoder(state: State, path: str | Path, raw: bool) -> SlotEncoder | SourceEncoder | None:
    encoder: SlotEncoder | SourceEncoder
    if "source_encoder" in state["config"]:
        encoder = build_source_encoder(state["config"]["source_encoder"], path)
        load_weights(encoder, _weights(state, "source_encoder.", raw), path)
    elif "slots" in state["config"]:
        encoder = SlotEncoder(_sizes(SlotsConfig, state, "slots", path))
        load_weights(encoder, _weights(state, "slots.", raw), path)
    else:
        return None
    return encoder.eval().requires_grad_(False)


def _sizes(kind: Any, state: State, part: str, path: str | Path) -> Any:
    try:
        return kind(**state["config"][part])
    except TypeError as error:
        raise CheckpointError(f"{path}: its sizes of the {part} do not fit this version ({error}); train it again") from error


def _weights(state: State, prefix: str, raw: bool) -> dict[str, Tensor]:
    weights = state["model" if raw else "ema"]
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
