"""Where a photograph's expression and the head model's differ: how far coefficients are stretched,
and how wide lids are.

Shape letters: B batch, V vertices, E expression coefficients.

A fit keeps expressions near the blendshape scores and its coefficients small, lids cover a part of
every iris, and lips of a photograph keep their shading when they move. So the scores measured on
moved photographs followed those of the query by less than one; the factors of GAIN stretch the
difference of source and target. They were chosen on training portraits: on 80 pairs the scores that
are left fell from 0.46 to 0.40 of what they were. Eyes are no concern of theirs: see `eyes`.

Eyes in photographs are open a little wider than the head model's, and what of an iris the lids
cover would not move with a head that turns. So the lids are opened by WIDER.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel

# Of the ARKit coefficients, both sides; the others are taken as they are. Jaw and lips that a
# photograph shows move as the mesh does.
GAIN = {
    "mouthSmile": 1.15,
    "mouthPucker": 1.35,
    "mouthFrown": 1.4,
    "mouthUpperUp": 1.4,
    "mouthLowerDown": 1.3,
    "jawOpen": 1.2,
}
# The first SMALL of these scores takes more of a face than what follows: corners of mouths and jaws of 700 photographs against their scores
STARTS = {"mouthSmile": 0.04, "jawOpen": 0.07}
SMALL = 0.2
# Score by which a coefficient may grow as it is in an edit by numbers, and the share of what is asked beyond. 43 training people
# who smile with a score of 0.8 raise the corners of their mouths by 0.07 of the distance between their eyes; the mesh would by 0.15
EASED = {"mouthSmile": 0.4}
EASY = 0.4
LEAST, MOST = -0.1, 1.1  # of a stretched coefficient: shapes are linear, and tear beyond
# In inter-ocular distances. The lids of the training portraits lie 0.015 farther apart than on the
# fitted heads, but an iris moves whole only if all of it is inside the opening.
WIDER = 0.06
CORNERS = (((33, 133), "Right"), ((263, 362), "Left"))  # landmarks of the outer and inner corner, and the subject's side
REACH = 0.6  # of the eye's width: how far above and below the opening the skin moves along


def gains(names: tuple[str, ...], like: Tensor, table: Mapping[str, float] = GAIN, default: float = 1.0) -> Tensor:
    """The factor of every coefficient.

    Args:
        names: the head's expressions.
        like: a tensor of the wanted device and type.
        table: by name, without a side.
        default: of names that are not in it.

    Returns:
        (E,).
    """
    return like.new_tensor([table.get(name.removesuffix("Left").removesuffix("Right"), default) for name in names])


def stretch_expression(source: FaceAttributes, target: FaceAttributes, names: tuple[str, ...]) -> FaceAttributes:
    """The target, with its expression farther from the source's.

    Args:
        source: B faces.
        target: B faces.
        names: the head's expressions.

    Returns:
        B faces. Equal expressions stay equal bit for bit, and so do coefficients whose factor is 1.
    """
    factor = gains(names, source.expression)[: source.expression.shape[1]]
    own, wanted = source.expression, target.expression
    start = gains(names, source.expression, STARTS, 0.0)[: source.expression.shape[1]]
    sooner = start * ((wanted / SMALL).clamp(0, 1) - (own / SMALL).clamp(0, 1))
    change = wanted - own
    knee = gains(names, source.expression, EASED, torch.inf)[: source.expression.shape[1]]
    change = torch.where(changed_by_number(source, target), change.minimum(knee) + EASY * (change - knee).clamp_min(0), change)
    moved = own + factor * (change + sooner)
    moved = moved.maximum(wanted.clamp_max(LEAST)).minimum(wanted.clamp_min(MOST))
    return replace(target, expression=torch.where((factor == 1) | (wanted == own), wanted, moved))


def changed_by_number(source: FaceAttributes, target: FaceAttributes) -> Tensor:
    """(B,1) bool: which targets are the photograph's own faces, changed by numbers. Another photograph's tells with the rest of its
    coefficients how it smiles."""
    if source.mouth is None or target.mouth is None:
        return torch.zeros_like(source.expression[:, :1], dtype=torch.bool)
    return source.mouth.same(target.mouth)[:, None]


def lid_offsets(head: HeadModel, expression: Tensor) -> Tensor:
    """How much wider the lids are open than the unposed head's. Closed eyes stay closed.

    Args:
        head: the head model.
        expression: (B,E).

    Returns:
        (B,V,3) in the head's unit, to add to the unposed vertices; all zeros for heads without
        labelled eyes and MediaPipe's landmarks.
    """
    still = torch.zeros(len(expression), head.vertex_count, 3, device=expression.device, dtype=expression.dtype)
    if not head.has_face_mesh or not bool(head.vertex_mask("eyes").any()):
        return still
    points = head.landmarks(head.template[None])[0]
    centres = [points[list(pair)].mean(0) for pair, _ in CORNERS]
    distance = (centres[0] - centres[1]).norm()
    lids = head.vertex_mask("face", "sockets")
    for (pair, side), middle in zip(CORNERS, centres, strict=True):
        width = (points[pair[0]] - points[pair[1]]).norm()
        away = (head.template - middle) / width
        across = (1 - (away[:, 0] / 0.55).square()).clamp_min(0)
        above = away[:, 1]
        bump = across * torch.exp(-((above / REACH) ** 2)) * (away[:, 2].abs() < 1) * lids
        lifted = 0.5 * WIDER * distance * bump * torch.tanh(20 * above)  # (V,)
        blink = f"eyeBlink{side}"
        if blink in head.expression_names:
            lifted = lifted * (1 - expression[:, head.expression_names.index(blink), None].clamp(0, 1))
        still[..., 1] += lifted
    return still
