"""First step of an edit: from pictures to faces, their numbers and their tokens.

Shape letters: B faces, H and W picture height and width, S side of the square crops, K slots, D token size, I identity size.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.transparency import Transparency, opaque
from ..common.batches import common_batch, expanded
from ..common.errors import ImageError
from ..estimation.choose import Estimator, estimate
from ..faces.crop import crop_square, extract
from ..faces.landmarker import Face
from ..faces.quarter_turns import turned, turned_points, turns_to_upright
from ..faces.tracking import follow_face, join_track, smooth_crops
from ..head.attributes import FaceAttributes
from ..person.lent_mouth import mouth_patches
from ..source.regions import Layers, fitted_regions, layers
from ..source.slots import UNKNOWN_ORDER, SlotEncoder
from ..vocabulary import MISSING_FACE, REGIONS
from .description import Faces, Parts, Portrait, SlotTokens
from .native import native_side, resize

log = logging.getLogger(__name__)
CHUNK = 16  # faces at a time, which bounds the memory
AnyFaces = TypeVar("AnyFaces", bound=Faces)


@dataclass(frozen=True)
class Choice:
    """Which face of a picture is meant, and how it is followed through a video.

    index        number of the face in the first frame that shows one, the largest first
    missing      one of vocabulary.MISSING_FACE: frames without the face are an error, or get their numbers from those around them
    smoothing    frames over which the place and size of the squares are averaged; 0 follows the face exactly
    """

    index: int = 0
    missing: str = MISSING_FACE[0]
    smoothing: float = 0.0


def analyse(
    parts: Parts, pictures: Tensor, choice: Choice | None = None, name: str = "image", found: Sequence[Sequence[Face]] | None = None
) -> Faces:
    """Find one face per picture, cut out its square and estimate its numbers. Tokens are encoded when an edit needs them (`with_slots`).

    Args:
        parts: the networks.
        pictures: (B,3,H,W) RGB 0..1, the frames of one video or a single picture.
        choice: which face.
        name: what messages call the pictures.
        found: the faces of every picture, if somebody else looked for them.

    Raises:
        NoFaceError: a picture shows no face. FaceChoiceError: it has fewer faces than were asked for.
    """
    return with_attributes(parts, find_faces(parts, pictures, choice, name, found))


def detect(parts: Parts, pictures: Tensor) -> list[list[Face]]:
    """All faces of every picture (B,3,H,W), the largest first."""
    landmarker = parts.landmarker
    return [found for part in parts.chunks(len(pictures), CHUNK) for found in landmarker.detect(pictures[part])]


def find_faces(
    parts: Parts,
    pictures: Tensor,
    choice: Choice | None = None,
    name: str = "image",
    found: Sequence[Sequence[Face]] | None = None,
    original: Tensor | None = None,
) -> Faces:
    """The squares around one face, followed from picture to picture.

    Args:
        pictures: (B,3,H,W) RGB 0..1. Faces that lie or stand on their heads are turned upright by quarters, with the pictures.
        found: the faces of every picture, if somebody else looked for them.
        original: (B,3,H,W), kept in place of `pictures` for pasting, where they lie on another device.

    Raises:
        NoFaceError, FaceChoiceError: as `analyse`.
    """
    choice = choice or Choice()
    found = detect(parts, pictures) if found is None else found
    identity = parts.identity if len(pictures) > 1 else None
    followed = follow_face(found, choice.index, name, pictures, identity)
    return _squares(parts, pictures, (found, followed), choice, name, original)


def _squares(
    parts: Parts,
    pictures: Tensor,
    faces: tuple[Sequence[Sequence[Face]], Sequence[Face | None]],
    choice: Choice,
    name: str,
    original: Tensor | None,
    turns: int | None = None,
) -> Faces:
    """`find_faces` for all faces of the pictures, and the followed ones. turns: that bring the pictures upright, None for those of the
    faces."""
    found, followed = faces
    track = join_track(followed, choice.missing, name)
    turns = turns_to_upright(track.landmarks) if turns is None else turns
    size = (pictures.shape[-2], pictures.shape[-1])
    places = turned_points(track.landmarks, turns, *size)
    kept = turned(pictures if original is None else original, turns)
    pictures = turned(pictures, turns)
    shape = (pictures.shape[-2], pictures.shape[-1])
    squares = smooth_crops([crop_square(points, shape, parts.image_size) for points in places], choice.smoothing)
    picture, inside = extract(pictures, squares)
    landmarks = torch.stack([square.to_crop(points) for square, points in zip(squares, places, strict=True)])
    near = [turned_points(others_beside(faces, one), turns, *size) for faces, one in zip(found, followed, strict=True)]
    others = tuple(square.to_crop(points.to(landmarks)) for square, points in zip(squares, near, strict=True))
    gaps = track.gaps
    return Faces(picture, inside, tuple(squares), kept, landmarks, track.blendshapes, others=others, gaps=gaps, turns=turns, name=name)


def find_all_faces(
    parts: Parts, pictures: Tensor, name: str = "image", found: Sequence[Sequence[Face]] | None = None, original: Tensor | None = None
) -> Faces:
    """The squares around all faces of one picture, the largest first.

    Args:
        pictures: (1,3,H,W) RGB 0..1.
        found, original: as `find_faces`.

    Raises:
        ImageError: more than one picture. NoFaceError: it shows no face.
    """
    if len(pictures) != 1:
        raise ImageError(f"{name}: has {len(pictures)} frames; all faces are taken from one picture at a time, choose a face for a video")
    found = detect(parts, pictures) if found is None else found
    each: list[Faces] = []
    for index in range(max(1, len(found[0]))):
        followed = follow_face(found, index, name)
        each.append(_squares(parts, pictures, (found, followed), Choice(index), name, original, each[0].turns if each else None))

    def rows(field: str) -> Tensor:
        return torch.cat([getattr(one, field) for one in each])

    return replace(
        each[0],
        picture=rows("picture"),
        inside_picture=rows("inside_picture"),
        squares=tuple(one.squares[0] for one in each),
        landmarks=rows("landmarks"),
        blendshapes=rows("blendshapes"),
        others=tuple(one.others[0] for one in each),
        one_picture=True,
    )


def in_picture(portrait: Portrait, image: Tensor, alpha: Tensor | None = None) -> Portrait:
    """The same face in the picture (3,H,W) as it looks by now, after other faces of it were edited. alpha: (1,H,W), of a cut-out."""
    pictures, transparency = opaque(image, alpha)
    upright = turned(pictures, portrait.turns)
    picture, _ = extract(upright.to(portrait.picture), portrait.crop)
    return with_transparency(replace(portrait, picture=picture, original=upright), transparency)


def others_beside(faces: Sequence[Face], chosen: Face | None) -> Tensor:
    """(n,478,3): the landmarks of all faces of a picture but the chosen one; none where that was not found."""
    others = [face.landmarks for face in faces if face is not chosen]
    return torch.stack(others) if others and chosen is not None else torch.zeros(0, 478, 3)


def as_squares(parts: Parts, pictures: Tensor, name: str = "image") -> Faces:
    """Pictures (B,3,H,W) as faces: squares of the model's size are taken as they are, in others the largest face is looked for.

    Raises:
        NoFaceError: a picture shows no face.
    """
    side = parts.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        return find_faces(parts, pictures, name=name)
    return with_landmarks(parts, Faces(pictures, torch.ones_like(pictures[:, :1]), name=name))


def resized(parts: Parts, pictures: Tensor, name: str = "image") -> Faces:
    """Pictures (B,3,H,W) of any shape, stretched to the model's square, in which no face is known yet."""
    side = parts.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return Faces(pictures, torch.ones_like(pictures[:, :1]), name=name)


