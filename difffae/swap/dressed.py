"""What a whole photograph shows of a person and the clothes.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..carry.cutout import unmixed
from ..common.pixels import dilate, erode, gaussian_blur, odd
from ..faces.crop import FaceCrop
from ..source.whole_matte import resized, working_size

SURE = 0.98  # alpha from which on a pixel is the person's alone
COARSE, SAMPLES, LIKE = 160, 600, 0.03  # side at which bare skin is looked for, colours that are compared, and how alike

RIM = 0.05  # of the face's side: how wrong the head model may be at a jaw
RARE, UNLIKE = 12, 0.2  # colours of a face that are passed over, and how different from the others skin is not


@dataclass(frozen=True, eq=False)
class Dressed:
    """A whole photograph of a person.

    Attributes:
        picture: (1,3,H,W) RGB 0..1.
        alpha: (1,1,H,W) share of the person.
        hair: (1,1,H,W) in 0..1.
        cloth: (1,1,H,W) in 0..1.
        face: (1,1,H,W) 1 on the head model's face and ears.
        square: of the face in the picture.
        camera: (3,) of the head in the square: p = s (x + t).
    """

    picture: Tensor
    alpha: Tensor
    hair: Tensor
    cloth: Tensor
    face: Tensor
    square: FaceCrop
    camera: Tensor

    def reduced(self, largest_side: float = float("inf")) -> Dressed:
        """The same at the size at which whole pictures are worked on.

        Args:
            largest_side: pixels that the face's square has at most then.
        """
        height, width = self.picture.shape[-2:]
        size = working_size(self.picture)
        share = largest_side / (self.square.side * size[1] / width)
        if share < 1:
            size = max(2, round(size[0] * share) // 2 * 2), max(2, round(size[1] * share) // 2 * 2)
        fields = {name: resized(getattr(self, name), size) for name in ("picture", "alpha", "hair", "cloth", "face")}
        x, y = size[1] / width, size[0] / height
        one = self.square
        square = replace(one, left=round(one.left * x), top=round(one.top * y), side=round(one.side * x), height=size[0], width=size[1])
        return replace(self, square=square, **fields)

    @property
    def middle(self) -> float:
        """Column of the head's middle, in pixels."""
        scale, x, _ = self.camera.tolist()
        return self.square.left + (scale * x + 1) / 2 * self.square.side

    @property
    def chin(self) -> float:
        """Lowest row of the face, in pixels."""
        there = self.face[0, 0].amax(1).nonzero()
        return float(there.max()) if len(there) else self.square.centre[1]

    def below_chin(self, higher: float = 0.0) -> Tensor:
        """(1,1,H,W): 1 below the middle of the face, where clothes may be.

        Args:
            higher: from how much farther up, as a share of the face's side.
        """
        rows = torch.arange(self.face.shape[-2], device=self.face.device, dtype=self.face.dtype)[:, None]
        return ((rows - self.chin) / (0.05 * self.square.side) + 3.5 + higher / 0.05).clamp(0, 1).expand_as(self.face)

    def column(self, half: float) -> Tensor:
        """(1,1,H,W): 1 around the column of the head's middle, 0 beyond it.

        Args:
            half: of its width, as a share of the face's side.
        """
        columns = torch.arange(self.alpha.shape[-1], device=self.alpha.device, dtype=self.alpha.dtype)
        return (1 - ((columns - self.middle).abs() / (half * self.square.side) - 0.8) / 0.4).clamp(0, 1).expand_as(self.alpha)

    def tops(self) -> Tensor:
        """(W,): the row in which the body begins, by columns; nan where hair is in front of it, or nothing is there."""
        body = (self.alpha * (1 - self.hair))[0, 0] * self.below_chin()[0, 0] > 0.5
        hair = dilate(self.hair, odd(0.03 * self.square.side))[0, 0] > 0.5
        height = body.shape[0]
        rows = torch.arange(height, device=body.device)[:, None]
        first = torch.where(body, rows, height).amin(0)
        there = first.clamp(max=height - 1)
        columns = torch.arange(body.shape[1], device=body.device)
        good = (first < height) & ~hair[there, columns] & (first > 0)
        return torch.where(good, first.to(self.picture), torch.nan)


def inner_face(one: Dressed) -> Tensor:
    """The face without its rim, where the head model may be wrong by so much.

    Args:
        one: the photograph.

    Returns:
        (1,1,H,W) in 0..1, mouth and eyes included.
    """
    u = RIM * one.square.side
    with_mouth = one.face.cummax(-1).values * one.face.flip(-1).cummax(-1).values.flip(-1)
    return gaussian_blur(erode(with_mouth, odd(2 * u)), max(0.5, 0.1 * u))


def like_skin(one: Dressed) -> Tensor:
    """What has colours of the lower face, beards included.

    Args:
        one: the photograph.

    Returns:
        (1,1,H,W) in 0..1; 1 everywhere if too little of the face is seen.
    """
    side, size = one.square.side, (one.picture.shape[-2], one.picture.shape[-1])
    scale = min(1.0, COARSE / side)
    coarse = max(2, round(size[0] * scale)), max(2, round(size[1] * scale))
    rows = torch.arange(size[0], device=one.face.device)[:, None]
    lower = erode(one.face, odd(0.03 * side)) * (1 - one.hair) * (rows > one.chin - 0.35 * side)
    picture, lower = resized(one.picture, coarse), resized(lower, coarse)[0, 0] > 0.9
    colours = picture[0].permute(1, 2, 0)
    known = some(colours[lower])
    if len(known) < 2 * RARE:
        return torch.ones_like(one.alpha)
    cost = torch.cat([torch.cdist(part, known).kthvalue(RARE, 1).values for part in colours.flatten(0, 1).split(4096)])
    return resized(((UNLIKE - cost) / (4 * LIKE) + 0.5).clamp(0, 1).view(1, 1, *coarse), size)


def foreground(picture: Tensor, alpha: Tensor) -> Tensor:
    """Colours (1,3,H,W) of what a picture shows by an alpha (1,1,H,W), without what shines through."""
    return torch.where(alpha > SURE, picture, unmixed(picture, alpha)[0])


def some(rows: Tensor, most: int = SAMPLES) -> Tensor:
    """At most so many of some rows (N,C), evenly picked."""
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), most), device=rows.device).round().long()]
