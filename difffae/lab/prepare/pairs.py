"""Cache what the denoiser's training reads: fitted portraits, round-trip pairs, latents.

Shape letters: B batch, N landmarks (478), H and W picture sides, S crop side, Z latent channels.

Three steps, each resumable by its files: `fit_portraits` -> one file of crops and attributes; `write_round_trips` -> shards of
pictures (target, render, carried, validity); `encode_shards` -> the shards of latents that `train denoiser` reads. The first
two do not need the first stage, so they can run while it trains.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ...carry.prepared import carry
from ...diffusion.autoencoder import FirstStage
from ...estimation.fit import LandmarkFit, inter_ocular
from ...faces.blendshapes import BLENDSHAPE_NAMES
from ...faces.crop import crop_square, extract
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.render import render
from ...head.shading import project
from ...source.identity import IdentityEncoder
from ...source.matte import PersonMatte
from ...source.regions import Layers, layers
from ...source.slots import SlotEncoder
from .augmentation import Augmentation, Still, augment
from .portraits import dev_files
from .roundtrip import TargetOptions, random_targets, round_trip
from .shards import write_shard

log = logging.getLogger(__name__)
FIELDS = ("shape", "albedo", "pose", "camera", "expression", "light")


def to_bytes(image: Tensor) -> Tensor:
    """0..1 -> uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def attributes_of(tensors: dict[str, Tensor], head: HeadModel, prefix: str = "") -> FaceAttributes:
    """FaceAttributes from tensors of a shard."""
    return FaceAttributes(head.name, *(tensors[prefix + name].float() for name in FIELDS))


def fit_portraits(folder: Path, output: Path, split: str, fit: LandmarkFit, worst: float = 0.06) -> None:
    """Crop and fit every portrait of a split; those whose landmark error exceeds `worst` of the inter-ocular distance are left out.

    Reads `landmarks.npz` (files, landmarks, blendshapes, blendshape_names) beside the pictures.
    Writes pictures (M,3,S,S) uint8, known (M,1,S,S) uint8, landmarks (M,N,3) in crop pixels, blendshapes (M,52), error (M,),
    and the attributes.
    """
    table = np.load(folder / "landmarks.npz")
    order = [list(table["blendshape_names"]).index(name) for name in BLENDSHAPE_NAMES]
    dev = dev_files()
    rows: dict[str, list[Tensor]] = {}
    for index, name in enumerate(tqdm(table["files"], desc=f"fitting {split}")):
        if (str(name) in dev) != (split == "dev"):
            continue
        image = torch.from_numpy(np.asarray(Image.open(folder / str(name)).convert("RGB")).copy()).permute(2, 0, 1).float() / 255
        points = torch.from_numpy(table["landmarks"][index].astype(np.float32))
        crop = crop_square(points, image.shape[-2:])
        picture, known = extract(image[None], crop)
        inside = crop.to_crop(points)[None]
        scores = torch.from_numpy(table["blendshapes"][index].astype(np.float32))[None, order]
        face = fit(picture, inside, scores, known)
        error = landmark_error(fit, face, inside, picture.shape[-1])
        if error.item() > worst:
            log.info("%s left out: landmark error %.1f %%", name, 100 * error.item())
            continue
        row = {"pictures": to_bytes(picture), "known": to_bytes(known), "landmarks": inside, "blendshapes": scores, "error": error}
        row |= {field: getattr(face, field) for field in FIELDS}
        for key, value in row.items():
            rows.setdefault(key, []).append(value)
    write_shard(output, {key: torch.cat(values) for key, values in rows.items()})


def landmark_error(fit: LandmarkFit, face: FaceAttributes, landmarks: Tensor, size: int) -> Tensor:
    """Mean distance of fitted and given landmarks (B,N,>=2) in crop pixels, in units of the inter-ocular distance: (B,)."""
    return (fit.landmarks(face, size) - landmarks[..., :2]).norm(dim=-1).mean(-1) / inter_ocular(landmarks)


def write_round_trips(
    fitted: Path,
    output: Path,
    head: HeadModel,
    shards: int,
    slots: SlotEncoder | None = None,
    size: int = 100,
    seed: int = 0,
    options: TargetOptions | None = None,
    first: int = 0,
    augmentation: Augmentation | None = None,
) -> None:
    """Shards of round trips of random portraits, each mirrored, framed and coloured at random; shard i depends on seed and i alone, and
    existing ones are kept.

    slots: an encoder whose masks keep light off the background and the background in its place, as in an edit; None: neither.
    """
    data = load_file(str(fitted))
    pool = attributes_of(data, head)
    matte = None if slots is None else PersonMatte.load()
    output.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + shards):
        path = output / f"roundtrip_{index:04d}.safetensors"
        if path.exists():
            continue
        generator = torch.Generator().manual_seed(seed * 100_003 + index)
        chosen = torch.randint(len(pool), (size,), generator=generator)
        rows: dict[str, list[Tensor]] = {}
        for part in tqdm(chosen.split(4), desc=path.name, leave=False):
            still = Still(
                data["pictures"][part].float() / 255, data["known"][part].float() / 255, data["landmarks"][part, :, :2], pool[part]
            )
            still = augment(still, head, generator, augmentation)
            picture, known, source = still.picture, still.known, still.face
            target = random_targets(source, pool, generator, options)
            source_layers = layers_of(picture, slots, matte)
            carried, validity = round_trip(picture, known, source, target, head, source_layers)
            shown = render(head, source, picture.shape[-1]).image
            _append(rows, picture, shown, carried, validity, picture, still.landmarks, still.landmarks)
        write_shard(path, {key: torch.cat(values) for key, values in rows.items()})


