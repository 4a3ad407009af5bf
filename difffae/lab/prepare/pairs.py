"""Cache what the denoiser's training reads: fitted portraits, round-trip pairs, latents.

Shape letters: B batch, N landmarks (478), H and W picture sides, S crop side, Z latent channels.

Three steps, each resumable by its files: `fit_portraits` -> one file of crops and attributes; `write_round_trips` or
`write_synthetic` -> shards of pictures (target, render, carried, validity, source; uint8) with landmarks and target_landmarks
(B,N,2) in their pixels; `encode_shards` -> the shards of latents that `train denoiser` reads. The first two do not need the
first stage, so they can run while it trains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...carry.options import EXACT_LIGHT
from ...diffusion.autoencoder import FirstStage
from ...estimation.fit import LandmarkFit, inter_ocular
from ...faces.blendshapes import BLENDSHAPE_NAMES
from ...faces.crop import crop_square, extract
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.render import render
from ...head.shading import project
from ...person.prepared import carry
from ...source.identity import IdentityEncoder
from ...source.matte import PersonMatte
from ...source.regions import Layers, layers
from ...source.slots import SlotEncoder
from .augmentation import Still, augment
from .networks import agreed
from .portraits import files_of, read_landmarks, read_picture
from .roundtrip import random_targets, round_trip
from .shards import is_wanted, read_shard, shards_in, stated_fingerprints, write_rows

log = logging.getLogger(__name__)
FIELDS = ("shape", "albedo", "pose", "camera", "expression", "light")
WORST_FIT = 0.06  # landmark error of a portrait that can be used, in units of the inter-ocular distance
FITTED = ("pictures", "known", "landmarks", "blendshapes", "error", *FIELDS)
PICTURES = ("target", "render", "carried", "validity", "source")
Rows = dict[str, Tensor]  # some samples: (B, ...) by name


def to_bytes(image: Tensor) -> Tensor:
    """0..1 -> uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def attributes_of(tensors: Rows, head: HeadModel) -> FaceAttributes:
    """FaceAttributes from tensors of a shard."""
    numbers: dict[str, Any] = {name: tensors[name].float() for name in FIELDS}
    return FaceAttributes(head.name, **numbers)


def fit_portraits(
    folder: Path, output: Path, split: str, fit: LandmarkFit, worst: float = WORST_FIT, fingerprints: Mapping[str, str] | None = None
) -> None:
    """Crop and fit every portrait of a split.

    Writes pictures (M,3,S,S) uint8, known (M,1,S,S) uint8, landmarks (M,N,3) in crop pixels, blendshapes (M,52), error (M,),
    and the attributes.

    Args:
        folder: Of portraits, as `prepare_portraits` writes it.
        output: The file to write.
        split: "train" or "dev".
        fit: What finds the attributes.
        worst: Portraits with a larger landmark error are left out, in units of the inter-ocular distance.
        fingerprints: Of the head's file.

    Raises:
        ConfigError: For a folder without these tables, or if no portrait is left.
    """
    write_rows(output, _fitted(folder, split, fit, worst), fingerprints)


def _fitted(folder: Path, split: str, fit: LandmarkFit, worst: float) -> Iterator[Rows]:
    table, chosen = read_landmarks(folder), frozenset(files_of(folder, split))
    order = [list(table["blendshape_names"]).index(name) for name in BLENDSHAPE_NAMES]
    for index, name in enumerate(tqdm(table["files"], desc=f"fitting {split}")):
        if str(name) not in chosen:
            continue
        points, scores = (torch.from_numpy(table[key][index].astype(np.float32)) for key in ("landmarks", "blendshapes"))
        row = fitted_row(read_picture(folder / str(name)), points, scores[order], fit)
        if row["error"].item() > worst:
            log.info("%s left out: landmark error %.1f %%", name, 100 * row["error"].item())
            continue
        yield row


def fitted_row(picture: Tensor, points: Tensor, scores: Tensor, fit: LandmarkFit) -> Rows:
    """One row of the file that `fit_portraits` writes.

    Args:
        picture: (3,H,W) uint8.
        points: Its landmarks (N,3), in its pixels.
        scores: Blendshapes (52,), in the order of BLENDSHAPE_NAMES.
        fit: What finds the attributes.
    """
    crop = crop_square(points, picture.shape[-2:])
    square, known = extract(picture[None].float() / 255, crop)
    inside = crop.to_crop(points)[None]
    face = fit(square, inside, scores[None], known)
    row = {"pictures": to_bytes(square), "known": to_bytes(known), "landmarks": inside, "blendshapes": scores[None]}
    row["error"] = landmark_error(fit, face, inside, square.shape[-1])
    return row | {field: getattr(face, field) for field in FIELDS}


