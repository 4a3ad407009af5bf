"""A folder of any pictures -> a folder of portraits that every stage reads: `prepare portraits`.

Files of the output folder:

    dataset.json            what it was made with; a run with other options is refused
    <name>.webp             each usable picture: upright, RGB, scaled down so that the square around the face has `size` pixels at most
    manifest.csv            one row each: file, person, split, box of the face in pixels, angles in degrees (yaw > 0: the nose points to the
                            right edge, pitch > 0: down, roll > 0: turned counter-clockwise), smile and jaw_open 0..1
    landmarks.npz           as `portraits.read_landmarks` says
    fit_train.safetensors   as `pairs.fit_portraits` writes them; fit_dev.safetensors
    labels/train, /dev      shards `real_NNN` for the slots: images (N,3,S,S), labels (N,S,S) uint8, as `region_labels` says;
                            train.jpg and dev.jpg show some of them
    errors.jsonl            one line per picture that cannot be used; delete it to try them again
    parts/                  what was found out of each picture, so that a run goes on after a kill and pictures can be added later

Shape letters: N pictures, S crop side (256).
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ...common.errors import ConfigError, DiffFAEError
from ...common.files import atomic_write, remove_leftovers
from ...common.images import read_image, to_picture
from ...common.rotations import to_yaw_pitch_roll
from ...estimation.fit import LandmarkFit
from ...faces.blendshapes import BLENDSHAPE_NAMES
from ...faces.crop import crop_square, extract
from ...source.matte import PersonMatte
from ...video.pool import CRASHED, run_tasks
from .json_lines import Journal, claim
from .networks import load_networks
from .pairs import FIELDS, WORST_FIT, Rows, fitted_row, to_bytes
from .portraits import DEV_SHARE, MANIFEST, SPLITS, dev_files, read_landmarks, read_manifest, read_picture, split_of
from .shards import write_rows, write_shard

log = logging.getLogger(__name__)
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".jxl")
LEAST_FACE = 48  # pixels of a face's height, below which its features are guesses
PER_SHARD = 256  # labelled pictures
SHOWN = 48  # of them on a sheet, to look at
COLUMNS = (
    *("file", "source", "licence", "person", "split", "width", "height", "face_x0", "face_y0", "face_x1", "face_y1"),
    *("yaw_deg", "pitch_deg", "roll_deg", "smile", "jaw_open", "greyscale"),
)
KEPT = ("source", "licence", "split", "yaw_deg", "pitch_deg", "roll_deg")  # what a manifest of the input says itself


@dataclass(frozen=True)
class PortraitOptions:
    """What the result depends on. Raises ConfigError for values that cannot work."""

    size: int = 512  # most pixels of the square around a face
    dev_share: float = DEV_SHARE  # of the persons, chosen by a hash of their names
    labels: bool = True  # of the regions, which takes a third of the time

    def __post_init__(self) -> None:
        if self.size < 256 or not 0 <= self.dev_share <= 1:
            raise ConfigError("portraits: size must be at least 256, and dev_share between 0 and 1")


@dataclass(frozen=True)
class Known:
    """What the input folder says of a picture: `landmarks` (478,3) in its pixels and `blendshapes` (52,) as they are named, or None; the
    row of its manifest, which may be empty."""

    file: str
    row: Mapping[str, str]
    landmarks: Tensor | None = None
    blendshapes: Tensor | None = None


def prepare_portraits(
    folder: Path, output: Path, options: PortraitOptions | None = None, *, workers: int = 1, over: Callable[[], bool] | None = None
) -> dict[str, int]:
    """Make a folder of portraits from any folder of pictures. Call it again to go on after a kill, or with pictures that were added.

    A person is what the column `person` of a manifest.csv beside the pictures says, or else the first folder that a picture lies in, or
    else the picture alone. Landmarks that a landmarks.npz there has are taken as they are.

    Args:
        folder: Pictures, in folders of any depth.
        output: The folder to make.
        options: What it is to be.
        workers: Local processes.
        over: Whether to stop, asked after each picture; pictures then come in an order that mixes people and sources, and the output holds
            those that were done.

    Returns:
        How many pictures are in each split, by name.

    Raises:
        ConfigError: If there are no pictures or none can be used, or for an output that cannot be used.
    """
    options = options or PortraitOptions()
    if options.labels:
        from . import region_labels  # noqa: F401  it needs scipy: said now, not after hours
    folder, output = folder.resolve(), output.resolve()
    if output == folder or output.is_relative_to(folder):
        raise ConfigError(f"{output}: lies in the pictures' own folder; choose an output beside it")
    pictures = known_pictures(folder)
    claim(output, {"format": "difffae-portraits/1"} | asdict(options) | {"fingerprints": load_networks().fingerprints("head")})
    remove_leftovers(output)
    errors = Journal(output / "errors.jsonl", "file")
    waiting = [one for one in pictures if not _part(output, one.file).exists() and one.file not in errors.rows]
    if over is not None:
        waiting.sort(key=lambda one: hashlib.sha256(one.file.encode()).digest())
    work = partial(prepare_portrait, folder, output, options)
    loggers = [logging.getLogger("difffae")]
    with (
        tqdm(total=len(pictures), initial=len(pictures) - len(waiting), desc="portraits", unit="picture") as bar,
        logging_redirect_tqdm(loggers),
    ):
        for one, result in run_tasks(work, waiting, workers, None):
            error = CRASHED if result is None else result.get("error")
            if error:
                errors.append({"file": one.file, "error": error})
                log.warning("%s: skipped, %s", one.file, error)
            bar.update()
            if over is not None and over():
                break
    errors.sort()
    made = [file for one in pictures if _part(output, file := one.file).exists()]
    if not made:
        raise ConfigError(f"{folder}: no picture could be used; {output / 'errors.jsonl'} says why of each")
    return join(output, made, options, anew=bool(waiting))


def known_pictures(folder: Path) -> list[Known]:
    """All pictures below a folder by name, with what it says of them. Raises ConfigError if there are none."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    files = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    if not files:
        raise ConfigError(f"{folder}: no pictures here ({', '.join(ENDINGS)}); give a folder of pictures")
    rows = read_manifest(folder, ("file",)) if (folder / MANIFEST).is_file() else {}
    places, table = {}, None
    if (folder / "landmarks.npz").is_file():
        table = read_landmarks(folder)
        places = {str(name): index for index, name in enumerate(table["files"])}
        order = [list(table["blendshape_names"]).index(name) for name in BLENDSHAPE_NAMES]
    found, names = [], set()
    for file in files:
        numbers: list[Tensor] = []
        if table is not None and file in places:
            numbers = [torch.from_numpy(table[name][places[file]].astype(np.float32)) for name in ("landmarks", "blendshapes")]
            numbers[1] = numbers[1][order]
        person = file.split("/")[0] if "/" in file else file.rpartition(".")[0]
        found.append(Known(file, {"person": person} | {name: value for name, value in rows.get(file, {}).items() if value}, *numbers))
        if stored_name(file) in names:
            raise ConfigError(f"{folder / file}: another picture's name differs in .webp alone; rename one of them")
        names.add(stored_name(file))
    return found