def with_pictures(faces: Faces, pictures: Tensor, name: str = "image") -> Faces:
    """Other pixels (B,3,S,S) in the same squares, such as a crop that was worked on, or (B,3,N,N) as they were moved.

    Raises:
        ImageError: the pictures have another size or number than the squares.
    """
    if tuple(pictures.shape[-2:]) == (native_side(faces),) * 2:
        pictures = resize(pictures, faces.picture.shape[-1]).clamp(0, 1)
    have, need = (f"{shown.shape[-1]}x{shown.shape[-2]}" for shown in (pictures, faces.picture))
    if have != need:
        hint = "wire the crop picture of the same Crop Face, or leave crop unwired"
        raise ImageError(f"{name}: is {have}, but crop is for {need}; {hint}")
    batch = common_batch({name: len(pictures), "crop": len(faces)})

    def rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else expanded(values.to(pictures.device), batch)

    squares = faces.squares if len(faces.squares) == batch else faces.squares * batch
    return replace(
        faces,
        picture=expanded(pictures, batch),
        inside_picture=expanded(faces.inside_picture.to(pictures.device), batch),
        squares=squares,
        landmarks=rows(faces.landmarks),
        blendshapes=rows(faces.blendshapes),
        gaps=faces.gaps if len(faces) == batch else None,
        name=name,
    )


def with_landmarks(parts: Parts, faces: Faces) -> Faces:
    """The same faces with landmarks, looked for in the squares if they are not known yet. Raises NoFaceError."""
    if faces.landmarks is not None:
        return faces
    found = detect(parts, faces.picture)
    followed = follow_face(found, 0, faces.name)
    track = join_track(followed, name=faces.name)
    others = tuple(others_beside(near, one) for near, one in zip(found, followed, strict=True))
    return replace(faces, landmarks=track.landmarks, blendshapes=track.blendshapes, others=others)


def with_attributes(parts: Parts, faces: Faces, estimator: Estimator | None = None) -> Faces:
    """The same faces with the numbers of the 3D head, estimated if they are not known yet."""
    if faces.attributes is not None:
        return faces
    return replace(faces, attributes=estimated(parts, faces, estimator))


