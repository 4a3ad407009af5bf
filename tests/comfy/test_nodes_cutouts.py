"""Cut-outs through the nodes: Load Image's picture and mask, and pictures of four channels."""

from __future__ import annotations

import pytest
import torch
from inprocess import Pack
from pictures import portrait, raises
from torch import Tensor


@pytest.fixture(scope="module")
def cutout() -> tuple[Tensor, Tensor]:
    """A portrait (1,H,W,3), red outside of an ellipse, and Load Image's mask (1,H,W), 1 there."""
    image = portrait("source.png")
    height, width = image.shape[1:3]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    mask = ((rows / 1.0) ** 2 + (columns / 0.6) ** 2 > 0.8).float()[None]
    return torch.where(mask[..., None] > 0, torch.tensor([0.9, 0.0, 0.0]), image), mask


def turned(pack: Pack, image: Tensor, yaw: float, **mask: Tensor) -> tuple[Tensor, Tensor]:
    """Picture and mask of Paste Back after a turn."""
    square, _, crop = pack.run("DiffFAECropFace", image=image, **mask)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=square, crop=crop)
    (target,) = pack.run("DiffFAEAdjustAttributes", attributes=own, yaw=yaw)
    slots = pack.run("DiffFAEEncodeSlots", image=square)[0]
    shown, _, carry, *_ = pack.run("DiffFAECarryPhoto", image=square, source=own, target=target, crop=crop, slots=slots)
    result = pack.run("DiffFAEPasteBack", original=image, edited=shown, crop=crop, carry=carry)
    return result[0], result[2]


def test_the_mask_moves_with_the_person_in_both_conventions(pack: Pack, cutout: tuple[Tensor, Tensor]) -> None:
    image, mask = cutout
    picture, left = turned(pack, image, 15.0, mask=mask)
    assert picture.shape == image.shape
    assert left.shape == mask.shape
    assert 0.0005 < ((left - mask).abs() > 0.5).float().mean() < 0.2
    seen = left < 0.5
    assert ((picture[..., 0] - picture[..., 1:].amax(-1)) > 0.6)[seen].float().mean() < 1e-3  # no red
    whole, same = turned(pack, torch.cat([image, 1 - mask[..., None]], -1), 15.0)
    assert whole.shape[-1] == 4
    assert torch.equal(whole[..., :3], picture)
    assert torch.equal(1 - whole[..., 3], same)
    assert torch.equal(same, left)


def test_opaque_pictures_and_wrong_masks(pack: Pack, cutout: tuple[Tensor, Tensor]) -> None:
    image, mask = cutout
    # Load Image gives 64x64 zeros for a picture without transparency
    crop = pack.run("DiffFAECropFace", image=image, mask=torch.zeros(1, 64, 64))[2]
    assert crop.transparency is None
    side = image.shape[1]
    with raises(pack, "ImageError", f"mask: is 64x64, but image is {side}x{side}; wire the mask of the same Load Image"):
        pack.run("DiffFAECropFace", image=image, mask=torch.ones(1, 64, 64))
    still, left = turned(pack, image, 0.0, mask=mask)
    assert torch.equal(still, image)
    assert torch.equal(left, mask)