def stored_name(file: str) -> str:
    """What a picture is called in the output."""
    return file if file.lower().endswith(".webp") else f"{file}.webp"


def _part(output: Path, file: str) -> Path:
    return output / "parts" / f"{file}.npz"


def prepare_portrait(folder: Path, output: Path, options: PortraitOptions, one: Known) -> dict[str, Any]:
    """Write the picture and the part of one of them; returns {} or, for one that cannot be used, {"error"}."""
    try:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # workers share the cores
        with torch.no_grad():
            _prepare(folder, output, options, one)
    except DiffFAEError as error:
        return {"error": str(error).removeprefix(f"{folder / one.file}: ")}
    finally:
        torch.set_num_threads(threads)
    return {}


def _prepare(folder: Path, output: Path, options: PortraitOptions, one: Known) -> None:
    networks = load_networks()
    image = read_image(folder / one.file)[0]
    points, scores = one.landmarks, one.blendshapes
    if points is None or scores is None:
        faces = networks.landmarker.detect(image)[0]
        if not faces:
            raise ConfigError("no face was found in it")
        points, scores = faces[0].landmarks, faces[0].blendshapes
    tall = float(points[:468, 1].max() - points[:468, 1].min())
    if tall < LEAST_FACE:
        raise ConfigError(f"the face is {tall:.0f} pixels tall, fewer than {LEAST_FACE}")
    scale = min(1.0, options.size / crop_square(points, image.shape[-2:]).side)
    stored = output / stored_name(one.file)
    stored.parent.mkdir(parents=True, exist_ok=True)
    points = points * _store(folder / one.file, stored, image, scale)
    picture = read_picture(stored)  # as everyone will see it: WebP is not exact
    fit = networks.estimator
    assert isinstance(fit, LandmarkFit)  # that of the open head
    row = fitted_row(picture, points, scores, fit)
    numbers: dict[str, Any] = {name: value[0].numpy() for name, value in row.items() if name in ("error", *FIELDS)}
    if options.labels and row["error"].item() <= WORST_FIT:
        numbers["labels"] = _labels(picture, points, networks.matte)
    told = _row(one, picture, points, scores, to_yaw_pitch_roll(row["pose"][:, 1])[0].tolist(), options)
    path = _part(output, one.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, row=json.dumps(told), points=points.numpy(), scores=scores.numpy(), **numbers)


