"""The table that compares estimators of the open head on dev portraits and rendered people (docs/evaluation.md, "Estimators")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ...common.images import read_image
from ...common.markdown import table
from ...estimation.choose import landmark_fit
from ...estimation.fit import LandmarkFit
from ...faces.crop import FaceCrop
from ...faces.landmarker import FaceLandmarker
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ..prepare.pairs import FIELDS, attributes_of, to_bytes
from ..prepare.portraits import files_of, read_manifest
from ..prepare.shards import read_shard, shards_in, write_shard
from ..studio.synthetic import SyntheticPeople
from . import estimators as numbers
from .estimators import Reader, Seen

TONES = (60.0, 48.0, 34.0, 19.0, -10.0, -45.0)  # ITA in degrees, the middles of the six groups of complexion.TONES
LIGHTS, FIRST_SEED = 5, 900_001
FRAMES, DISTURBED = 12, 8  # of a smooth motion; how often a still is disturbed
# number -> its label, and what it is multiplied by
PORTRAIT = {
    "scores": ("blendshape scores of the estimated face against the picture's", 1),
    "skin": ("skin, render against photograph, rms of 255", 255),
    "light": ("direction of the light on it, log-ratio", 1),
}
STEADY = {"angles": ("angles, degrees", 1), "expression": ("expression, hundredths", 100), "shading": ("shading, %", 100)}
EXACT = {
    "turn": ("turn, degrees", 1), "expression": ("expression, hundredths", 100), "shading": ("shading, %", 100),
    "relative shading": ("relative shading, %", 100), "skin": ("skin, rms of 255", 255), "shape": ("shape, mm", 1),
}  # fmt: skip


@dataclass
class Comparison:
    """What is measured of estimators (name -> module); rows: label -> estimator -> number, smaller is better everywhere."""

    readers: Mapping[str, Reader]
    landmarker: FaceLandmarker
    fit: LandmarkFit
    rows: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def head(self) -> HeadModel:
        return self.fit.head

    def put(self, reader: str, label: str, value: float) -> None:
        self.rows.setdefault(label, {})[reader] = value

    def put_all(self, reader: str, found: Mapping[str, float], labels: Mapping[str, tuple[str, float]], before: str = "") -> None:
        for name, (label, factor) in labels.items():
            self.put(reader, before + label, factor * found[name])

    def portraits(self, folder: Path, limit: int) -> dict[str, Seen]:
        """Dev portraits, at most `limit`, whose poses stand in the folder's manifest. Returns those in which a face was found."""
        manifest = read_manifest(folder, ("file", "person", "yaw_deg", "pitch_deg", "roll_deg"))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in self.readers}
        seen: dict[str, Seen] = {}
        for name in tqdm(files_of(folder, "dev")[:limit], desc="portraits"):
            image = read_image(folder / name)[0]
            face = numbers.look(self.landmarker, image)
            if face is None:
                continue
            seen[name] = Seen.of(image, face)
            # the manifest's signs: pitch > 0 looks down, roll > 0 is counter-clockwise
            yaw, pitch, roll = (float(manifest[name][f"{axis}_deg"]) for axis in ("yaw", "pitch", "roll"))
            for reader, values in found.items():
                pose = torch.tensor([yaw, -pitch, -roll])
                values.append(numbers.portrait_numbers(self.readers[reader], self.landmarker, seen[name], pose))
        for reader, values in found.items():
            means, count = numbers.means(values), len(values)
            self.put(reader, "landmarks, % of the inter-ocular distance", 100 * means["landmarks"])
            self.put(reader, "the same, 95th percentile", 100 * sorted(v["landmarks"] for v in values)[int(0.95 * count)])
            for axis in ("yaw", "pitch", "roll"):
                middle = sorted(v[axis] for v in values)[count // 2]
                error = sum(abs(v[axis] - middle) for v in values) / count
                self.put(reader, f"{axis} against the portraits' table, degrees, without the median difference", error)
            self.put_all(reader, means, PORTRAIT)
        return seen

    def times(self, seen: Seen) -> None:
        eight = Seen(*(x.expand(8, *x.shape[1:]).contiguous() for x in (seen.picture, seen.known, seen.landmarks, seen.scores)))
        for reader, module in self.readers.items():
            self.put(reader, "time of a face, ms (one thread)", numbers.milliseconds(partial(seen.read, module)))
            self.put(reader, "time of a face in a batch of 8, ms", numbers.milliseconds(partial(eight.read, module)) / 8)

    def steadiness(self, folder: Path, seen: dict[str, Seen], count: int) -> None:
        """Disturbed stills of `count` of the portraits in `folder`, and short videos in which they move smoothly.

        Portraits whose face is lost in half of the stills or in any frame do not count."""
        still: dict[str, list[dict[str, float]]] = {name: [] for name in self.readers}
        moving: dict[str, list[dict[str, float]]] = {name: [] for name in self.readers}
        for index, name in enumerate(tqdm(list(seen)[:: max(1, len(seen) // count)][:count], desc="steadiness")):
            generator = torch.Generator().manual_seed(index)
            stills = numbers.disturbed(read_image(folder / name)[0], DISTURBED, generator)
            shown = [Seen.of(picture, face) for picture in stills if (face := numbers.look(self.landmarker, picture)) is not None]
            video, truth = numbers.moving(seen[name], seen[name].read(self.fit), self.head, FRAMES, generator)
            side = video[0].shape[-1]
            whole = FaceCrop(0, 0, side, side, side, side)  # a tracked crop moves smoothly: here it stands still
            frames = [Seen.of(frame, face, whole) for frame in video if (face := numbers.look(self.landmarker, frame)) is not None]
            if len(shown) < DISTURBED // 2 or len(frames) < len(video):
                continue
            for reader, module in self.readers.items():
                still[reader].append(numbers.spread_numbers(FaceAttributes.cat([one.read(module) for one in shown])))
                moving[reader].append(numbers.jitter_numbers(FaceAttributes.cat([one.read(module) for one in frames]), truth))
        for what, rows in (("disturbed pictures, standard deviation", still), ("smooth motion, second difference of the error", moving)):
            for reader, values in rows.items():
                self.put_all(reader, numbers.means(values), STEADY, f"{what}: ")

    def synthetic(self, folder: Path) -> None:
        """Both pictures of rendered pairs, whose codes are known."""
        parts = [read_shard(path, ("images", *FIELDS), "`prepare people`") for path in shards_in(folder)]
        data = {name: torch.cat([part[name].flatten(0, 1) for part in parts]) for name in ("images", *FIELDS)}
        truth = attributes_of(data, self.head)
        kept, found = self._read(data["images"], truth)
        for reader, faces in found.items():
            exact = numbers.exact_numbers(self.head, faces, truth[kept])
            self.put_all(reader, exact, EXACT, f"{len(kept)} rendered faces, exact codes: ")

    def _read(self, pictures: Tensor, truth: FaceAttributes) -> tuple[list[int], dict[str, FaceAttributes]]:
        """Which of the pictures (B,3,S,S) uint8 show a face where it must be, and what the estimators say of those."""
        kept, looks = [], []
        for index in tqdm(range(len(pictures)), desc="rendered people", leave=False):
            picture = pictures[index].float() / 255
            face = numbers.look(self.landmarker, picture, self.fit.landmarks(truth[index], picture.shape[-1])[0])
            if face is not None:
                kept.append(index)
                known = torch.ones(1, 1, *picture.shape[-2:])
                looks.append(Seen(picture[None], known, face.landmarks[None], face.blendshapes[None]))
        found = {reader: FaceAttributes.cat([one.read(module) for one in looks]) for reader, module in self.readers.items() if looks}
        return kept, found

    def tones(self, folder: Path, makehuman: Path | None, people: int) -> None:
        """The share of the skin in the light. With MakeHuman's assets what is missing in `folder` is rendered."""
        if makehuman is not None:
            render_tones(folder, SyntheticPeople(makehuman, self.head), people)
        values: dict[str, list[float]] = {name: [] for name in self.readers}
        for path in tqdm(sorted(folder.glob("*.safetensors"))[:people], desc="skin tones"):
            data = read_shard(path, ("images", *FIELDS), "`evaluate --tones` with --makehuman")
            kept, found = self._read(data["images"], attributes_of(data, self.head))
            if len(kept) == len(data["images"]):
                for reader, faces in found.items():
                    values[reader].append(numbers.tone_numbers(faces.light.unflatten(0, (len(TONES), -1)))["ratio"])
        for reader, ratios in values.items():
            if ratios:
                label = f"light of {len(ratios)} rendered people in {len(TONES)} skin tones: spread over tones / over lights"
                self.put(reader, label, sum(ratios) / len(ratios))
                self.put(reader, "worst person of these", max(ratios))

    def markdown(self) -> str:
        """The best number of every row in bold."""
        return "\n".join(table(["", *self.readers], [[label, *self._cells(row)] for label, row in self.rows.items()]))

    def _cells(self, row: Mapping[str, float]) -> Sequence[str]:
        best = min(row.values()) if len(row) > 1 else None
        return [f"**{row[reader]:.3g}**" if row[reader] == best else f"{row[reader]:.3g}" for reader in self.readers]


def compare(readers: Mapping[str, Reader], head: HeadModel) -> Comparison:
    """A comparison that is empty yet, of the bundled landmark fit ("fit") and of others."""
    fit = landmark_fit(head)
    return Comparison({"fit": fit, **readers}, FaceLandmarker.load(), fit)


def render_tones(folder: Path, people: SyntheticPeople, count: int) -> None:
    """Files of `count` people, each in every skin tone under every light, that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        path = folder / f"{seed}.safetensors"
        if not path.exists():
            grid = people.tone_light_grid(seed, TONES, LIGHTS)
            write_shard(path, {**grid.attributes.tensors(), "images": to_bytes(grid.image)})
