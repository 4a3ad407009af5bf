"""Pictures of flat colours, whose every pixel is known."""

from __future__ import annotations

import torch

SIZE = 192
HAIR, SKIN, WALL = torch.tensor([0.25, 0.15, 0.1]), torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.3, 0.5, 0.7])
GREEN = torch.tensor([0.2, 0.8, 0.1])


def paint(*layers: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(1,3,SIZE,SIZE): a wall and what is in front of it, masks (1,1,SIZE,SIZE) with their colours."""
    picture = WALL[None, :, None, None].expand(1, 3, SIZE, SIZE)
    for mask, colour in layers:
        picture = torch.where(mask > 0, colour[None, :, None, None], picture)
    return picture.contiguous()
