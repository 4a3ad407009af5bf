"""Train the estimator network (`encoder_fit`) on codes: the fit's for real portraits, exact ones for synthetic portraits.

Shape letters: B batch, N landmarks (478), Q side of the stored pictures, P visible normals, T texels, A albedo coefficients.
Axes: x right in the image, y up, z to the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...common.checkpoint import save_checkpoint
from ...common.errors import CheckpointError, ConfigError
from ...common.rotations import axis_angle_to_matrix
from ...estimation.choose import SIDE
from ...estimation.fit import inter_ocular
from ...estimation.network import KIND, Codes, Encoder, EncoderConfig
from ...head.adjust import visible_normals
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.shading import sh_basis
from ..prepare.networks import Networks, agreed
from ..prepare.pairs import FIELDS, attributes_of
from ..prepare.shards import read_shard, stated_fingerprints
from .code_augmentation import DRAWS, Sample, augment
from .common import load_state
from .loop import LoopOptions, Parts, Stage, run_loop


@dataclass(frozen=True)
class EstimatorTraining(LoopOptions):
    """Options of `train estimator`."""

    real: str = "data/codes_train.safetensors"  # files of `prepare codes`
    synthetic: str = ""
    dev_real: str = ""  # errors on these are logged at every checkpoint
    dev_synthetic: str = ""
    folder: str = "runs/estimator"
    batch: int = 24
    learning_rate: float = 1e-3
    synthetic_share: float = 0.35  # of a batch
    worst_real: float = 0.04  # codes with a larger landmark error are not learnt from, in units of the inter-ocular distance
    worst_synthetic: float = 0.15
    landmark_weight: float = 12.0  # per inter-ocular distance
    turn_weight: float = 4.0  # per radian
    scale_weight: float = 3.0  # of the camera, logarithm
    shape_weight: float = 0.5  # per unit of a coefficient
    expression_weight: float = 4.0
    albedo_weight: float = 4.0  # root mean square over the face, sRGB 0..1
    shading_weight: float = 3.0  # root mean square over the normals that a front view shows
    product_weight: float = 3.0  # albedo times shading: what the picture tells, however it is split


class CodesFile:
    """A file of `prepare codes` in memory, without the samples whose landmark error exceeds `worst`."""

    def __init__(self, path: str, worst: float) -> None:
        if not Path(path).is_file():
            raise ConfigError(f"{path}: no such file; make it with `prepare codes`")
        agreed(path, stated_fingerprints(path), Networks().fingerprints("head"))
        tensors = read_shard(path, ("pictures", "known", "skin", "normals", "uv", "error", *FIELDS), "`prepare codes`")
        keep = tensors["error"] <= worst
        if not bool(keep.any()):
            raise ConfigError(f"{path}: no sample has a landmark error below {worst}; raise the limit or prepare it again")
        self.tensors = {name: tensor[keep] for name, tensor in tensors.items()}

    def __len__(self) -> int:
        return len(self.tensors["error"])


class CodeLoss(nn.Module):
    """Distances of two sets of codes in units that mean something. Holds constants of the head model."""

    normals: Tensor
    texels: Tensor
    mean: Tensor

    def __init__(self, head: HeadModel) -> None:
        super().__init__()
        self.register_buffer("normals", sh_basis(visible_normals(torch.zeros(1), 6, 16)))  # (P,9)
        side = head.albedo_basis.shape[-1]
        strong = head.albedo_basis[0].abs().mean(0).flatten()
        chosen = (strong > 0.5 * strong.max()).nonzero()[:, 0][::7]  # the first component is the tone: where it acts is skin
        self.register_buffer("texels", head.albedo_basis.flatten(2)[:, :, chosen].flatten(1))  # (A,3T)
        mean = F.interpolate(head.albedo_mean[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
        self.register_buffer("mean", mean.flatten(1)[:, chosen].flatten())  # (3T,)

    def skin(self, albedo: Tensor) -> Tensor:
        """Albedo codes (B,A) -> mean colour of the face (B,3)."""
        return (self.mean + albedo @ self.texels).unflatten(1, (3, -1)).mean(-1)

    def shading(self, light: Tensor) -> Tensor:
        """Light (B,9,3) -> shading of the normals that a front view shows (B,P,3)."""
        return self.normals @ light

    def forward(self, encoder: Encoder, said: Codes, truth: Codes) -> dict[str, Tensor]:
        """Mean distances by name: landmarks (inter-ocular), depth (the same), turn (radians), scale (logarithm), shape, expression
        (coefficients), albedo, shading, product (root mean square)."""
        here, there = encoder.projected(said), encoder.projected(truth)
        unit = inter_ocular(there)[:, None]
        shade, true_shade = self.shading(said.light), self.shading(truth.light)
        product = self.skin(said.albedo)[:, None] * shade - self.skin(truth.albedo)[:, None] * true_shade
        return {
            "landmarks": (_length(here[..., :2] - there[..., :2]) / unit).mean(),
            "depth": ((here[..., 2] - there[..., 2]).abs() / unit).mean(),
            "turn": _length((said.rotation - truth.rotation).flatten(1)).mean() / 2**0.5,
            "scale": (said.camera[:, 0].log() - truth.camera[:, 0].log()).abs().mean(),
            "shape": (said.shape - truth.shape).abs().mean(),
            "expression": (said.expression - truth.expression).abs().mean(),
            "albedo": _rms((said.albedo - truth.albedo) @ self.texels),
            "shading": _rms((shade - true_shade).flatten(1)),
            "product": _rms(product.flatten(1)),
        }


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + 1e-10).sqrt()


def _rms(x: Tensor) -> Tensor:
    return (x.square().mean(-1) + 1e-8).sqrt().mean()


def codes_of(face: FaceAttributes) -> Codes:
    """What the network says of a face: its attributes, with the head's turn as a matrix."""
    return Codes(axis_angle_to_matrix(face.pose[:, 1]), face.camera, face.shape, face.expression, face.albedo, face.light)


