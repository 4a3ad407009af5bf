"""Compare the estimators of the open head on dev portraits and rendered people; prints the Markdown of docs/evaluation.md.

python scripts/compare_estimators.py PORTRAITS [--synthetic SHARDS] [--makehuman FOLDER --tones KEPT] [--network FILE ...] [--output OUT.md]

PORTRAITS: folder with manifest.csv; its dev split is read. SHARDS: rendered pairs that no training saw (render_synthetic.py).
--tones: folder where the pictures of each person in six skin tones under five lights are kept; missing ones are rendered.
--network NAME=FILE: further networks (`export_estimator`) beside the bundled one.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image
from difffae.estimation.choose import landmark_fit
from difffae.estimation.fit import LandmarkFit
from difffae.estimation.network import BUNDLED, EncoderFit
from difffae.faces.crop import FaceCrop
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.lab.card import estimators as numbers
from difffae.lab.card.estimators import Reader, Seen
from difffae.lab.prepare.pairs import FIELDS, attributes_of
from difffae.lab.prepare.portraits import dev_files

TONES = (60.0, 48.0, 34.0, 19.0, -10.0, -45.0)  # ITA in degrees, the middles of the six groups of complexion.TONES
LIGHTS, FIRST_SEED = 5, 900_001
Rows = dict[str, dict[str, float]]  # row -> estimator -> number


def portraits(readers: dict[str, Reader], landmarker: FaceLandmarker, folder: Path, limit: int) -> tuple[Rows, dict[str, Seen]]:
    with (folder / "manifest.csv").open(newline="") as handle:
        table = {row["file"]: row for row in csv.DictReader(handle)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    seen: dict[str, Seen] = {}
    for name in tqdm(sorted(dev_files())[:limit], desc="portraits"):
        image = read_image(folder / name)[0]
        face = numbers.look(landmarker, image)
        if face is None:
            continue
        seen[name] = Seen.of(image, face)
        row = table[name]
        # the table's signs: pitch > 0 looks down, roll > 0 is counter-clockwise
        pose = torch.tensor([float(row["yaw_deg"]), -float(row["pitch_deg"]), -float(row["roll_deg"])])
        for reader, values in found.items():
            values.append(numbers.portrait_numbers(readers[reader], landmarker, seen[name], pose))
    rows: Rows = {}
    for reader, values in found.items():
        middle = {axis: sorted(v[axis] for v in values)[len(values) // 2] for axis in ("yaw", "pitch", "roll")}
        means = numbers.means(values)
        _put(rows, reader, "landmarks, % of the inter-ocular distance", 100 * means["landmarks"])
        worst = sorted(v["landmarks"] for v in values)[int(0.95 * len(values))]
        _put(rows, reader, "the same, 95th percentile", 100 * worst)
        for axis in ("yaw", "pitch", "roll"):
            error = sum(abs(v[axis] - middle[axis]) for v in values) / len(values)
            _put(rows, reader, f"{axis} against the portraits' table, degrees, without the median difference", error)
        _put(rows, reader, "blendshape scores of the estimated face against the picture's", means["scores"])
        _put(rows, reader, "skin, render against photograph, rms of 255", 255 * means["skin"])
        _put(rows, reader, "direction of the light on it, log-ratio", means["light"])
    return rows, seen


def times(readers: dict[str, Reader], seen: Seen) -> Rows:
    rows: Rows = {}
    eight = Seen(*(x.expand(8, *x.shape[1:]).contiguous() for x in (seen.picture, seen.known, seen.landmarks, seen.scores)))
    for reader, module in readers.items():
        _put(rows, reader, "time of a face, ms (one thread)", numbers.milliseconds(lambda m=module: seen.read(m)))
        _put(rows, reader, "time of a face in a batch of 8, ms", numbers.milliseconds(lambda m=module: eight.read(m)) / 8)
    return rows


def steadiness(readers: dict[str, Reader], landmarker: FaceLandmarker, folder: Path, seen: dict[str, Seen], count: int) -> Rows:
    still: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    moving: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    fit = next(module for module in readers.values() if isinstance(module, LandmarkFit))
    names = list(seen)[:: max(1, len(seen) // count)][:count]
    for index, name in enumerate(tqdm(names, desc="steadiness")):
        generator = torch.Generator().manual_seed(index)
        image = read_image(folder / name)[0]
        looks = [(p, numbers.look(landmarker, p)) for p in numbers.disturbed(image, 8, generator)]
        shown = [Seen.of(picture, face) for picture, face in looks if face is not None]
        video, truth = numbers.moving(seen[name], seen[name].read(fit), fit.head, 12, generator)
        frames = [(k, numbers.look(landmarker, picture)) for k, picture in enumerate(video)]
        kept = [(k, face) for k, face in frames if face is not None]
        if len(shown) < 4 or len(kept) < len(video):
            continue
        side = video[0].shape[-1]
        whole = FaceCrop(0, 0, side, side, side, side)  # a tracked crop moves smoothly: here it stands still
        for reader, module in readers.items():
            still[reader].append(numbers.spread_numbers(FaceAttributes.cat([one.read(module) for one in shown])))
            found = FaceAttributes.cat([Seen.of(video[k], face, whole).read(module) for k, face in kept])
            moving[reader].append(numbers.jitter_numbers(found, truth))
    result: Rows = {}
    for what, rows in (("disturbed pictures, standard deviation", still), ("smooth motion, second difference of the error", moving)):
        for reader, values in rows.items():
            means = numbers.means(values)
            _put(result, reader, f"{what}: angles, degrees", means["angles"])
            _put(result, reader, f"{what}: expression, hundredths", 100 * means["expression"])
            _put(result, reader, f"{what}: shading, %", 100 * means["shading"])
    return result


def synthetic(readers: dict[str, Reader], landmarker: FaceLandmarker, folder: Path) -> Rows:
    pictures, faces = [], []
    head = next(iter(readers.values())).head
    for path in sorted(folder.glob("*.safetensors")):
        loaded = load_file(str(path))
        data = {name: loaded[name].flatten(0, 1) for name in ("images", *FIELDS)}
        pictures.append(data["images"])
        faces.append(attributes_of({name: data[name] for name in FIELDS}, head))
    return _exact(readers, landmarker, torch.cat(pictures), FaceAttributes.cat(faces))[0]


def _exact(
    readers: dict[str, Reader], landmarker: FaceLandmarker, pictures: Tensor, truth: FaceAttributes, everywhere: bool = False
) -> tuple[Rows, dict[str, FaceAttributes] | None]:
    """Rows of errors, and the estimates. everywhere: None for the estimates if a face was not found."""
    near = landmark_fit(next(iter(readers.values())).head)
    kept, looks = [], []
    for index in tqdm(range(len(pictures)), desc="rendered people", leave=False):
        picture = pictures[index].float() / 255
        face = numbers.look(landmarker, picture, near.landmarks(truth[index], picture.shape[-1])[0])
        if face is not None:
            kept.append(index)
            ones = torch.ones(1, 1, *picture.shape[-2:])
            looks.append(Seen(picture[None], ones, face.landmarks[None], face.blendshapes[None]))
    rows: Rows = {}
    if everywhere and len(kept) < len(pictures):
        return rows, None
    found = {reader: FaceAttributes.cat([one.read(module) for one in looks]) for reader, module in readers.items()}
    units = {"turn": ("degrees", 1), "expression": ("hundredths", 100), "shading": ("%", 100), "relative shading": ("%", 100),
             "skin": ("rms of 255", 255), "shape": ("mm", 1)}  # fmt: skip
    for reader, faces in found.items():
        for name, value in numbers.exact_numbers(near.head, faces, truth[kept]).items():
            unit, factor = units[name]
            _put(rows, reader, f"{len(kept)} rendered faces, exact codes: {name}, {unit}", factor * value)
    return rows, found


def tones(readers: dict[str, Reader], landmarker: FaceLandmarker, folder: Path, makehuman: Path | None, people: int) -> Rows:
    """Rows of the share of the skin in the light. Renders what is missing in `folder`."""
    if makehuman is not None:
        render_tones(folder, makehuman, people)
    values: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    count = 0
    for path in tqdm(sorted(folder.glob("*.safetensors"))[:people], desc="skin tones"):
        data = load_file(str(path))
        head = next(iter(readers.values())).head
        _, found = _exact(readers, landmarker, data["images"], attributes_of(data, head), everywhere=True)
        if found is None:
            continue
        count += 1
        for reader, faces in found.items():
            values[reader].append(numbers.tone_numbers(faces.light.unflatten(0, (len(TONES), -1))))
    rows: Rows = {}
    for reader, each in values.items():
        if not each:
            break
        means = numbers.means(each)
        _put(rows, reader, f"light of {count} rendered people in {len(TONES)} skin tones: spread over tones / over lights", means["ratio"])
        _put(rows, reader, "worst person of these", max(one["ratio"] for one in each))
    return rows


def render_tones(folder: Path, makehuman: Path, people: int) -> None:
    from difffae.lab.studio.synthetic import SyntheticPeople

    folder.mkdir(parents=True, exist_ok=True)
    maker = None
    for seed in range(FIRST_SEED, FIRST_SEED + people):
        path = folder / f"{seed}.safetensors"
        if path.exists():
            continue
        maker = maker or SyntheticPeople(makehuman, HeadModel.load())
        grid = maker.tone_light_grid(seed, TONES, LIGHTS)
        made = {name: value.contiguous() for name, value in grid.attributes.tensors().items()}
        partial = path.with_suffix(".partial")
        save_file(made | {"images": (grid.image * 255).round().to(torch.uint8)}, partial)
        os.replace(partial, path)


def _put(rows: Rows, reader: str, row: str, value: float) -> None:
    rows.setdefault(row, {})[reader] = value


def markdown(rows: Rows, readers: list[str]) -> str:
    lines = ["| | " + " | ".join(readers) + " |", "|---" * (len(readers) + 1) + "|"]
    for name, values in rows.items():
        best = min(values.values())
        shown = [f"**{values[r]:.3g}**" if values[r] == best and len(values) > 1 else f"{values[r]:.3g}" for r in readers]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("--synthetic", type=Path, help="folder of shards of rendered pairs")
    parser.add_argument("--makehuman", type=Path, help="CC0 assets, to render people in several skin tones")
    parser.add_argument("--tones", type=Path, help="folder where those pictures are kept")
    parser.add_argument("--people", type=int, default=6, help="how many people in several skin tones")
    parser.add_argument("--network", nargs="+", default=[], metavar="NAME=FILE", help="networks beside the bundled one")
    parser.add_argument("--limit", type=int, default=10_000, help="most portraits that are read")
    parser.add_argument("--steady", type=int, default=20, help="portraits that steadiness is measured on")
    parser.add_argument("--output", type=Path, help="Markdown file (default: print only)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head, landmarker = HeadModel.load(), FaceLandmarker.load()
    readers: dict[str, Reader] = {"fit": landmark_fit(head)}
    if (asset_path("open_head.safetensors").parent / BUNDLED).is_file():
        readers["network"] = EncoderFit.load(head)
    for pair in arguments.network:
        name, _, path = pair.partition("=")
        readers[name] = EncoderFit.load(head, path)
    rows, seen = portraits(readers, landmarker, arguments.portraits, arguments.limit)
    rows |= times(readers, next(iter(seen.values())))
    rows |= steadiness(readers, landmarker, arguments.portraits, seen, arguments.steady)
    if arguments.synthetic:
        rows |= synthetic(readers, landmarker, arguments.synthetic)
    if arguments.tones:
        rows |= tones(readers, landmarker, arguments.tones, arguments.makehuman, arguments.people)
    text = markdown(rows, list(readers))
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