def landmark_error(fit: LandmarkFit, face: FaceAttributes, landmarks: Tensor, size: int) -> Tensor:
    """Mean distance of fitted and given landmarks (B,N,>=2) in crop pixels, in units of the inter-ocular distance: (B,)."""
    return (fit.landmarks(face, size) - landmarks[..., :2]).norm(dim=-1).mean(-1) / inter_ocular(landmarks)


def layer_finder(slots: SlotEncoder | None) -> Callable[[Tensor], Layers | None]:
    """What tells of pictures (B,3,S,S) in 0..1 what they show where, as an edit does: it keeps light off the background and the
    background in its place. Without slots, or where it is not known which slot is which, it knows nothing."""
    if slots is None or not slots.config.order:
        return lambda pictures: None
    matte = PersonMatte.load().to(next(slots.parameters()).device)
    return lambda pictures: layers(slots(pictures)[1], slots.config.order, pictures, matte(pictures))


def write_round_trips(
    fitted: Path,
    output: Path,
    head: HeadModel,
    shards: int,
    slots: SlotEncoder | None = None,
    size: int = 100,
    seed: int = 0,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Write shards of round trips of random portraits, each mirrored, framed and coloured at random; existing ones are kept.

    Args:
        fitted: File of `fit_portraits`.
        output: Folder of the shards.
        head: Of the attributes.
        shards: How many there are to be.
        slots: For `layer_finder`.
        size: Samples of a shard.
        seed: Shard i depends on it and on i alone.
        fingerprints: Of the head's file.

    Raises:
        ConfigError: For a fitted file, or shards that are there, of another head file.
    """
    known = agreed(fitted, stated_fingerprints(fitted), fingerprints or {})
    data, find_layers = read_shard(fitted, FITTED, "`prepare fit` or `prepare portraits`"), layer_finder(slots)
    output.mkdir(parents=True, exist_ok=True)
    for index in range(shards):
        path = output / f"roundtrip_{index:04d}.safetensors"
        if is_wanted(path, known):
            rows = round_trips(data, head, find_layers, size, seed * 100_003 + index)
            write_rows(path, tqdm(rows, path.name, -(-size // 4), leave=False), known)


@torch.no_grad()
def round_trips(
    data: Rows, head: HeadModel, find_layers: Callable[[Tensor], Layers | None], size: int, seed: int, batch: int = 4
) -> Iterator[Rows]:
    """Round trips of random portraits, each mirrored, framed and coloured at random: some rows of `write_round_trips` at a time.

    Args:
        data: What `fit_portraits` wrote.
        head: Of the attributes; the work is done where it is.
        find_layers: As `layer_finder` makes it.
        size: How many.
        seed: What is drawn depends on it, and on `batch`.
        batch: How many at a time.
    """
    generator, device = torch.Generator().manual_seed(seed), head.template.device
    pool = attributes_of(data, head)
    chosen = torch.randint(len(pool), (size,), generator=generator)
    for part in chosen.split(batch):
        picture, known = (data[name][part].to(device).float() / 255 for name in ("pictures", "known"))
        landmarks = data["landmarks"][part, :, :2].to(device)
        still = augment(Still(picture, known, landmarks, pool[part].to(device)), head, generator)
        picture, source = still.picture, still.face
        target = random_targets(source.to("cpu"), pool, generator).to(device)  # drawn one by one
        carried, validity = round_trip(picture, still.known, source, target, head, find_layers(picture))
        shown = render(head, source, picture.shape[-1]).image
        yield _pair((picture, shown, carried, validity, picture), still.landmarks, still.landmarks)


def write_synthetic(
    folder: Path, output: Path, head: HeadModel, slots: SlotEncoder | None = None, fingerprints: Mapping[str, str] | None = None
) -> None:
    """Write shards of carried synthetic pairs, each of which serves both ways; existing ones are kept.

    Args:
        folder: Shards with images (B,2,3,S,S) uint8 and attributes (B,2,...).
        output: Folder of the shards.
        head: Of the attributes.
        slots: For `layer_finder`.
        fingerprints: Of the head's file.

    Raises:
        ConfigError: If there is no shard, or for shards of another head file.
    """
    find_layers = layer_finder(slots)

    def rows(path: Path) -> Iterator[Rows]:
        data = read_shard(path, ("images", *FIELDS), "`prepare people`")
        for part in tqdm(torch.arange(len(data["images"])).split(4), desc=path.name, leave=False):
            pair = data["images"][part].float() / 255
            faces = [attributes_of({name: data[name][part, side] for name in FIELDS}, head) for side in (0, 1)]
            points = [exact_landmarks(head, face, pair.shape[-1]) for face in faces]
            for a, b in ((0, 1), (1, 0)):
                moved = carry(pair[:, a], faces[a], faces[b], head, None, find_layers(pair[:, a]), EXACT_LIGHT)
                shown = render(head, faces[b], pair.shape[-1]).image
                yield _pair((pair[:, b], shown, moved.image, moved.validity, pair[:, a]), points[a], points[b])

    output.mkdir(parents=True, exist_ok=True)
    for path in shards_in(folder):
        known = agreed(path, stated_fingerprints(path), fingerprints or {})
        if is_wanted(output / path.name, known):
            write_rows(output / path.name, rows(path), known)


def exact_landmarks(head: HeadModel, face: FaceAttributes, size: int) -> Tensor:
    """Where a head of given numbers has its landmarks in a picture of that side: (B,N,2), pixels."""
    points = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    return (points[..., :2] + 1) * size / 2


def _pair(pictures: tuple[Tensor, ...], landmarks: Tensor, target_landmarks: Tensor) -> Rows:
    """pictures: PICTURES in their order, each in 0..1; landmarks: those of the source."""
    stored = {name: to_bytes(picture) for name, picture in zip(PICTURES, pictures, strict=True)}
    return stored | {"landmarks": landmarks.float(), "target_landmarks": target_landmarks.float()}


@torch.no_grad()
def encode_shards(
    pictures: Iterable[Path],
    output: Path,
    autoencoder: FirstStage,
    slots: SlotEncoder | None,
    identity: IdentityEncoder,
    batch: int = 4,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Write shards of latents, tokens, masks and identities from shards of pictures; existing ones are kept.

    What the identity loss needs is left out where the pictures have no landmarks of the target.

    Args:
        pictures: Shards as this module's text describes them.
        output: Folder of the new shards, which have the same names.
        autoencoder: Makes the latents.
        slots: Make tokens and masks; None keeps the pictures source and query in their place, for joint training.
        identity: Makes the identity tokens.
        batch: Samples that are worked on together.
        fingerprints: Of the identity's file.

    Raises:
        ConfigError: For shards of pictures, or of latents that are there, which were made with other files.
    """

    def rows(path: Path) -> Iterator[Rows]:
        data = read_shard(path, (*PICTURES, "landmarks"), "`prepare roundtrips` or `prepare synthetic`")
        for part in tqdm(torch.arange(len(data["target"])).split(batch), desc=path.name, leave=False):
            yield encode_pairs({name: value[part] for name, value in data.items()}, autoencoder, slots, identity)

    output.mkdir(parents=True, exist_ok=True)
    for path in pictures:
        known = agreed(path, stated_fingerprints(path), fingerprints or {})
        if is_wanted(output / path.name, known):
            write_rows(output / path.name, rows(path), known)


def encode_pairs(data: Rows, autoencoder: FirstStage, slots: SlotEncoder | None, identity: IdentityEncoder) -> Rows:
    """Rows of a shard of pictures -> rows of `encode_shards`, whose networks these are; data lies where they do."""
    row = encoded({name: data[name] for name in PICTURES}, autoencoder, slots)
    row["identity"] = identity.embed(data["source"].float() / 255, data["landmarks"])
    if "target_landmarks" in data:
        row["target_landmarks"] = data["target_landmarks"]
        row["target_identity"] = identity.embed(data["target"].float() / 255, row["target_landmarks"])
    return halved(row)


def encoded(pictures: Rows, autoencoder: FirstStage, slots: SlotEncoder | None) -> Rows:
    """Pictures (B,3,S,S) uint8 as the denoiser's training reads them.

    Args:
        pictures: PICTURES by name; carried and validity (B,1,S,S) may be missing together.
        autoencoder: Makes latents (B,Z,h,w) of target, render and carried.
        slots: Make tokens (B,K,D) of the source and masks (B,K,h,w) of the target; None keeps both pictures, as source and query.
    """
    from ...diffusion.conditions import carry_latents

    target, drawn, source = (pictures[name].float() / 255 for name in ("target", "render", "source"))
    row = {"target": autoencoder.encode(target), "render": autoencoder.encode(drawn)}
    if "carried" in pictures:
        row["carried"], row["validity"] = carry_latents(autoencoder, *(pictures[name].float() / 255 for name in ("carried", "validity")))
    if slots is None:
        return row | {"source": pictures["source"], "query": pictures["target"]}
    return row | {"tokens": slots(source)[0], "masks": slots(target)[1]}


def halved(row: Rows) -> Rows:
    """In float16, bytes as they are."""
    return {name: value if value.dtype == torch.uint8 else value.half() for name, value in row.items()}