def layers_of(pictures: Tensor, slots: SlotEncoder | None, matte: PersonMatte | None) -> Layers | None:
    """What pictures (B,3,S,S) show where, as in an edit (pipeline.DiffFAE.layers); None without slots and matte."""
    return None if slots is None or matte is None else layers(slots(pictures)[1], slots.config.order, pictures, matte(pictures))


def write_synthetic(folder: Path, output: Path, head: HeadModel, slots: SlotEncoder | None = None) -> None:
    """Shards of carried synthetic pairs: every pair serves both ways; slots as in `write_round_trips`.

    Reads shards with images (N,2,3,S,S) and attributes (N,2,...)."""
    output.mkdir(parents=True, exist_ok=True)
    matte = None if slots is None else PersonMatte.load()
    for path in sorted(folder.glob("*.safetensors")):
        goal = output / path.name
        if goal.exists():
            continue
        data = load_file(str(path))
        rows: dict[str, list[Tensor]] = {}
        for part in tqdm(torch.arange(len(data["images"])).split(4), desc=path.name, leave=False):
            pair = data["images"][part].float() / 255
            faces = [FaceAttributes(head.name, *(data[name][part, side].float() for name in FIELDS)) for side in (0, 1)]
            points = [_landmarks(head, face, pair.shape[-1]) for face in faces]
            for a, b in ((0, 1), (1, 0)):
                source_layers = layers_of(pair[:, a], slots, matte)
                moved = carry(pair[:, a], faces[a], faces[b], head, None, source_layers)
                shown = render(head, faces[b], pair.shape[-1]).image
                _append(rows, pair[:, b], shown, moved.image, moved.validity, pair[:, a], points[a], points[b])
        write_shard(goal, {key: torch.cat(values) for key, values in rows.items()})


def _landmarks(head: HeadModel, face: FaceAttributes, size: int) -> Tensor:
    """Where a head of given numbers has its landmarks in a picture of that side: (B,N,2), pixels."""
    points = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    return (points[..., :2] + 1) * size / 2


def _append(
    rows: dict[str, list[Tensor]],
    target: Tensor,
    drawn: Tensor,
    carried: Tensor,
    validity: Tensor,
    source: Tensor,
    landmarks: Tensor,
    target_landmarks: Tensor,
) -> None:
    """landmarks: those of the source."""
    new = {"target": to_bytes(target), "render": to_bytes(drawn), "carried": to_bytes(carried), "validity": to_bytes(validity)}
    new |= {"source": to_bytes(source), "landmarks": landmarks.float(), "target_landmarks": target_landmarks.float()}
    for key, value in new.items():
        rows.setdefault(key, []).append(value)


@torch.no_grad()
def encode_shards(
    pictures: Iterable[Path], output: Path, autoencoder: FirstStage, slots: SlotEncoder | None, identity: IdentityEncoder, batch: int = 4
) -> None:
    """Shards of pictures -> shards of latents, tokens, masks and identities; existing ones are kept. slots: None keeps the pictures
    source and query in place of tokens and masks, for joint training. What the identity loss needs is left out where the pictures have
    no landmarks of the target."""
    from ...diffusion.conditions import carry_latents

    output.mkdir(parents=True, exist_ok=True)
    for path in pictures:
        goal = output / path.name
        if goal.exists():
            continue
        data = load_file(str(path))
        rows: dict[str, list[Tensor]] = {}
        for part in tqdm(_parts(len(data["target"]), batch), desc=path.name, leave=False):
            target, drawn, carried, validity, source = (
                data[name][part].float() / 255 for name in ("target", "render", "carried", "validity", "source")
            )
            latents, valid = carry_latents(autoencoder, carried, validity)
            row = {
                "target": autoencoder.encode(target),
                "render": autoencoder.encode(drawn),
                "carried": latents,
                "validity": valid,
                "identity": identity.embed(source, data["landmarks"][part]),
            }
            if slots is None:
                row |= {"source": data["source"][part], "query": data["target"][part]}
            else:
                row |= {"tokens": slots(source)[0], "masks": slots(target)[1]}
            if "target_landmarks" in data:
                points = data["target_landmarks"][part]
                row |= {"target_landmarks": points, "target_identity": identity.embed(target, points)}
            for key, value in row.items():
                rows.setdefault(key, []).append(value if value.dtype == torch.uint8 else value.half())
        write_shard(goal, {key: torch.cat(values) for key, values in rows.items()})


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