def _store(source: Path, stored: Path, image: Tensor, scale: float) -> Tensor:
    """Write the picture; returns what its landmarks are multiplied by, (3,). A WebP file that needs no change is copied as it is."""
    height, width = image.shape[-2:]
    if scale == 1 and source.suffix.lower() == ".webp":
        with Image.open(source) as picture:
            plain = picture.mode == "RGB" and not picture.getexif() and not picture.info.get("icc_profile") and not _animated(picture)
        if plain:
            with atomic_write(stored) as temporary:
                temporary.write_bytes(source.read_bytes())
            return torch.ones(3)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = image if size == (height, width) else F.interpolate(image[None], size, mode="bicubic", antialias=True).clamp(0, 1)[0]
    with atomic_write(stored) as temporary:
        to_picture(small).save(temporary, "WEBP", quality=95, method=4)
    return torch.tensor([size[1] / width, size[0] / height, size[1] / width])


def _animated(picture: Image.Image) -> bool:
    return getattr(picture, "n_frames", 1) > 1


def _labels(picture: Tensor, points: Tensor, matte: PersonMatte) -> np.ndarray:
    from .region_labels import label

    image = picture[None].float() / 255
    crop = crop_square(points, picture.shape[-2:])
    square, share = extract(image, crop)[0][0], extract(matte(image), crop)[0][0, 0]
    return label(square.permute(1, 2, 0).numpy(), share.numpy(), crop.to_crop(points)[:, :2].numpy())


def _row(one: Known, picture: Tensor, points: Tensor, scores: Tensor, turn: Sequence[float], options: PortraitOptions) -> dict[str, Any]:
    """The picture's row of the manifest. turn: the head's yaw, pitch and roll in degrees, pitch > 0 up and roll > 0 clockwise."""
    smile = [BLENDSHAPE_NAMES.index(name) for name in ("mouthSmileLeft", "mouthSmileRight")]
    face = points[:468, :2]
    yaw, pitch, roll = turn
    grey = (picture.float() - picture.float().mean(0)).abs().mean() < 1
    split = split_of(one.row["person"], options.dev_share)
    row: dict[str, Any] = {
        "file": stored_name(one.file), "person": one.row["person"], "split": split, "width": picture.shape[-1], "height": picture.shape[-2],
        "face_x0": face[:, 0].min(), "face_y0": face[:, 1].min(), "face_x1": face[:, 0].max(), "face_y1": face[:, 1].max(),
        "yaw_deg": yaw, "pitch_deg": -pitch, "roll_deg": -roll,
        "smile": scores[smile].mean(), "jaw_open": scores[BLENDSHAPE_NAMES.index("jawOpen")], "greyscale": int(grey),
    }  # fmt: skip
    places = {"smile": 3, "jaw_open": 3}
    rounded = {name: value if isinstance(value, int | str) else round(float(value), places.get(name, 1)) for name, value in row.items()}
    told = rounded | {name: one.row[name] for name in KEPT if name in one.row}
    return told | ({"split": "dev"} if told["file"] in dev_files() else {})  # the project's own are held out for everyone


