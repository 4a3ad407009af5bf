"""What a model card measures, block by block; every block is a list of records of plain numbers (card_rows makes rows of them).

Shape letters: S crop side, Z latent channels.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...carry.options import CarryOptions
from ...common.errors import ConfigError, NoFaceError
from ...common.images import read_image
from ...diffusion.sampling import sample
from ...edit.description import Portrait, Sampling
from ...edit.editor import DiffFAE
from ...head.attributes import FaceAttributes
from ...person.prepared import nothing_carried
from ...report.measures import laplacian_variance, psnr, ssim
from ...vocabulary import DENOISE, REPAIR, SAMPLERS, STEPS, TAKEABLE
from ..prepare.pairs import FIELDS, attributes_of
from ..prepare.portraits import read_manifest
from ..prepare.shards import Shards
from .edit_numbers import edit_numbers, whole_crop
from .groups import TONE, tone_band
from .rows import TAKES, Record

log = logging.getLogger(__name__)
Step = Callable[[], object]
# Of the light noise on the codes, standard deviations: head turn in degrees about each axis; expression coefficients (0..1);
# light coefficients as a share of the mean light
NOISE_TURN, NOISE_EXPRESSION, NOISE_LIGHT = 1.0, 0.02, 0.02
AGES = (("under 40", 40.0), ("40 to 59", 60.0), ("60 and over", math.inf))
# samplers and their evaluations that are compared where everything is painted anew: at the default denoise both pass the same tenth of the
# noise levels, and there is nothing to tell them apart
FEW_STEPS, MANY_STEPS = ("dpmpp_2m", 8), ("ddim", 50)


def _options(**changes: Any) -> Callable[[DiffFAE], dict[str, Any]]:
    return lambda model: {"carry_options": CarryOptions(**changes)}


# carry without one of its parts: attributes of the model meanwhile
LESS: dict[str, Callable[[DiffFAE], dict[str, Any]]] = {
    "no-matte": lambda model: {"matte": None},  # the slots alone say where the person is
    "unstretched": _options(stretch_expression=False),
    "open-lines": _options(line=0.0),
    "held-light": _options(light_gain=1.0, ratio_limit=4.0),
}


@contextmanager
def changed(model: DiffFAE, **attributes: Any) -> Iterator[None]:
    """Within it the model has other attributes."""
    before = {name: getattr(model, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def pair_names(folder: Path, files: Iterable[str], count: int, seed: int = 0, largest_yaw: float = 30.0) -> list[tuple[str, str]]:
    """Fixed pseudo-random (source, query) pairs of different persons.

    Args:
        folder: Of portraits, with a manifest.csv that has the columns file, person and yaw_deg.
        files: The portraits that may be drawn.
        count: How many pairs.
        seed: Decides which.
        largest_yaw: Degrees that queries are turned by at most.

    Raises:
        ConfigError: For a manifest without these, or too few portraits.
    """
    rows = read_manifest(folder, ("file", "person", "yaw_deg"))
    names = sorted(files)
    if len({rows[name]["person"] for name in names}) < 2:
        raise ConfigError(
            f"{folder}: has dev portraits of fewer than two persons; name more in the column 'split' of manifest.csv, or prepare it "
            "with a larger --dev-share"
        )
    queries = [name for name in names if abs(float(rows[name]["yaw_deg"])) <= largest_yaw]
    if not queries:
        raise ConfigError(f"{folder}: none of its dev portraits is turned by less than {largest_yaw:g} degrees; add one that is")
    rng = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        a, b = rng.choice(names), rng.choice(queries)
        if rows[a]["person"] != rows[b]["person"]:
            pairs.append((a, b))
    return pairs


@dataclass
class Subjects:
    """The model, the portraits that it is measured on, and how it samples. Portraits are analysed once and kept."""

    model: DiffFAE
    folder: Path  # of the portraits
    pairs: Sequence[tuple[str, str]]  # file names of sources and queries
    steps: int = STEPS
    sampler: str = SAMPLERS[0]
    seed: int = 0
    denoise: float | None = None  # of Sampling
    synthetic: Path | None = None  # folder of shards of rendered pairs
    synthetic_count: int = 60
    tick: Step = field(default=lambda: None)
    _portraits: dict[str, Portrait | None] = field(default_factory=dict)

    def portrait(self, name: str) -> Portrait | None:
        if name not in self._portraits:
            try:
                self._portraits[name] = self.model.analyse(read_image(self.folder / name)[0], 0, name)
            except NoFaceError as error:
                log.warning("%s", error)
                self._portraits[name] = None
        return self._portraits[name]

    def names(self) -> list[str]:
        """The pairs' pictures in order of first appearance."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair))

    def usable(self) -> Iterator[tuple[Portrait, Portrait]]:
        for source_name, query_name in self.pairs:
            source, query = self.portrait(source_name), self.portrait(query_name)
            if source is not None and query is not None:
                yield source, query
            self.tick()

    def with_sampler(self, sampler: str, steps: int, pairs: int, denoise: float | None = None) -> Subjects:
        """The same portraits, fewer pairs."""
        return replace(
            self, sampler=sampler, steps=steps, denoise=denoise, pairs=self.pairs[:pairs], synthetic_count=min(pairs, self.synthetic_count)
        )

    def edit(
        self, source: Portrait, query: Portrait, take: Sequence[str] = TAKEABLE, mode: str = "edit", framing: str = "source"
    ) -> Tensor:
        """The edited crop (1,3,S,S). mode: "edit", "painted" (with diffusion), "no-carry", or one of LESS."""
        if mode == "no-carry":
            return without_carry(self, source, query, take, framing)
        sampling = Sampling({"edit": self.denoise, "painted": REPAIR}.get(mode, DENOISE), self.steps, self.sampler, self.seed)
        with changed(self.model, **(LESS[mode](self.model) if mode in LESS else {})):
            return self.model.edit(source, query, take=take, framing=framing, sampling=sampling).crop


