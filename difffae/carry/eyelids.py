"""Eyes in photographs are open a little wider than the head model's (for `carry`): what of an iris its lids cover would not move.

Shape letters: B batch, V vertices, E expression coefficients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.morphable import LABELS, HeadModel

# In inter-ocular distances. The lids of the training portraits lie 0.015 farther apart than on the fitted heads, but an iris moves whole
# only if all of it is inside the opening: the gaze of carried portraits followed by 0.40 with 0, by 0.49 with 0.03, by 0.58 with 0.06.
WIDER = 0.06
CORNERS = (((33, 133), "Right"), ((263, 362), "Left"))  # landmarks of the outer and inner corner, and the subject's side
REACH = 0.6  # of the eye's width: how far above and below the opening the skin moves along


def lid_offsets(head: HeadModel, expression: Tensor) -> Tensor:
    """Where the lids lie beside the unposed head's: (B,V,3) in the head's unit, for HeadModel.forward. expression (B,E).

    Closed eyes stay closed. All zeros for heads without labelled eyes and MediaPipe's landmarks.
    """
    still = torch.zeros(len(expression), head.vertex_count, 3, device=expression.device, dtype=expression.dtype)
    if len(head.landmark_faces) < 468 or not bool((head.labels == LABELS.index("eyes")).any()):
        return still
    points = head.landmarks(head.template[None])[0]
    centres = [points[list(pair)].mean(0) for pair, _ in CORNERS]
    distance = (centres[0] - centres[1]).norm()
    lids = torch.isin(head.labels, torch.tensor([LABELS.index(name) for name in ("face", "sockets")], device=head.labels.device))
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
