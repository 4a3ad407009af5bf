"""What comes into view where something of a person is taken away: the background beside it, drawn in, and the body behind it.

Shape letters: B batch, C channels, H and W picture sides. Lengths are shares of the longer side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, flow_grid, gather, gaussian_blur, harmonic_fill, nearest_inside, odd, opened, pull_push

RIM = 0.02  # of what stays, whose background is drawn in to it
REACH, REACH_OF_GAP = 0.06, 1.6  # how far around the gap the background is drawn along, at least, and in widths of the gap
SMOOTH = 0.035  # standard deviation of the blur of what is drawn where
OUTLINE = 0.01  # the same of what hides: strands are no outline to draw along
EVEN = 0.006  # standard deviation of the blur of how much farther it looks
NARROW = 0.03  # widest gap that is closed by a mirror
MIRRORED = 0.12  # reach of a mirror beside clothes
BORDER = 0.06  # at the picture's border nothing moves


def drawn_in(picture: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """A background that was hidden, drawn in from beside it as a retoucher would: the photograph's own pixels, stretched, so that nothing
    is made up and no outline stays behind.

    Args:
        picture: (B,C,H,W) in 0..1, even sides.
        before: (B,1,H,W) share of what hides the background in the picture, with its soft rim.
        after: (B,1,H,W) share of what hides it afterwards.

    Returns:
        picture (B,C,H,W) of the background alone, and where it is another than the picture itself (B,1,H,W) in 0..1.
    """
    height, width = picture.shape[-2:]
    side = max(height, width)
    covered = (before > 0.02).to(picture)
    covered = covered.maximum((gaussian_blur(covered, OUTLINE * side) > 0.15).to(picture))
    seen = 1 - covered
    stays = (after > 0.5).to(picture)
    gap = covered * (1 - stays)
    if not bool((gap > 0).any()) or not bool((seen > 0).any()):
        return picture, torch.zeros_like(before)
    index, away = nearest_inside(seen[:, 0] > 0)
    rows, columns = torch.meshgrid(torch.arange(height, device=index.device), torch.arange(width, device=index.device), indexing="ij")
    there = torch.stack([index % width - columns, torch.div(index, width, rounding_mode="floor") - rows], 1).to(picture)
    # what stays leads with its rim: there begins the background that was beside the old outline
    # narrow gaps need no stretching: a mirror does
    near_gap = dilate(opened(gap, odd(NARROW * side)), odd(2 * RIM * side))
    lead = stays * near_gap * covered * (1 - erode(stays, odd(2 * RIM * side)))
    widest = float((away[:, None] * gap).amax())
    reach = max(REACH * side, REACH_OF_GAP * widest)
    far = 1 - dilate(gap.maximum(lead), odd(2 * reach))
    ends = torch.zeros_like(gap)
    frame = max(1, round(BORDER * side / 4))
    ends[..., :frame, :] = ends[..., -frame:, :] = ends[..., :, :frame] = ends[..., :, -frame:] = 1
    still = far.maximum(seen * ends)
    lead = lead * (1 - still)
    smooth = gaussian_blur(there * lead, SMOOTH * side) / gaussian_blur(lead, SMOOTH * side).clamp_min(1e-4)
    flow = harmonic_fill(smooth * lead, (lead + still).clamp(max=1))
    # the gap never shows itself: what would look into it looks as far beyond its border, or at that
    for times in (2.0, 1.0):
        grid = flow_grid(flow)
        looked = F.grid_sample(seen, grid, mode="nearest", padding_mode="border", align_corners=False)
        hidden = (looked < 0.5).to(picture)
        step = times * hidden * F.grid_sample(there, grid, mode="nearest", padding_mode="border", align_corners=False)
        flow = flow + gaussian_blur(step, max(0.5, EVEN * side))  # pixels that leap one by one are specks
    filled = torch.lerp(pull_push(picture, seen), picture, seen)
    result = F.grid_sample(filled, flow_grid(flow), mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    return result, (flow.square().sum(1, keepdim=True).sqrt() / 0.5).clamp(0, 1).maximum(covered)


def continued(picture: Tensor, known: Tensor) -> Tensor:
    """A picture (B,3,H,W) of one thing everywhere, of which a mask (B,1,H,W) shows some: beside it as in a mirror, farther on in smooth
    colours."""
    height, width = picture.shape[-2:]
    side = max(height, width)
    sure = known[:, 0] > 0.5
    index, away = nearest_inside(sure)
    row, column = (at.to(index) for at in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    y, x = 2 * torch.div(index, width, rounding_mode="floor") - row, 2 * (index % width) - column
    mirror = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    smooth = pull_push(picture, known.square())
    share = gather(known, mirror) * (1 - away[:, None] / (MIRRORED * side)).clamp(0, 1)
    share = gaussian_blur(share, 0.006 * side).minimum(share)
    return torch.lerp(torch.lerp(smooth, gather(picture, mirror), share), picture, sure[:, None].to(picture))
