"""From pictures to faces: what ComfyUI's own sockets add to the library's first step.

Shape letters: B frames, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..difffae.common.errors import ConfigError, ImageError
from ..difffae.edit.analysing import Choice, as_squares, detect, find_all_faces, find_faces, with_pictures, with_transparency
from ..difffae.edit.description import Faces
from ..difffae.faces.landmarker import Face
from ..difffae.faces.tracking import faces_from_mediapipe, faces_in_boxes
from .bundle import Bundle
from .frames import as_original, to_pictures, transparency_of
from .wires import other_squares, tell


def faces_of(bundle: Bundle, pictures: Tensor, crop: Faces | None) -> Faces:
    """Pictures (B,3,H,W) as the faces of a Crop Face, or, unwired, as faces that are looked for. Raises ImageError, NoFaceError."""
    if crop is None:
        return as_squares(bundle, pictures)
    tell(other_squares(pictures, crop))
    return with_pictures(crop, pictures)


def chosen_faces(
    bundle: Bundle,
    image: Tensor,
    mask: Tensor | None,
    choice: Choice,
    all_faces: bool,
    face_landmarks: Mapping[str, Any] | None = None,
    bboxes: Any = None,
    segs: Any = None,
) -> Faces:
    """The squares around the face that is meant, or around all faces of a picture.

    Args:
        image: IMAGE (B,H,W,C), mask: MASK of a cut-out, or None.
        choice: which face, unless all_faces.
        face_landmarks, bboxes: ComfyUI's, and SEGS, of faces that somebody else found.

    Raises:
        ImageError, ConfigError, NoFaceError, FaceChoiceError.
    """
    pictures, original = to_pictures(image), as_original(image)
    transparency = transparency_of(image, mask)
    if transparency is not None:
        original = transparency.on_plate
        pictures = original.to(pictures)
    found = found_faces(bundle, pictures, face_landmarks, bboxes, segs)
    if all_faces:
        crop = find_all_faces(bundle, pictures, found=found, original=original)
    else:
        crop = find_faces(bundle, pictures, choice, found=found, original=original)
    return with_transparency(crop, transparency)


def found_faces(
    bundle: Bundle, pictures: Tensor, face_landmarks: Mapping[str, Any] | None, bboxes: Any, segs: Any = None
) -> list[list[Face]]:
    """The faces of every picture (B,3,H,W): those of ComfyUI's FACE_LANDMARKS, those in boxes or segments, or all that are found.

    Raises:
        ImageError: landmarks, boxes or segments of other pictures. ConfigError: boxes without place and size, or what are no SEGS.
    """
    if face_landmarks is not None:
        size = tuple(face_landmarks.get("image_size", pictures.shape[-2:]))
        if size != tuple(pictures.shape[-2:]):
            raise ImageError(
                f"face_landmarks: found in a {size[1]}x{size[0]} picture, but image is {pictures.shape[-1]}x{pictures.shape[-2]}"
            )
        return faces_from_mediapipe(_per_frame(face_landmarks["frames"], len(pictures), "face_landmarks"), pictures.device)
    if bboxes is None and segs is not None:
        bboxes = _boxes_of_segs(segs, (pictures.shape[-2], pictures.shape[-1]))
    if bboxes is not None:
        boxes = _per_frame(_box_lists(bboxes), len(pictures), "bboxes")
        return [faces_in_boxes(bundle.landmarker, picture, some) for picture, some in zip(pictures, boxes, strict=True)]
    return detect(bundle, pictures)


def _box_lists(bboxes: Any) -> list[list[dict]]:
    """BOUNDING_BOX as one list per frame; core gives a box, a list of boxes, or lists of lists."""
    if isinstance(bboxes, Mapping):
        return [[dict(bboxes)]]
    if not bboxes or isinstance(bboxes[0], Mapping):  # an empty list is one frame in which nothing was found
        return [list(bboxes)]
    return [list(some) for some in bboxes]


def _boxes_of_segs(segs: Any, size: tuple[int, int]) -> list[list[dict]]:
    """SEGS as one list of boxes, for all frames."""
    try:
        (height, width), segments = segs
        corners = [[float(number) for number in segment.bbox] for segment in segments]
        boxes = [{"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0} for x0, y0, x1, y1 in corners]
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError("segs: are not SEGS of a detector, which hold a size and segments with a bbox") from error
    if (height, width) != size:
        raise ImageError(f"segs: found in a {width}x{height} picture, but image is {size[1]}x{size[0]}")
    return [boxes]


def _per_frame(items: Sequence, batch: int, name: str) -> list:
    items = list(items) * (batch if len(items) == 1 else 1)
    if len(items) != batch:
        raise ImageError(f"{name}: has {len(items)} frames, but image has {batch}; give 1, or as many")
    return items