class EstimatorStage(Stage[Encoder]):
    """Data and loss of the estimator network."""

    def __init__(self, options: EstimatorTraining, head: HeadModel) -> None:
        self.options, self.head = options, head
        self.files = [CodesFile(options.real, options.worst_real)]
        if options.synthetic:
            self.files.append(CodesFile(options.synthetic, options.worst_synthetic))
        given = {"real": (options.dev_real, options.worst_real), "synthetic": (options.dev_synthetic, options.worst_synthetic)}
        self.dev = {name: CodesFile(path, worst) for name, (path, worst) in given.items() if path}
        self.code_loss = CodeLoss(head).to(options.device)
        # whose skin tones and lights are lent to other samples
        self.faces = FaceAttributes.cat([attributes_of(file.tensors, head) for file in self.files])

    def data(self) -> str:
        paths = (self.options.real, self.options.synthetic)
        return ", ".join(f"{path}: {len(file):,} faces" for path, file in zip(paths, self.files, strict=False))

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        """Items: a sample, the albedo and light of other people, and the random numbers and seeds of its augmentation."""
        size = self.options.batch
        share = self.options.synthetic_share if len(self.files) > 1 else 0.0
        which = (torch.rand(size, generator=generator) < share).long().tolist()
        place = torch.rand(size, generator=generator).tolist()
        lent = torch.randint(len(self.faces), (2, size), generator=generator)
        r = torch.rand(size, DRAWS, generator=generator)
        seeds = torch.randint(2**62, (size,), generator=generator)
        chosen = [(self.files[w].tensors, int(p * len(self.files[w]))) for w, p in zip(which, place, strict=True)]
        names = list(self.files[0].tensors)
        items = []
        for part in rows:
            tensors = {name: torch.stack([tensors[name][k] for tensors, k in chosen[part]]) for name in names}
            sample = Sample.of(tensors, self.head)
            others = self.faces[lent[0, part]].albedo, self.faces[lent[1, part]].light
            items.append((sample, others, r[part], seeds[part]))
        return items

    def loss(self, model: Encoder, item: Any) -> tuple[Tensor, Parts]:
        sample, (albedo, light), r, seeds = item
        o = self.options
        exact = torch.autocast(torch.device(o.device).type, enabled=False)
        with torch.no_grad(), exact:
            sample = augment(sample, self.head, albedo, light, r, seeds, model.config.size)
        seen = model.see(sample.pictures.to(o.device), sample.known.to(o.device))
        with exact:  # geometry in eight bits of precision would be none
            said = model.codes(seen.float(), sample.landmarks.to(o.device), sample.scores.to(o.device), SIDE)
            parts = self.code_loss(model, said, codes_of(sample.face.to(o.device)))
        total = o.landmark_weight * (parts["landmarks"] + 0.3 * parts["depth"])
        for name in ("turn", "scale", "shape", "expression", "albedo", "shading", "product"):
            total = total + getattr(o, f"{name}_weight") * parts[name]
        return total, {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def evaluate(self, average: Encoder) -> dict[str, float]:
        """The parts of the loss on the dev files, without augmentation."""
        numbers: dict[str, float] = {}
        device = self.options.device
        for name, file in self.dev.items():
            sums: dict[str, float] = {}
            for part in torch.arange(len(file)).split(32):
                sample = Sample.of({key: value[part] for key, value in file.tensors.items()}, self.head).resized(average.config.size)
                said = average(*(x.to(device) for x in (sample.pictures, sample.known, sample.landmarks, sample.scores)), SIDE)
                for key, value in self.code_loss(average, said, codes_of(sample.face.to(device))).items():
                    sums[key] = sums.get(key, 0.0) + float(value) * len(part)
            numbers |= {f"{name}_{key}": round(value / len(file), 5) for key, value in sums.items()}
        return numbers


def train_estimator(options: EstimatorTraining, config: EncoderConfig | None = None, stop_step: int | None = None) -> Encoder:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged network."""
    torch.manual_seed(options.seed)
    head = HeadModel.load().requires_grad_(False)
    state = load_state(options.checkpoint, "squeezed")
    if state:
        config = EncoderConfig(**state["config"])
    encoder = Encoder(config or EncoderConfig.of_head(head), head)
    stage = EstimatorStage(options, head)
    encoder.set_statistics(stage.faces)
    return run_loop(options, encoder, encoder.config.to_dict(), stage, stop_step)


def export_estimator(state_path: str | Path, path: str | Path, *, license: str, source: str, eight_bit: bool = True) -> None:
    """Write the averaged network of a training checkpoint as an estimator's file.

    Args:
        state_path: The training's `last.pt`.
        path: The file to write.
        license, source: What it says of itself.
        eight_bit: Weights in 8 bits; else in float16.

    Raises:
        CheckpointError: If there is no such training checkpoint.
    """
    state = load_state(Path(state_path), "squeezed")
    if state is None:
        raise CheckpointError(f"{state_path}: no such training checkpoint; train the estimator first")
    save_checkpoint(path, state["ema"], kind=KIND, config=state["config"], license=license, source=source, eight_bit=eight_bit, half=True)
