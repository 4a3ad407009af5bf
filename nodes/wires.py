"""Wires that fit a socket but not the node: what they bring is looked at, and said on the node.

What cannot be meant is an error that names the input; what is only unlikely is told: in the log, and as text on the node in the page.

Shape letters: B frames, H and W picture height and width, S side of the square crops.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from ..difffae.common.errors import ConfigError, ImageError
from ..difffae.edit.description import Faces
from ..difffae.edit.moved_photo import MovedPhoto
from ..difffae.estimation.fit import LandmarkFit, inter_ocular
from ..difffae.faces.crop import crop_square
from ..difffae.faces.quarter_turns import turned
from ..difffae.head.attributes import FaceAttributes
from .bundle import Bundle

log = logging.getLogger(__name__)
# Measured on 29 portraits. Likeness of crops of two people: median 0.10, at most 0.86; of a crop and its worked-on self: above 0.9, of one
# turned by 25 degrees and relit from the side: 0.20 to 0.78
ALIKE = 0.5
WHOLE = 0.9
NOT_SQUARE = 0.03  # share by which the sides of a square may differ: others' nodes round
CROP_SIZES = (0.75, 1.35)  # side of a picture over that of Crop Face's square, as which it counts as one
# Mean distance of the head's landmarks from the picture's, of the eyes' distance. Of a face's own numbers 0.014 to 0.094 (median 0.019; the
# largest in profile), of other people's 0.05 and more, after a turn by 3 degrees 0.056 and more
FITS = (2.0, 0.02)  # factor and summand on what the best fit leaves, up to which numbers are those of a picture
BETTER = (1.3, 0.004)  # the same on the target's distance, beyond which source and target are exchanged
OTHER_HEAD = 1.5  # distance of two shapes: of two people 1.7 and more, of two readings of one portrait mostly below 0.5
LIT = 0.1  # distance of two lights that differ


def tell(*messages: str | None) -> None:
    """Warnings (None: nothing to say) in the log and on the node that runs now."""
    said = [message for message in messages if message]
    for message in said:
        log.warning(message)
    context = get_executing_context()
    if said and context is not None:
        PromptServer.instance.send_progress_text("\n".join(said), context.node_id)


def likeness(a: Tensor, b: Tensor) -> float:
    """How much the first of two batches of pictures (B,3,H,W) show the same: correlation of their brightness at 32x32; NaN of flat ones."""
    small = [F.interpolate(one[:1].float(), (32, 32), mode="area").mean(1).flatten() for one in (a, b)]
    return float(torch.corrcoef(torch.stack([one.to(small[0].device) for one in small]))[0, 1])


def is_square(pictures: Tensor) -> bool:
    height, width = pictures.shape[-2:]
    return abs(height - width) <= NOT_SQUARE * max(height, width)


def check_squares(pictures: Tensor, crop: Faces, name: str, belongs: str) -> None:
    """Squares (B,3,H,W) of any side that go with a crop.

    Args:
        belongs: what to wire there, for the message.

    Raises:
        ImageError: they are no squares, or the whole pictures that the squares were cut from.
    """
    whole = not is_square(pictures)
    if not whole and crop.original is not None:
        before = likeness(pictures, turned(crop.original[:1], -crop.turns))
        whole = before > WHOLE and before > likeness(pictures, crop.picture) + NOT_SQUARE
    if whole:
        raise ImageError(f"{name}: is a whole picture ({pictures.shape[-1]}x{pictures.shape[-2]}), but squares are needed; wire {belongs}")


def other_squares(pictures: Tensor, crop: Faces | None, name: str = "crop") -> str | None:
    """A warning if squares (B,3,S,S) show something else than those of the crop, or the tokens, that are wired beside them as `name`."""
    if crop is None or not likeness(pictures, crop.picture) < ALIKE:
        return None
    return f"{name}: was made of other squares than image shows; wire image and {name} from one Crop Face"


def whole_picture(bundle: Bundle, pictures: Tensor) -> str | None:
    """A warning if pictures (B,3,H,W) that came without a crop are no squares as Crop Face cuts them."""
    if tuple(pictures.shape[-2:]) == (bundle.image_size,) * 2:
        return None
    size = f"{pictures.shape[-1]}x{pictures.shape[-2]}"
    if is_square(pictures):
        found = bundle.landmarker.detect(pictures[:1])[0]
        share = pictures.shape[-1] / crop_square(found[0].landmarks, pictures.shape[-2:]).side if found else 0.0
        if CROP_SIZES[0] < share < CROP_SIZES[1]:
            return None
    return f"image: is a whole picture ({size}), stretched to a square here; wire the crop of a Crop Face, by which regions are told apart better"


def check_carry(bundle: Bundle, faces: Faces, crop: Faces | None, slots: Faces | None, target: FaceAttributes) -> list[str | None]:
    """What Carry Photo is given: squares with their numbers, the crop and the slots that should be theirs, and the numbers to reach.

    Returns:
        warnings.

    Raises:
        ConfigError: source and target are exchanged, or a model that is shown no photograph.
    """
    if not bundle.carries:
        raise ConfigError(f"difffae: {bundle.name} is shown no photograph; leave Carry Photo out, and set denoise to 1")
    told = [other_squares(faces.picture, crop), other_squares(faces.picture, slots, "slots")]
    assert faces.attributes is not None
    if faces.attributes.head == target.head and float((faces.attributes.shape[0].to(target.shape) - target.shape[0]).norm()) > OTHER_HEAD:
        told.append(
            "target: has the head of another person than source; wire Compose Face Attributes between, with this face as its source"
        )
    if told[0] is None:
        known = None if faces.original is None else crop  # squares that were worked on since may show the face elsewhere
        told.append(check_attributes(bundle, faces, known, faces.attributes, target))
    return told


def whole_preview(bundle: Bundle, image: Tensor) -> str | None:
    """A warning if an IMAGE (B,H,W,C) for a preview is no crop."""
    side = bundle.image_size
    if tuple(image.shape[1:3]) == (side, side):
        return None
    return f"image: is {image.shape[2]}x{image.shape[1]}, but the preview needs crops of {side}x{side}; wire the crop of Crop Face"


def check_attributes(
    bundle: Bundle, faces: Faces, known: Faces | None, source: FaceAttributes, target: FaceAttributes | None = None
) -> str | None:
    """Whether numbers are those of squares. Only the landmark fit can tell: for DECA's there is nothing to compare.

    Args:
        faces: the squares.
        known: the same with landmarks, or None: they are looked for.
        source: the numbers of these squares.
        target: those that they shall have, or None.

    Returns:
        a warning, or None.

    Raises:
        ConfigError: the target's numbers are those of the squares, and the source's are not.
    """
    estimator, side = bundle.estimator, faces.picture.shape[-1]
    if not isinstance(estimator, LandmarkFit) or source.head != bundle.head.name or tuple(faces.picture.shape[-2:]) != (side, side):
        return None
    row = next((row for row in range(len(faces)) if known is None or known.shows_face(row)), 0)
    seen = _seen(bundle, faces, known, row)
    if seen is None:
        return None
    points, scores = seen

    def distance(face: FaceAttributes) -> float:
        apart = (estimator.landmarks(face.to(points.device), side) - points[..., :2]).norm(dim=-1).mean()
        return float(apart / inter_ocular(points)[0])

    own = source[row if len(source) > 1 else 0]
    off, most = distance(own), FITS[0] * distance(estimator.fit_geometry(points, scores, side, side)) + FITS[1]
    if target is not None:
        wanted = target[row if len(target) > 1 else 0]
        reached = distance(wanted)
        better = off > BETTER[0] * reached + BETTER[1]
        if not better and abs(off - reached) < BETTER[1] and float((own.light - wanted.light.to(own.light)).norm()) > LIT:
            better = _light_exchanged(estimator, faces, row, seen, own, wanted)
        if better and reached < most:
            raise ConfigError(
                "source and target: are exchanged, the target's numbers are those of image; wire Estimate Face Attributes into source, and "
                "Compose or Adjust into target"
            )
    if off > most:
        return "source: is not what image shows; wire the attributes that Estimate Face Attributes read off the same crops"
    return None


def _seen(bundle: Bundle, faces: Faces, known: Faces | None, row: int) -> tuple[Tensor, Tensor] | None:
    """Landmarks (1,478,3) and scores (1,52) of one row, looked for if need be; None without a face."""
    if known is not None and known.landmarks is not None and known.blendshapes is not None:
        own = row if len(known.landmarks) > 1 else 0
        return known.landmarks[own][None].to(faces.picture.device), known.blendshapes[own][None].to(faces.picture.device)
    found = bundle.landmarker.detect(faces.picture[row : row + 1])[0]
    return (found[0].landmarks[None], found[0].blendshapes[None]) if found else None


def _light_exchanged(
    estimator: LandmarkFit, faces: Faces, row: int, seen: tuple[Tensor, Tensor], own: FaceAttributes, wanted: FaceAttributes
) -> bool:
    """Whether the target's light is that of the squares rather than the source's."""
    one = slice(row, row + 1)
    inside = faces.inside_picture[one if len(faces.inside_picture) > 1 else slice(None)]
    light = estimator(faces.picture[one], *seen, inside).light
    ours, theirs = (float((face.light.to(light) - light).norm()) for face in (own, wanted))
    return theirs < ours / 2 and ours > LIT


def check_paste(original: Tensor, edited: Tensor, crop: Faces, carry: MovedPhoto | None, mask: Tensor | None) -> Tensor | None:
    """What Paste Back is given: the pictures (B,3,H,W) and the squares to put into them; tells what is unlikely.

    Returns:
        the mask (B,1,H,W), of the whole pictures or of squares of any side, or None.

    Raises:
        ImageError: `edited` are no squares, or the mask is of something else.
    """
    check_squares(edited, crop, "edited", "the image of DiffFAE Sampler, VAE Decode or Carry Photo")
    tell(other_photograph(original, crop), other_carry(edited, carry))
    if mask is None:
        return None
    square = crop.square(0)
    known = {(square.height, square.width), (square.width, square.height) if crop.turns % 2 else (square.height, square.width)}
    if not is_square(mask) and tuple(mask.shape[-2:]) not in known:
        size, whole = f"{mask.shape[-1]}x{mask.shape[-2]}", f"{square.width}x{square.height}"
        raise ImageError(f"mask: is {size}, neither a square nor of the picture's size {whole}; wire a mask of the picture or of the crop")
    return mask


def other_photograph(pictures: Tensor, crop: Faces, name: str = "original") -> str | None:
    """A warning if pictures (B,3,H,W), as they were given, are not those that a crop was cut from."""
    if crop.original is None or not likeness(pictures, turned(crop.original[:1], -crop.turns)) < ALIKE:
        return None
    return f"{name}: is another picture than the one that crop was cut from; wire the same picture into both"


def check_report(source: Tensor, result: Tensor, crop: Faces) -> str | None:
    """A warning if the source of a report (B,3,H,W) is not what its crop was cut from. Raises ConfigError where it is the result."""
    assert crop.original is not None
    before = turned(crop.original[:1].to(result), -crop.turns)
    exchanged = before.shape[1:] == result.shape[1:] == source.shape[1:] and bool((before - result[:1]).abs().max() < 1e-3)
    if exchanged and bool((source[:1] - before).abs().max() > 1e-3):
        raise ConfigError("source and result: are exchanged, result is the picture that crop was cut from; wire the edited picture into it")
    return other_photograph(source, crop, "source")


def other_carry(edited: Tensor, carry: MovedPhoto | None) -> str | None:
    """A warning if squares (B,3,S,S) have nothing in common with the moved photograph that they should come from."""
    if carry is None or not likeness(edited, carry.square(carry.image)) < ALIKE / 2:
        return None
    return "carry: shows something else than edited; wire the carry that the conditioning of this edit was made with"


def check_render(render: Tensor) -> str | None:
    """A warning if an IMAGE (B,3,H,W) is no textured render of a head on black."""
    first = render[:1].float()
    head = first.amax(1, keepdim=True) > 0
    if float(head.float().mean()) > 0.98:
        return "render: is a picture, not a head on black; wire the render of Render Face"
    pixels = first.movedim(1, -1)[head[:, 0]]
    if not len(pixels):
        return "render: is black; wire the render of Render Face"
    lengths = (pixels * 2 - 1).norm(dim=-1)
    if float(((lengths - 1).abs() < 0.05).float().mean()) > 0.8:
        return "render: are the normals; wire the render of Render Face"
    if float((pixels.amax(-1) - pixels.amin(-1)).mean()) < 0.01:
        return "render: has no skin colour, which the model is told by; set shading of Render Face to textured"
    return None
