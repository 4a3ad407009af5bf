"""Swaps by photograph through the nodes: the library's pixels, batches, references of references, detail, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from inprocess import Pack
from pictures import NO_FACE, SIDE, batch_of, own_pixels, part, portrait, raises
from torch import Tensor


class Face:
    """Everything that a swap needs of a picture."""

    def __init__(self, pack: Pack, image: Tensor, wired: bool = True) -> None:
        self.image = image
        self.picture, _, self.crop = pack.run("DiffFAECropFace", image=image)
        (self.own,) = pack.run("DiffFAEEstimateAttributes", image=self.picture, crop=self.crop)
        given = {"crop": self.crop} if wired else {}
        self.slots = pack.run("DiffFAEEncodeSlots", image=self.picture, **given)[0]

    def carried(self, pack: Pack, slots, target=None):
        given = {"image": self.picture, "source": self.own, "target": self.own if target is None else target, "crop": self.crop}
        return pack.run("DiffFAECarryPhoto", **given, slots=slots)[2]


def swapped(pack: Pack, slots, reference, *regions: str, **more):
    wanted = {name: name in regions for name in ("hair", "clothes", "background")}
    return pack.run("DiffFAESwapSlots", slots=slots, reference=reference, **wanted, **more)[0]


@pytest.fixture(scope="module")
def source(pack: Pack) -> Face:
    return Face(pack, portrait("source.png"))


@pytest.fixture(scope="module")
def officer(pack: Pack) -> Face:
    return Face(pack, portrait("query.png"))


def test_the_carried_photograph_is_the_librarys(pack: Pack, source: Face, officer: Face) -> None:
    regions = ("hair", "clothes", "background")
    carry = source.carried(pack, swapped(pack, source.slots, officer.slots, *regions))
    model = pack.library("edit.editor").DiffFAE.from_pretrained()
    sampling = pack.library("edit.description").Sampling(steps=1)
    result = model.swap(source.image[0].movedim(-1, 0), officer.image[0].movedim(-1, 0), regions, sampling=sampling)
    # moved in the source's own pixels; the library tells of them at the size of its squares
    side = pack.library("edit.native").native_side(source.crop)
    assert carry.image.shape[-2:] == carry.validity.shape[-2:] == (side, side)
    resize = pack.library("edit.native").resize
    assert (resize(carry.image, SIDE).clamp(0, 1) - result.carried).abs().max() < 2e-3
    assert (resize(carry.validity, SIDE, "bilinear") - result.validity).abs().max() < 5e-3
    assert not carry.unchanged.any()
    # the flag at the frame's left is the reference's, the face the source's
    face = (110, 150, 115, 145)
    behind = pack.library("swap.backgrounds").covering(officer.image.movedim(-1, 1), tuple(source.image.shape[1:3]))
    assert (carry.stage.image - behind)[..., 20:150, :40].abs().mean() < 0.02
    assert torch.equal(part(carry.image, *face), part(own_pixels(pack, source.crop), *face))


def test_nothing_swapped_is_the_same_object(pack: Pack, source: Face, officer: Face) -> None:
    assert swapped(pack, source.slots, officer.slots) is source.slots
    assert swapped(pack, source.slots, officer.slots, "hair", strength=0.0) is source.slots
    assert source.carried(pack, source.slots).unchanged.all()


def test_tokens_alone_free_the_region(pack: Pack, source: Face, officer: Face) -> None:
    alone = swapped(pack, source.slots, officer.slots, "background", photo=False)
    whole = swapped(pack, source.slots, officer.slots, "background")
    state = pack.library("edit.moving").swapped
    assert torch.equal(state(alone).tokens, state(whole).tokens)
    assert (state(alone).taken, state(whole).redraw) == ((), None)
    freed, taken = source.carried(pack, alone), source.carried(pack, whole)
    assert torch.equal(freed.image, own_pixels(pack, source.crop))
    corner = (20, 120, 0, 40)
    assert part(freed.validity, *corner).max() == 0 < 0.9 < part(taken.validity, *corner).mean()


def test_the_last_swap_of_a_region_counts(pack: Pack, source: Face, officer: Face) -> None:
    """Hair and background by photograph, then the background by tokens alone: the background is freed, the hair stays taken."""
    both = swapped(pack, source.slots, officer.slots, "hair", "background")
    later = swapped(pack, both, officer.slots, "background", photo=False)
    state = pack.library("edit.moving").swapped
    assert [one.regions for one in state(later).taken] == [("hair",)]
    assert part(source.carried(pack, later).validity, 20, 120, 0, 40).max() < 1e-3
    assert state(swapped(pack, later, officer.slots, "hair", photo=False)).taken == ()


def test_a_reference_that_was_swapped_passes_its_giver_on(pack: Pack, source: Face, officer: Face) -> None:
    """Hair of A into B, then hair and clothes of that into C: the hair is A's, the clothes B's."""
    other = Face(pack, portrait("surprised.jpg"))
    mixed = swapped(pack, officer.slots, other.slots, "hair", strength=0.5)
    through = swapped(pack, source.slots, mixed, "hair", "clothes")
    assert [(one.reference is other.slots, one.regions, one.strength) for one in pack.library("edit.moving").swapped(through).taken] == [
        (True, ("hair",), 0.5),
        (False, ("clothes",), 1.0),
    ]
    direct = swapped(pack, swapped(pack, source.slots, other.slots, "hair", strength=0.5), officer.slots, "clothes")
    assert torch.equal(source.carried(pack, through).image, source.carried(pack, direct).image)


def test_frames_share_a_reference_or_have_their_own(pack: Pack, officer: Face) -> None:
    clip = Face(pack, batch_of("256x256", "rgb", "one", 3))
    (targets,) = pack.run("DiffFAEAdjustAttributes", attributes=clip.own, yaw=8.0)
    slots = swapped(pack, clip.slots, officer.slots, "hair", "background")
    together = clip.carried(pack, slots, targets)
    assert len(together.image) == 3
    assert len(together.stage.image) == 3
    assert [len(one.offset_to_source) for one in together.references] == [3]
    single = Face(pack, clip.image[1:2])
    alone = single.carried(pack, swapped(pack, single.slots, officer.slots, "hair", "background"), targets[1:2])
    assert (alone.image[0] - together.image[1]).abs().mean() < 1e-3
    many = swapped(pack, officer.slots, clip.slots, "hair")
    assert len(officer.carried(pack, many).image) == 3
    two = Face(pack, clip.image[:2])
    with raises(pack, "ImageError", "reference: has 2 frames, but slots has 3; give 1, or as many"):
        swapped(pack, clip.slots, two.slots, "hair")


def grain(square: Tensor) -> float:
    """Standard deviation of what is finer than a few pixels, of an IMAGE (1,H,W,3)."""
    picture = square.movedim(-1, 1)
    return (picture - F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)).std().item()


def test_a_large_reference_lends_its_detail(pack: Pack) -> None:
    sizes = [F.interpolate(portrait(n).movedim(-1, 1), scale_factor=3, mode="bicubic").clamp(0, 1) for n in ("source.png", "query.png")]
    noise = F.avg_pool2d(torch.randn(1, 1, *sizes[1].shape[-2:], generator=torch.Generator().manual_seed(0)), 3, 1, 1)
    sizes[1] = (sizes[1] + 0.2 * noise).clamp(0, 1)
    large = Face(pack, sizes[0].movedim(1, -1))
    results = []
    for wired in (True, False):
        giver = Face(pack, sizes[1].movedim(1, -1), wired)
        carry = large.carried(pack, swapped(pack, large.slots, giver.slots, "background"))
        assert carry.stage.image.shape[-2:] == large.image.shape[1:3]
        edited = carry.image.movedim(1, -1)
        results.append(pack.run("DiffFAEPasteBack", original=large.image, edited=edited, crop=large.crop, carry=carry)[0])
    (square,) = large.crop.squares
    step = square.side // 8  # of the plain sky, at the frame's right
    top, left = 2 * step, large.image.shape[2] - step - step // 4
    fine, coarse = (grain(result[:, top : top + step, left : left + step]) for result in results)
    fitted = pack.library("swap.backgrounds").covering(sizes[1], tuple(large.image.shape[1:3])).movedim(1, -1)
    assert fine == pytest.approx(grain(fitted[:, top : top + step, left : left + step]), rel=0.05)
    assert fine > 0.01
    assert fine > 2.5 * coarse


def test_errors_name_the_reference(pack: Pack, source: Face) -> None:
    nobody = pack.run("DiffFAEEncodeSlots", image=batch_of("256x256", "rgb", "nobody", 1))[0]
    with raises(pack, "NoFaceError", NO_FACE.format("reference")):
        source.carried(pack, swapped(pack, source.slots, nobody, "background"))
    freed = source.carried(pack, swapped(pack, source.slots, nobody, "background", photo=False))
    assert freed.validity.min() == 0
