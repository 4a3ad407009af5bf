"""From pictures to crops and attributes: what several nodes share.

Shape letters: B frames, H and W picture height and width, C crop side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..difffae.common.errors import ImageError
from ..difffae.estimation.choose import estimate as estimate_faces
from ..difffae.faces.crop import FaceCrop, crop_square, extract
from ..difffae.faces.tracking import Track, faces_from_mediapipe, faces_in_boxes, follow_face, join_track, smooth_crops
from ..difffae.head.attributes import FaceAttributes
from .bundle import Bundle, each_chunk
from .frames import common_batch, frames
from .sockets import Crop

CHUNK = 16  # frames at a time, which bounds the memory


def identity_tokens(bundle: Bundle, crop: Crop) -> Tensor:
    """(B,I), who is in each crop."""
    network = bundle.identity
    landmarks = crop.landmarks[..., :2].to(crop.picture.device)
    return torch.cat([network.embed(crop.picture[part], landmarks[part]) for part in each_chunk(len(crop.picture), CHUNK)])


def crop_faces(
    bundle: Bundle,
    pictures: Tensor,
    index: int = 0,
    interpolate: bool = False,
    smoothing: float = 0.0,
    face_landmarks: Mapping[str, Any] | None = None,
    bboxes: Any = None,
    name: str = "image",
    original: Tensor | None = None,
) -> Crop:
    """pictures (B,3,H,W), of the IMAGE `original` -> the squares around one face. Landmarks come from face_landmarks or bboxes if given,
    else from the detector."""
    track = _track(bundle, pictures, index, interpolate, face_landmarks, bboxes, name)
    shape = (pictures.shape[-2], pictures.shape[-1])
    squares = smooth_crops([crop_square(points, shape, bundle.image_size) for points in track.landmarks], smoothing)
    picture, known = extract(pictures, squares)
    inside = torch.stack([square.to_crop(points) for square, points in zip(squares, track.landmarks, strict=True)])
    return Crop(squares, picture, known, inside, track.blendshapes, original)


def _track(
    bundle: Bundle, pictures: Tensor, index: int, interpolate: bool, face_landmarks: Mapping[str, Any] | None, bboxes: Any, name: str
) -> Track:
    if face_landmarks is not None:
        faces = faces_from_mediapipe(_per_frame(face_landmarks["frames"], len(pictures), "face_landmarks"), pictures.device)
        size = tuple(face_landmarks.get("image_size", pictures.shape[-2:]))
        if size != tuple(pictures.shape[-2:]):
            raise ImageError(
                f"face_landmarks: found in a {size[1]}x{size[0]} picture, but {name} is {pictures.shape[-1]}x{pictures.shape[-2]}"
            )
    elif bboxes is not None:
        boxes = _per_frame(_box_lists(bboxes), len(pictures), "bboxes")
        faces = [faces_in_boxes(bundle.landmarker, picture, some) for picture, some in zip(pictures, boxes, strict=True)]
    else:
        landmarker = bundle.landmarker
        faces = [found for part in each_chunk(len(pictures), CHUNK) for found in landmarker.detect(pictures[part])]
    return join_track(follow_face(faces, index), interpolate, name)


def _box_lists(bboxes: Any) -> list[list[dict]]:
    """BOUNDING_BOX as one list per frame; core gives a box, a list of boxes, or lists of lists."""
    if isinstance(bboxes, Mapping):
        return [[dict(bboxes)]]
    if not bboxes or isinstance(bboxes[0], Mapping):  # an empty list is one frame in which nothing was found
        return [list(bboxes)]
    return [list(some) for some in bboxes]


def _per_frame(items: Sequence, batch: int, name: str) -> list:
    items = list(items) * (batch if len(items) == 1 else 1)
    if len(items) != batch:
        raise ImageError(f"{name}: has {len(items)} frames, but image has {batch}; give 1, or as many")
    return items


def as_crop(bundle: Bundle, pictures: Tensor, crop: Crop | None = None, name: str = "image") -> Crop:
    """Pictures (B,3,H,W) with their landmarks. Those of `crop` are used if it is given, else they are searched: in squares of the model's
    size, which are taken as they are, or around the largest face of any other picture. Raises ImageError if crop and pictures differ."""
    if crop is not None:
        return _of_crop(crop, pictures, name)
    side = bundle.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        return crop_faces(bundle, pictures, name=name)
    track = _track(bundle, pictures, 0, False, None, None, name)
    squares = [FaceCrop(0, 0, side, side, side, side)] * len(pictures)
    return Crop(squares, pictures, torch.ones_like(pictures[:, :1]), track.landmarks, track.blendshapes)


def _of_crop(crop: Crop, pictures: Tensor, name: str) -> Crop:
    """The pixels of pictures (a crop that was worked on, or the crop itself) with the landmarks of a crop."""
    have, need = (f"{shown.shape[-1]}x{shown.shape[-2]}" for shown in (pictures, crop.picture))
    if have != need:
        hint = "wire the crop picture of the same Crop Face, or leave crop unwired"
        raise ImageError(f"{name}: is {have}, but crop is for {need}; {hint}")
    batch = common_batch({name: len(pictures), "crop": len(crop.picture)})
    squares = crop.squares if len(crop.squares) == batch else crop.squares * batch
    rest = (frames(values.to(pictures.device), batch) for values in (pictures, crop.known, crop.landmarks, crop.blendshapes))
    return Crop(squares, *rest, crop.original)


def estimate(bundle: Bundle, crop: Crop, kind: str = "fit") -> FaceAttributes:
    """The numbers of the faces in their crops; kind: "fit" for the bundle's own estimator, or "network"."""
    estimator = bundle.network if kind == "network" else bundle.estimator
    device = crop.picture.device
    parts = []
    for part in each_chunk(len(crop.picture), CHUNK):
        scores, known = crop.blendshapes[part].to(device), crop.known[part]
        parts.append(estimate_faces(estimator, crop.picture[part], crop.landmarks[part].to(device), scores, known))
    return FaceAttributes.cat(parts)