@torch.no_grad()
def without_carry(subjects: Subjects, source: Portrait, query: Portrait, take: Sequence[str], framing: str = "source") -> Tensor:
    """An edit (1,3,S,S) for which nothing is carried: the carried input is what the denoiser's training puts for a dropped one."""
    model = subjects.model
    pose, expression, light = (query if name in take else None for name in TAKES)
    wanted = model.target(source, pose=pose, expression=expression, light=light, framing=framing)
    nothing = nothing_carried(source.picture)
    identity = model.identity.embed(source.picture, source.landmarks[..., :2])
    shown = model.render(wanted, source.picture.shape[-1]).image
    conditions = model.model.conditions(model.model.encoder(source.picture)[0], identity, shown, nothing.image, nothing.validity)
    latents = sample(model.model.denoiser, conditions.without_carry(), subjects.steps, subjects.sampler, subjects.seed)
    return model.model.autoencoder.decode(latents).clamp(0, 1)


@torch.no_grad()
def first_stage(subjects: Subjects, batch: int = 4) -> list[Record]:
    """The crops of all pictures through encoder and decoder."""
    records: list[Record] = []
    portraits = [portrait for name in subjects.names() if (portrait := subjects.portrait(name)) is not None]
    for start in range(0, len(portraits), batch):
        part = portraits[start : start + batch]
        pictures = torch.cat([portrait.picture for portrait in part])
        stage = subjects.model.model.autoencoder
        again = stage.decode(stage.encode(pictures)).clamp(0, 1)
        sharp = laplacian_variance(again) / laplacian_variance(pictures).clamp_min(1e-9)
        for portrait, *values in zip(part, psnr(again, pictures), ssim(again, pictures), sharp, strict=True):
            records.append({"source": portrait.name} | dict(zip(("psnr", "ssim", "sharpness"), map(float, values), strict=True)))
            subjects.tick()
    return records