def join(output: Path, files: Sequence[str], options: PortraitOptions, anew: bool) -> dict[str, int]:
    """Write the tables, fits and labelled shards from the parts of some pictures; those that are there stay, unless `anew`. Returns how
    many pictures each split has."""
    rows = [json.loads(str(_read_part(output, file, "row")["row"])) for file in files]
    if (output / MANIFEST).is_file():  # splits may have been changed there by hand
        before = read_manifest(output, ("file", "split"))
        rows = [row | {"split": before.get(row["file"], row)["split"]} for row in rows]
    splits = {split: [file for file, row in zip(files, rows, strict=True) if row["split"] == split] for split in SPLITS}
    done = [output / "landmarks.npz", *(output / f"fit_{split}.safetensors" for split in SPLITS if splits[split]), output / MANIFEST]
    if anew or not all(path.exists() for path in done):
        for split, chosen in splits.items():
            fitted = [file for file in chosen if float(_read_part(output, file, "error")["error"]) <= WORST_FIT]
            path = output / f"fit_{split}.safetensors"
            if fitted:
                write_rows(path, _fitted_rows(output, fitted, f"joining {split}"), load_networks().fingerprints("head"))
            else:
                path.unlink(missing_ok=True)
            if options.labels:
                _write_labels(output, split, fitted)
        _write_landmarks(output, files, rows)
        with atomic_write(output / MANIFEST) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
    return {split: len(chosen) for split, chosen in splits.items()}


def _read_part(output: Path, file: str, *names: str) -> dict[str, np.ndarray]:
    with np.load(_part(output, file)) as part:
        return {name: part[name] for name in names}


def _write_landmarks(output: Path, files: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    parts = [_read_part(output, file, "points", "scores") for file in files]
    table: dict[str, Any] = {"files": np.array([row["file"] for row in rows]), "blendshape_names": np.array(BLENDSHAPE_NAMES)}
    table |= {name: np.stack([part[key] for part in parts]) for name, key in (("landmarks", "points"), ("blendshapes", "scores"))}
    with atomic_write(output / "landmarks.npz") as temporary, temporary.open("wb") as handle:
        np.savez(handle, **table)


def _square(output: Path, file: str, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Crop (1,3,S,S) and known (1,1,S,S) uint8, and the landmarks (1,N,3) in it."""
    picture = read_picture(output / stored_name(file))
    crop = crop_square(points, picture.shape[-2:])
    square, known = extract(picture[None].float() / 255, crop)
    return to_bytes(square), to_bytes(known), crop.to_crop(points)[None]


def _fitted_rows(output: Path, files: Sequence[str], what: str) -> Iterator[Rows]:
    for file in tqdm(files, desc=what, unit="picture", leave=False):
        part = {name: torch.from_numpy(value) for name, value in _read_part(output, file, "points", "scores", "error", *FIELDS).items()}
        square, known, landmarks = _square(output, file, part["points"])
        row = {"pictures": square, "known": known, "landmarks": landmarks, "blendshapes": part["scores"][None]}
        yield row | {name: part[name][None] for name in ("error", *FIELDS)}


def _write_labels(output: Path, split: str, files: Sequence[str]) -> None:
    """Every shard mixes the sources. Shards of an earlier run that had more of them go."""
    from .region_labels import overlay

    folder = output / "labels" / split
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(files))
    shards = [[files[place] for place in order[start : start + PER_SHARD]] for start in range(0, len(files), PER_SHARD)]
    for number, chosen in enumerate(shards):
        parts = [_read_part(output, file, "points", "labels") for file in chosen]
        images = [_square(output, file, torch.from_numpy(part["points"]))[0] for file, part in zip(chosen, parts, strict=True)]
        labels = torch.from_numpy(np.stack([part["labels"] for part in parts]))
        if number == 0:
            overlay(torch.cat(images[:SHOWN]).numpy(), labels[:SHOWN].numpy()).save(folder.with_suffix(".jpg"), quality=90)
        write_shard(folder / f"real_{number:03d}.safetensors", {"images": torch.cat(images), "labels": labels})
    for number, path in enumerate(sorted(folder.glob("real_*.safetensors"))):
        if number >= len(shards):
            path.unlink()
