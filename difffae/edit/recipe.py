"""How a picture was made, stored inside the picture and readable back.

Shape letters: B frames, S side of a square crop in pixels.
A PNG carries the recipe as JSON in the text chunk "difffae"; every format carries an XMP packet with the IPTC digital source type,
the creator tool and the same JSON. Nothing in a recipe depends on the clock or on folders: equal edits give equal files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import PngImagePlugin
from torch import Tensor

from .. import __version__
from ..common import xmp
from ..common.checkpoint import Checkpoint, load_checkpoint
from ..common.errors import AttributeShapeError, ConfigError, ImageError
from ..common.fingerprint import file_sha256
from ..common.images import opened
from ..faces.landmarker import FaceLandmarker
from ..head.attributes import FaceAttributes
from ..source.identity import IdentityEncoder

FORMAT = "difffae-recipe/1"
CHUNK = "difffae"
XMP_RECIPE = "difffae:Recipe"
# "Augmentation, correction or enhancement using a Generative AI model, such as with inpainting or outpainting": a photograph that a
# trained model edited. compositeSynthetic is for a new picture assembled of several elements, trainedAlgorithmicMedia for one
# without a photograph. A preview without diffusion has no generative model, but the codes for plain algorithms say that the main
# content did not change, and a turned face is a change; so it gets the same code. (IPTC NewsCodes, wording of September 2024.)
EDITED_PHOTOGRAPH = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True)
class CheckpointInfo:
    """Which weights file a model came from."""

    name: str
    path: Path
    license: str
    identity: str = ""  # name of the identity network that a model was trained with

    @classmethod
    def read(cls, path: str | Path) -> CheckpointInfo:
        """Reads the file's header only. Raises CheckpointError."""
        return cls.of(load_checkpoint(path, parts=()), path)

    @classmethod
    def of(cls, checkpoint: Checkpoint, path: str | Path) -> CheckpointInfo:
        """Of a checkpoint that was read from `path`."""
        return cls(Path(path).stem, Path(path), checkpoint.license, checkpoint.config.get("identity", {}).get("network", ""))

    @cached_property
    def sha256(self) -> str:
        """Computed when first asked for."""
        return file_sha256(self.path)

    def record(self) -> dict[str, str]:
        """What a recipe stores: the name and the hash, not the folder."""
        record = {"name": self.name, "sha256": self.sha256, "license": self.license}
        return record | ({"identity": self.identity} if self.identity else {})


def software(**others: str) -> dict[str, str]:
    """Versions of DiffFAE and PyTorch, and of whatever else had a part, such as comfyui="0.3.60"."""
    return {"difffae": __version__, "torch": str(torch.__version__), **others}


