"""The last step of a training: its parts in one file, as `DiffFAE.from_pretrained` and ComfyUI's loader read it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.checkpoint import asset_path, load_checkpoint, save_checkpoint
from ...common.errors import ConfigError
from ...diffusion.autoencoder import Autoencoder, FirstStage
from ...diffusion.first_stages import CHECKPOINT_KIND, describe
from ...edit.loading import file_fingerprint
from ...edit.model import DEFAULT_HEAD, DEFAULT_IDENTITY, FINGERPRINTED, EditModel
from ...estimation.deca import Deca
from ...head.morphable import BUNDLED as HEAD
from ...head.morphable import HeadModel
from ...source.arcface import DIMENSIONS
from ...source.identity import IdentityNetwork
from ...source.identity_networks import ARCFACE, INSIGHTFACE, NETWORKS, load_identity
from ...source.identity_networks import BUNDLED as IDENTITY
from ...source.slots import SlotEncoder
from ...vocabulary import REGIONS
from ..prepare.networks import agreed
from ..prepare.shards import Shards
from .parts import read_denoiser, read_first_stage, read_slots, read_training
from .slots import measure_order

log = logging.getLogger(__name__)
HEADS = (DEFAULT_HEAD, "flame", "gnm")  # as the converters call them
LEAST_OVERLAP = 0.5  # share of a region in its slots, below which they are hardly its own
MOST_CHANGE = 0.05  # of the latents, in units of their deviation, by which an encoder counts as the same
PRECISIONS: dict[str, dict[str, bool]] = {  # options of save_checkpoint
    "8-bit": {"eight_bit": True, "half": True},
    "half": {"half": True},
    "full": {},
}


@dataclass(frozen=True)
class FirstStageParts:
    """Where a first stage comes from."""

    path: Path
    decoder: Path | None = None  # a later file with the same encoder, whose decoder replaces the first one's
    latent_scale: float | None = None  # one over the standard deviation of the latents; None is the file's
    raw: bool = False  # not the averaged weights
    sharpen: float | None = None  # of AutoencoderConfig; None is the file's

    def read(self) -> FirstStage:
        """Raises CheckpointError, ConfigError."""
        stage = read_first_stage(self.path, self.raw)
        if self.decoder is not None:
            _take_decoder(stage, read_first_stage(self.decoder, self.raw and self.decoder.suffix != ".safetensors"), self.decoder)
        if self.latent_scale is not None:
            if self.latent_scale <= 0:
                raise ConfigError(f"latent scale {self.latent_scale:g}: must be positive; it is one over the latents' standard deviation")
            changed: Any = stage.config  # every kind has this field
            stage.config = replace(changed, latent_scale=self.latent_scale)
        if self.sharpen is not None:
            if not isinstance(stage, Autoencoder) or self.sharpen < 0:
                raise ConfigError(
                    f"sharpen {self.sharpen:g}: must be 0 or more, for a first stage of kind open; leave it out for {stage.kind}"
                )
            stage.config = replace(stage.config, sharpen=self.sharpen)
        return stage

    def files(self) -> list[Path]:
        return [self.path] + ([] if self.decoder is None else [self.decoder])


@torch.no_grad()
def _take_decoder(stage: FirstStage, later: FirstStage, path: Path) -> None:
    """Everything of `later` but its encoding parts, in place. Raises ConfigError if it decodes other latents than `stage` makes."""
    old: dict[str, Tensor] = stage.state_dict(keep_vars=True)
    new = later.state_dict()
    if type(stage) is not type(later) or {name: t.shape for name, t in old.items()} != {name: t.shape for name, t in new.items()}:
        raise ConfigError(f"{path}: another kind or size of first stage than the one whose decoder it should replace")
    # by what they do: the later one may have started from a file of lower precision
    side = 8 * stage.factor
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ours, theirs = stage.encode(picture), later.encode(picture)
    if (ours / ours.std() - theirs / theirs.std()).square().mean().sqrt().item() > MOST_CHANGE:
        raise ConfigError(
            f"{path}: its encoder is not that of the first stage, so its decoder reads other latents; give a checkpoint that was trained "
            "with freeze_encoder=true, and the same weights (raw or averaged) of both"
        )
    encoding = {id(tensor) for part in stage.encoding_parts() for tensor in part.state_dict(keep_vars=True).values()}
    stage.load_state_dict({name: tensor if id(tensor) in encoding else new[name] for name, tensor in old.items()})


@dataclass(frozen=True)
class ModelParts:
    """Where the parts of a whole model come from; files are those that `parts` reads."""

    first_stage: FirstStageParts
    denoiser: Path
    slots: Path | None = None  # None: the encoder that was trained together with the denoiser, from its file
    name: str = "unnamed"
    head: str = DEFAULT_HEAD  # name, or file, of the head model that made the training's renders
    identity: str = DEFAULT_IDENTITY  # and of the identity network that made its tokens
    deca: Path | None = None  # file of DECA's networks, if they estimated the training's numbers
    finish: float | None = None  # of the schedule (ScheduleConfig); None leaves the training's
    order: Sequence[str] = ()  # region of every slot
    labels: Path | None = None  # or a folder of labelled shards to measure it on; with neither it is the checkpoint's
    raw: Collection[str] = ()  # "slots", "denoiser": whose weights are not to be the averaged ones

    def assemble(self) -> EditModel:
        """The model. Raises ConfigError and CheckpointError for files that do not go together."""
        u_net, encoder = read_denoiser(self.denoiser, "denoiser" in self.raw)
        if self.slots is not None:
            if encoder is not None:
                raise ConfigError(
                    f"{self.slots}: {self.denoiser} holds the encoder that it was trained with, and no other fits; leave the slots out"
                )
            encoder = read_slots(self.slots, "slots" in self.raw)
        elif encoder is None:
            raise ConfigError(f"{self.denoiser}: was trained with frozen slots, which it does not hold; give their checkpoint")
        if self.order or self.labels is not None:
            set_order(encoder, self.order, self.labels)
        elif isinstance(encoder, SlotEncoder) and not encoder.config.order:
            log.warning("which slot is which region is not known, so swaps will be refused; --labels FOLDER measures it, --order states it")
        own = u_net.config.schedule
        u_net.config = replace(u_net.config, schedule=replace(own, finish=own.finish if self.finish is None else self.finish))
        head, identity, fingerprints = self.networks()
        first_stage = self.first_stage.read()
        side = first_stage.factor * u_net.config.sample_size
        if isinstance(encoder, SlotEncoder) and encoder.config.image_size != side:
            raise ConfigError(
                f"{self.slots or self.denoiser}: its slots are for pictures of {encoder.config.image_size} pixels, but first stage and "
                f"denoiser are for {side}; combine parts of one size"
            )
        size = {IdentityNetwork.name: IdentityNetwork.dimensions, **dict.fromkeys(ARCFACE, DIMENSIONS)}.get(identity)
        if size is not None and u_net.config.adain != "none" and size != u_net.config.identity_size:
            raise ConfigError(
                f"identity '{identity}': makes tokens of {size} numbers, but this denoiser was trained with {u_net.config.identity_size}; "
                "name the network that made them"
            )
        return EditModel(first_stage, encoder, u_net, self.name, identity, head, fingerprints)

    def networks(self) -> tuple[str, str, dict[str, str]]:
        """Names of the head and of the identity network, and the fingerprints of the files whose contents are known. Raises ConfigError
        for what is neither a file nor a known name, CheckpointError for files that are not what they should be."""
        files: dict[str, str | Path] = {}
        head, identity = self.head, self.identity
        if head == DEFAULT_HEAD or Path(head).is_file():
            files["head"] = asset_path(HEAD) if head == DEFAULT_HEAD else head
            head = HeadModel.load(files["head"]).name
        elif head not in HEADS:
            raise ConfigError(f"--head {head}: neither a file nor a known head ({', '.join(HEADS)}); correct the path")
        if identity == DEFAULT_IDENTITY or Path(identity).is_file() or identity.startswith(INSIGHTFACE):
            files["identity"] = asset_path(IDENTITY) if identity == DEFAULT_IDENTITY else identity
            identity = load_identity(files["identity"]).name
        elif identity not in NETWORKS:
            raise ConfigError(f"--identity {identity}: neither a file nor a known network ({', '.join(NETWORKS)}); correct the path")
        if self.deca is not None:
            if head == DEFAULT_HEAD:
                raise ConfigError(f"--deca {self.deca}: estimates the numbers of FLAME, not of the head '{head}'; give --head too")
            files["estimator"] = self.deca
            Deca.load(self.deca)
        found = {part: file_fingerprint(file) for part, file in files.items()}
        known = self.agreed({part: value for part, value in found.items() if value is not None})
        for part in FINGERPRINTED:
            if part not in known and (part != "estimator" or head != DEFAULT_HEAD):
                log.warning("the %s file is not known, so any of its name will be taken; %s FILE", part, FINGERPRINTED[part])
        return head, identity, known

    def agreed(self, fingerprints: dict[str, str]) -> dict[str, str]:
        """Fingerprints, and those that the denoiser's training or whole model states. Raises ConfigError where they differ."""
        trained = self.denoiser.suffix != ".safetensors"
        config = read_training(self.denoiser)["config"] if trained else load_checkpoint(self.denoiser, parts=()).config
        return agreed(self.denoiser, config.get("fingerprints", {}), fingerprints, "trained")

    def files(self) -> dict[str, list[Path]]:
        """Part -> its files."""
        return {"first stage": self.first_stage.files(), "slots": [self.slots] if self.slots else [], "denoiser": [self.denoiser]}