def estimated(parts: Parts, faces: Faces, estimator: Estimator | None = None) -> FaceAttributes:
    """The numbers of the 3D head. Raises NoFaceError for squares without landmarks in which no face is found."""
    faces = with_landmarks(parts, faces)
    assert faces.landmarks is not None
    assert faces.blendshapes is not None
    reader = parts.estimator if estimator is None else estimator
    device = faces.picture.device
    found = []
    for part in parts.chunks(len(faces), CHUNK):
        points, scores = faces.landmarks[part].to(device), faces.blendshapes[part].to(device)
        numbers = estimate(reader, faces.picture[part], points, scores, faces.inside_picture[part])
        found.append(replace(numbers, mouth=mouth_patches(faces.picture[part], points)))
    # what was read off frames that do not show the face means nothing
    return FaceAttributes.cat(found) if faces.gaps is None else faces.gaps.fill_attributes(FaceAttributes.cat(found))


def with_slots(parts: Parts, faces: AnyFaces) -> AnyFaces:
    """The same faces with tokens, masks, matte and hair, encoded if they are not known yet."""
    if faces.slots is not None:
        return faces
    encoder = parts.encoder
    encoded = [encoder(faces.picture[part]) for part in parts.chunks(len(faces), CHUNK)]
    tokens = torch.cat([row[0] for row in encoded])
    if not isinstance(encoder, SlotEncoder):
        return replace(faces, slots=SlotTokens(tokens))
    masks = torch.cat([row[1] for row in encoded])
    matte = None if parts.matte is None else parts.matte(faces.picture)
    hair = None if parts.hair is None else parts.hair(faces.picture)
    return replace(faces, slots=SlotTokens(tokens, masks, encoder.config.order, matte, hair))


def with_transparency(faces: AnyFaces, transparency: Transparency | None) -> AnyFaces:
    """Faces with the transparency of their pictures as these were given."""
    return faces if transparency is None else replace(faces, transparency=transparency.turned(faces.turns))


def with_own_matte(faces: Faces) -> Faces:
    """Faces whose alpha says where the person is; those without one, or without slots, are returned as they are."""
    if faces.transparency is None or not faces.transparency.cuts_out or faces.slots is None or not faces.squares:
        return faces
    rows = max(len(faces.squares), len(faces.transparency.alpha))
    found = [extract(faces.transparency.row(row).alpha.to(faces.picture), faces.square(row))[0] for row in range(rows)]
    matte = torch.cat(found)
    return replace(faces, slots=replace(faces.slots, matte=matte))


def identity_tokens(parts: Parts, faces: Faces) -> Tensor:
    """(B,I), who is in each square. Raises NoFaceError for squares without landmarks in which no face is found."""
    faces = with_landmarks(parts, faces)
    assert faces.landmarks is not None
    points = faces.landmarks[..., :2].to(faces.picture.device)
    return torch.cat([parts.identity.embed(faces.picture[part], points[part]) for part in parts.chunks(len(faces), CHUNK)])


def layers_of(slots: SlotTokens, pictures: Tensor, batch: int, rows: slice = slice(None)) -> Layers | None:
    """What squares (b,3,N,N) of any side show where: they are some rows of `batch`; slots of as many faces, or of one. None for an encoder
    that knows no regions, or not which slot is which."""
    if slots.masks is None or not slots.order:
        return None
    masks = expanded(slots.masks, batch)[rows].to(pictures)
    matte, hair = (_shares_of(values, pictures, batch, rows) for values in (slots.matte, slots.hair))
    return layers(masks, slots.order, pictures, matte, hair)


def _shares_of(values: Tensor | None, pictures: Tensor, batch: int, rows: slice) -> Tensor | None:
    """Some rows of shares (B or 1,1,S,S) at the size of their pictures (b,3,N,N)."""
    if values is None:
        return None
    values, size = expanded(values, batch)[rows].to(pictures), tuple(pictures.shape[-2:])
    return values if tuple(values.shape[-2:]) == size else F.interpolate(values, size, mode="bilinear", align_corners=False)


def region_masks(slots: SlotTokens, pictures: Tensor) -> list[Tensor]:
    """(B,1,H,W) for every region of vocabulary.REGIONS, fitted to the edges of pictures (B,3,H,W) of any size; they sum to 1.
    Where it is not known which slot is which they are empty, and a warning says so: edits need no regions."""
    assert slots.masks is not None
    if not slots.order:
        log.warning("region masks are empty: %s", UNKNOWN_ORDER)
        return [torch.zeros_like(pictures[:, :1]) for _ in REGIONS]
    masks, matte, size = slots.masks, slots.matte, tuple(pictures.shape[-2:])
    side = tuple(masks.shape[-2:] if matte is None else matte.shape[-2:])
    if size != side:  # fitted at the model's size: large pictures would take minutes
        pictures = F.interpolate(pictures, side, mode="bilinear", antialias=True, align_corners=False)
    parts = [slice(first, first + CHUNK) for first in range(0, len(pictures), CHUNK)]
    mattes = [[None if one is None else one[p] for one in (matte, slots.hair)] for p in parts]
    found = [fitted_regions(masks[p], slots.order, pictures[p], *told) for p, told in zip(parts, mattes, strict=True)]
    shares = torch.cat(found).clamp(0, 1)
    if size != side:
        shares = F.interpolate(shares, size, mode="bilinear", align_corners=False)
    return list(shares.split(1, dim=1))
