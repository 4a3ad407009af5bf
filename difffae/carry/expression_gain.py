"""How much farther a carried photograph's expression has to move than the head model says, to arrive there (for `carry`).

Shape letters: B batch, E expression coefficients.

A fit keeps expressions near the blendshape scores and its coefficients small, lids cover a part of every iris, and lips of a photograph
keep their shading when they move. So the scores measured on carried photographs followed those of the query by less than one; these
factors stretch the difference of source and target. They were chosen on training portraits: on 80 pairs the scores that are left fell
from 0.46 to 0.40 of what they were, and irises followed by 0.67 instead of 0.57 of the query's way sideways.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..head.attributes import FaceAttributes

# Of the ARKit coefficients, both sides; the others are taken as they are. Jaw and lips that a photograph shows move as the mesh does.
GAIN = {
    "eyeLookIn": 1.5,
    "eyeLookOut": 1.5,
    "eyeLookUp": 1.8,
    "eyeLookDown": 1.4,
    "eyeBlink": 1.3,
    "mouthSmile": 1.15,
    "mouthPucker": 1.35,
    "mouthFrown": 1.4,
    "mouthUpperUp": 1.4,
    "mouthLowerDown": 1.3,
    "jawOpen": 1.2,
}
LEAST, MOST = -0.3, 1.1  # of a stretched coefficient: shapes are linear, and tear beyond
MOST_GAZE = 0.75  # an iris that is asked to go farther goes there unstretched, lest it leave the eye


def gains(names: tuple[str, ...], like: Tensor) -> Tensor:
    """(E,): the factor of every coefficient; 1 for names that are not ARKit's."""
    return like.new_tensor([GAIN.get(name.removesuffix("Left").removesuffix("Right"), 1.0) for name in names])


def _gaze(names: tuple[str, ...], like: Tensor) -> Tensor:
    return torch.tensor([name.startswith("eyeLook") for name in names], device=like.device)


def stretch_expression(source: FaceAttributes, target: FaceAttributes, names: tuple[str, ...]) -> FaceAttributes:
    """The target whose expression lies farther from the source's. source and target have equal batches; names: the head's expressions.

    Equal expressions stay equal bit for bit, and so do coefficients whose factor is 1.
    """
    factor = gains(names, source.expression)[: source.expression.shape[1]]
    own, wanted = source.expression, target.expression
    moved = own + factor * (wanted - own)
    most = torch.where(_gaze(names, own)[: own.shape[1]], MOST_GAZE, MOST)
    moved = moved.maximum(wanted.clamp_max(LEAST)).minimum(wanted.maximum(most))
    return replace(target, expression=torch.where((factor == 1) | (wanted == own), wanted, moved))