def set_order(encoder: object, order: Sequence[str], labels: Path | None) -> None:
    """State, or measure, which slot is which region. Raises ConfigError."""
    if not isinstance(encoder, SlotEncoder):
        raise ConfigError("order of the slots: this model has another encoder of the source, which knows no regions; leave it out")
    if labels is not None:
        if order:
            raise ConfigError("order of the slots: give the regions, or labelled shards to measure them on, not both")
        found, overlap = measure_order(encoder, Shards(labels, ("images",)))
        shares = ", ".join(
            f"slot {index} {region} {100 * row.max():.0f} %" for index, (region, row) in enumerate(zip(found, overlap, strict=True))
        )
        log.info("order of the slots, with each one's largest share of a region: %s", shares)
        warn_of_weak(found, overlap)
        order = found
    if len(order) != encoder.config.slot_count:
        raise ConfigError(f"order of the slots: {len(order)} regions for {encoder.config.slot_count} slots; name one for each")
    encoder.config = replace(encoder.config, order=tuple(order))


def warn_of_weak(order: Sequence[str], overlap: Tensor) -> None:
    """Say which regions lie for the most part in slots of others: swaps of them take something else. overlap: (S,R) of `measure_order`."""
    for column, region in enumerate(REGIONS):
        share = sum(overlap[slot, column].item() for slot, name in enumerate(order) if name == region)
        if share < LEAST_OVERLAP:
            log.warning("order of the slots: only %.0f %% of %s lies in its own, so swaps of it take something else", 100 * share, region)


def licence_of(text: str, files: dict[str, list[Path]]) -> str:
    """The whole file's licence: the text, and what the finished files state that its parts come from (part -> files)."""
    ours = [(part, path) for part, paths in files.items() for path in paths if path.suffix == ".safetensors"]
    stated = [(part, load_checkpoint(path, parts=()).license) for part, path in ours]
    more = dict.fromkeys(f"{part}: {licence}" for part, licence in stated if licence and licence != text)
    return "; ".join([text, *more])


def save_first_stage(stage: FirstStage, path: Path, *, license: str, source: str, precision: str = "half") -> None:
    """A file as `convert kl-f8` writes it, which the other stages' `first_stage` takes."""
    config = describe(stage)
    save_checkpoint(path, stage.state_dict(), kind=CHECKPOINT_KIND, config=config, license=license, source=source, **PRECISIONS[precision])