@dataclass(frozen=True)
class Recipe:
    """How a picture, or a batch of frames, was made. All values are plain JSON values; they are copied.

    software             name -> version
    checkpoint           {"name", "sha256", "license"} and, if known, "identity": the identity network (see CheckpointInfo.record), or None
    steps                what was done, in order: {"command": "edit", "seed": 0, ...} or {"node": "KSampler", ...}
    attributes           the target as FaceAttributes.to_json writes it, parsed; 1 row or one per frame; or None
    identity_distance    one number per frame, source to result; None for a frame without a face; or None altogether
    digital_source_type  URI of IPTC's vocabulary http://cv.iptc.org/newscodes/digitalsourcetype/
    Raises ConfigError for values of another kind.
    """

    software: dict[str, str] = field(default_factory=software)
    checkpoint: dict[str, str] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] | None = None
    identity_distance: list[float | None] | None = None
    digital_source_type: str = EDITED_PHOTOGRAPH

    def __post_init__(self) -> None:
        for item in fields(self):
            try:
                # tuples become lists now, so that what is read back is equal; and later changes by the caller do not reach in
                plain = json.loads(json.dumps(getattr(self, item.name), allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"recipe: {item.name} cannot be written as JSON ({error}); use numbers, texts and lists") from error
            object.__setattr__(self, item.name, plain)
        for name, fits in {
            "software": _texts(self.software),
            "checkpoint": self.checkpoint is None or (_texts(self.checkpoint) and self.checkpoint.keys() >= {"name", "sha256", "license"}),
            "steps": isinstance(self.steps, list) and all(isinstance(step, dict) for step in self.steps),
            "attributes": self.attributes is None or isinstance(self.attributes, dict),
            "identity_distance": self.identity_distance is None or _numbers(self.identity_distance),
            "digital_source_type": isinstance(self.digital_source_type, str) and self.digital_source_type.isprintable(),
        }.items():
            if not fits:
                raise ConfigError(f"recipe: {name} is not of the kind that a recipe holds; see difffae/edit/recipe.py")
        if len(self._batches() - {1}) > 1:
            counts = " and ".join(map(str, sorted(self._batches())))
            raise ConfigError(f"recipe: attributes and identity distances are of {counts} frames; give 1 or one per frame")

    def _batches(self) -> set[int]:
        """Numbers of rows that the fields with rows have."""
        rows = [value for value in (self.attributes or {}).values() if isinstance(value, list)]
        return {len(value) for value in [*rows, *([self.identity_distance] if self.identity_distance is not None else [])]}

    @property
    def frames(self) -> int:
        """Frames of the batch; 1 also if nothing differs between frames."""
        return max(self._batches(), default=1)

    def frame(self, index: int) -> Recipe:
        """The recipe of one frame. What all frames share stays. Raises ConfigError for a frame that the batch does not have."""
        if index < 0 or 1 < self.frames <= index:
            raise ConfigError(f"recipe: there is no frame {index} of {self.frames}; choose 0 to {self.frames - 1}")

        def row(value: Any) -> Any:
            return [value[index]] if isinstance(value, list) and len(value) > 1 else value

        attributes = None if self.attributes is None else {name: row(value) for name, value in self.attributes.items()}
        return replace(self, attributes=attributes, identity_distance=row(self.identity_distance))

    def face_attributes(self) -> FaceAttributes | None:
        """The target attributes as tensors, to use them again. Raises ConfigError if they are damaged."""
        if self.attributes is None:
            return None
        try:
            return FaceAttributes.from_json(json.dumps(self.attributes))
        except (IndexError, AttributeShapeError) as error:
            raise ConfigError(f"recipe: its attributes are damaged ({error}); use text that DiffFAE wrote") from error

    def to_json(self) -> str:
        """One line of ASCII that `from_json` reads back exactly."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @staticmethod
    def from_json(text: str) -> Recipe:
        """Keys of later versions of the same format are left out. Raises ConfigError if the text is not a recipe."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"recipe: is not JSON ({error}); use text that DiffFAE wrote") from error
        if not isinstance(data, dict) or not str(data.get("format")).startswith("difffae-recipe/"):
            raise ConfigError("recipe: is JSON, but not a DiffFAE recipe; use text that DiffFAE wrote")
        if data["format"] != FORMAT:
            raise ConfigError(f"recipe: is of format '{data['format']}', but only {FORMAT} is known here; update DiffFAE")
        missing = [item.name for item in fields(Recipe) if item.name not in data]
        if missing:
            raise ConfigError(f"recipe: lacks {', '.join(missing)}; use text that DiffFAE wrote")
        return Recipe(**{item.name: data[item.name] for item in fields(Recipe)})

    def chunks(self) -> dict[str, str]:
        """PNG text chunks."""
        return {CHUNK: self.to_json()}

    def packet(self) -> bytes:
        """The XMP packet, with the JSON once more: it survives programs that keep XMP and drop text chunks."""
        tool = f"DiffFAE {self.software.get('difffae', '')}".strip()
        return xmp.write_packet(
            {
                "xmp:CreatorTool": tool if tool.isprintable() else "DiffFAE",  # XML has no control characters
                "Iptc4xmpExt:DigitalSourceType": self.digital_source_type,
                XMP_RECIPE: self.to_json(),
            }
        )


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(x is None or (isinstance(x, int | float) and not isinstance(x, bool)) for x in value)


def pnginfo(recipe: Recipe, extra: Mapping[str, str] | None = None) -> PngImagePlugin.PngInfo:
    """Chunks for Pillow's `save(..., pnginfo=)`; extra texts, such as ComfyUI's "prompt" and "workflow", stand beside the recipe."""
    return xmp.pnginfo({**(extra or {}), **recipe.chunks()}, recipe.packet())


@torch.no_grad()
def identity_distances(
    landmarker: FaceLandmarker, identity: IdentityEncoder, before: Tensor, after: Tensor, landmarks: Tensor | None = None
) -> list[float | None]:
    """How far each edited crop is from the person of its source crop; None where either shows no face.

    Both crops are measured alike, so that an unchanged one has the distance 0.

    Args:
        before: (B or 1,3,S,S) RGB 0..1.
        after: (B,3,S,S).
        landmarks: (B or 1,478,3) of the source's face in pixels of its crop: of several faces in a crop the one nearest to it counts.
            None: the one in the middle.
    """

    def token(crop: Tensor, place: Tensor) -> Tensor | None:
        faces = landmarker.detect(crop)[0]
        if not faces:
            return None
        points = min((face.landmarks for face in faces), key=lambda p: float((p[:, :2].mean(0) - place.to(p)).norm()))
        return identity.embed(crop[None], points[None])[0]

    places = before.new_full((1, 2), before.shape[-1] / 2) if landmarks is None else landmarks[..., :2].mean(1)
    tokens = [[token(crop, places[row % len(places)]) for row, crop in enumerate(crops)] for crops in (before, after)]
    pairs = zip(tokens[0] * (len(after) if len(before) == 1 else 1), tokens[1], strict=True)
    # four digits: more would only tell one processor's rounding from another's
    return [None if a is None or b is None else round(float(identity.distance(a, b)), 4) for a, b in pairs]


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a saved picture. Raises ImageError if there is no picture or no recipe, ConfigError if it cannot be understood."""
    with opened(path) as picture:
        text = _stored(picture.info, xmp.stored_packet(picture))
        if text is None:
            picture.load()  # some programs put the chunks behind the pixels
            text = _stored(picture.info, xmp.stored_packet(picture))
    if text is None:
        raise ImageError(f"{path}: carries no DiffFAE recipe; give the file as DiffFAE wrote it, other programs may remove it")
    try:
        return Recipe.from_json(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _stored(info: Mapping[Any, Any], packet: bytes | None) -> str | None:
    text = info.get(CHUNK)
    if isinstance(text, str):
        return text
    return None if packet is None else xmp.read_property(packet, XMP_RECIPE)