def noisy(attributes: FaceAttributes, seed: int) -> FaceAttributes:
    """The same face with light noise on pose, expression and light (NOISE_...), by a seed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    pose = attributes.pose.clone()
    pose[:, 1] += normal(pose[:, 1]) * torch.tensor(NOISE_TURN).deg2rad()
    expression = (attributes.expression + NOISE_EXPRESSION * normal(attributes.expression)).clamp(0, 1)
    light = attributes.light + NOISE_LIGHT * attributes.light[:, :1].abs().mean() * normal(attributes.light)
    return replace(attributes, pose=pose, expression=expression, light=light)


@torch.no_grad()
def self_edits(subjects: Subjects, mode: str = "edit") -> list[Record]:
    """Source = query with light noise on the codes, so that the whole chain runs and should give the source back."""
    records: list[Record] = []
    for index, name in enumerate(dict.fromkeys(source for source, _ in subjects.pairs)):
        source = subjects.portrait(name)
        if source is not None:
            query = replace(source, attributes=noisy(source.attributes, index))
            crop = subjects.edit(source, query, mode=mode)
            numbers = edit_numbers(subjects.model, source, query, crop)
            record: Record = {"source": name, "lost": numbers is None, "psnr": psnr(crop, source.picture, source.inside_picture).item()}
            records.append(record | ({} if numbers is None else {"identity": numbers.identity, "sharpness": numbers.sharpness}))
        subjects.tick()
    return records


def _record(subjects: Subjects, source: Portrait, query: Portrait, take: Sequence[str], mode: str) -> Record:
    numbers = edit_numbers(subjects.model, source, query, subjects.edit(source, query, take, mode))
    record: Record = {"source": source.name, "query": query.name, "lost": numbers is None}
    return record if numbers is None else record | asdict(numbers)


def cross_edits(subjects: Subjects, mode: str = "edit", take: Sequence[str] = TAKEABLE) -> list[Record]:
    """Everything, or what is named, is taken from another person."""
    return [_record(subjects, source, query, take, mode) for source, query in subjects.usable()]


def single_takes(subjects: Subjects) -> list[Record]:
    """Pose, expression or light alone: three records per pair."""
    pairs = subjects.usable()
    return [{"take": take} | _record(subjects, source, query, (take,), "edit") for source, query in pairs for take in TAKES]


@torch.no_grad()
def synthetic_pairs(subjects: Subjects, mode: str = "edit") -> list[Record]:
    """Rendered pairs of one person with one background: the first is edited to the second, which is the true answer. Once with codes
    that the model's estimator sees in the two pictures, once (known_...) with the exact ones. The truth has its own camera, so the edit
    takes the query's."""
    if subjects.synthetic is None:
        return []
    model, shards = subjects.model, Shards(subjects.synthetic, ("images", *FIELDS))
    records: list[Record] = []
    for index in range(min(subjects.synthetic_count, len(shards))):
        sample_ = shards.sample(index)
        pair = sample_["images"].float() / 255
        exact = attributes_of(sample_, model.head)
        first, second = (whole_crop(model, picture, f"synthetic {index}") for picture in pair)
        if first is not None and second is not None:
            record: Record = {"source": f"synthetic {index}", "looks": looks(sample_)}
            truth = pair[1:].to(model.device)
            known = (replace(p, attributes=exact[side].to(model.device)) for side, p in enumerate((first, second)))
            for prefix, (source, query) in {"": (first, second), "known_": known}.items():
                crop = subjects.edit(source, query, TAKEABLE, mode, framing="query")
                record |= {f"{prefix}psnr": psnr(crop, truth).item(), f"{prefix}ssim": ssim(crop, truth).item()}
            own = pair[:1].to(model.device)
            records.append(record | {"source_psnr": psnr(own, truth).item(), "source_ssim": ssim(own, truth).item()})
        subjects.tick()
    return records


def looks(labels: dict[str, Tensor]) -> dict[str, str]:
    """Groups of a rendered person, exact, from the labels of its shard, as far as it has them."""
    found: dict[str, str] = {}
    if "tone" in labels:
        found[TONE] = tone_band(float(labels["tone"]))
    if "male" in labels:
        found["rendered as"] = "man" if labels["male"] > 0.5 else "woman"
    if "age" in labels:
        found["age"] = next(name for name, limit in AGES if float(labels["age"]) < limit)
    for name in ("glasses", "hat"):
        if name in labels:
            found[name] = "yes" if labels[name] > 0.5 else "no"
    return found


def sampled(subjects: Subjects) -> dict[str, list[Record]]:
    """All blocks that depend on the sampler."""
    return {
        "self": self_edits(subjects),
        "edit": cross_edits(subjects),
        "drift": single_takes(subjects),
        "synthetic": synthetic_pairs(subjects),
    }


def ablation(subjects: Subjects, mode: str) -> dict[str, list[Record]]:
    """What carry is worth: edits without it, with it alone, or with a part of it. Raises ConfigError for a model that carries nothing."""
    if not subjects.model.model.denoiser.config.carry:
        raise ConfigError(f"model '{subjects.model.model.name}' carries no photograph, so there is nothing to take away")
    return {"self": self_edits(subjects, mode), "edit": cross_edits(subjects, mode), "synthetic": synthetic_pairs(subjects, mode)}
