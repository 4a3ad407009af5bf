"""Batches: frames that go together, one that serves many, and what does not fit.

Every payload of one frame serves any number; unequal ones are refused with both inputs' names.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inprocess import Pack
from pictures import NO_FACE, batch_of, portrait, raises
from torch import Tensor


@pytest.fixture(scope="module")
def parts(pack: Pack) -> dict:
    """Three frames, and everything that was made of them."""
    images = batch_of("256x256", "rgb", "one", 3)
    picture, _, crop = pack.run("DiffFAECropFace", image=images)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    (target,) = pack.run("DiffFAEAdjustAttributes", attributes=own, yaw=12.0, smile=0.5, relight=True)
    slots = pack.run("DiffFAEEncodeSlots", image=picture)[0]
    (identity,) = pack.run("DiffFAEIdentityToken", image=picture, crop=crop)
    render = pack.run("DiffFAERenderFace", attributes=target)[0]
    carry = pack.run("DiffFAECarryPhoto", image=picture, source=own, target=target, crop=crop, slots=slots)[2]
    return {
        **{"images": images, "picture": picture, "crop": crop, "own": own, "target": target},
        **{"slots": slots, "identity": identity, "render": render, "carry": carry},
    }


def frame_crop(parts: dict, rows: slice):
    crop = parts["crop"]
    cut = {name: getattr(crop, name)[rows] for name in ("picture", "inside_picture", "squares", "landmarks", "blendshapes")}
    return replace(crop, **cut, original=crop.original[rows])


def frame_slots(parts: dict, rows: slice):
    faces = parts["slots"]
    slots = faces.slots
    cut = replace(slots, tokens=slots.tokens[rows], masks=slots.masks[rows], matte=slots.matte[rows], hair=slots.hair[rows])
    return replace(faces, picture=faces.picture[rows], inside_picture=faces.inside_picture[rows], slots=cut)


UNEQUAL = [  # the input with 2 frames, the one with 3, the node, and what else it gets
    ("identity", "slots", "DiffFAEConditioning", ("render",)),
    ("render", "slots", "DiffFAEConditioning", ("identity",)),
    ("target", "image", "DiffFAECarryPhoto", ("source",)),
    ("slots", "image", "DiffFAECarryPhoto", ("source", "target")),
    ("edited", "original", "DiffFAEPasteBack", ("crop",)),
    ("crop", "original", "DiffFAEPasteBack", ("edited",)),
    ("mask", "original", "DiffFAEPasteBack", ("edited", "crop")),
    ("result", "source", "DiffFAEReport", ()),
    ("image", "crop", "DiffFAEEstimateAttributes", ()),
    ("image", "crop", "DiffFAEIdentityToken", ()),
    ("pose", "source", "DiffFAEComposeAttributes", ()),
    ("reference", "slots", "DiffFAESwapSlots", ()),
]


@pytest.mark.parametrize(("short", "long", "node", "others"), UNEQUAL, ids=lambda value: value if isinstance(value, str) else "")
def test_unequal_batches_name_both_inputs(pack: Pack, parts: dict, short: str, long: str, node: str, others: tuple[str, ...]) -> None:
    def rows(name: str, count: int):
        images = {"original": "images", "edited": "picture", "result": "images", "image": "picture"}
        if name == "source" and node == "DiffFAEReport":
            return parts["images"][:count]
        if name == "mask":
            return torch.ones(count, 8, 8)
        if name == "crop":
            return frame_crop(parts, slice(count))
        if name in ("slots", "reference"):
            return frame_slots(parts, slice(count))
        return parts[{**images, "source": "own", "pose": "target"}.get(name, name)][:count]

    given = {name: rows(name, 1) for name in others} | {short: rows(short, 2), long: rows(long, 3)}
    with raises(pack, "ImageError", f"{short}: has 2 frames, but {long} has 3; give 1, or as many"):
        pack.run(node, **given)
    pack.run(node, **given | {short: rows(short, 3)})
    pack.run(node, **given | {short: rows(short, 1)})


def test_recipes_want_the_attributes_of_all_pictures(pack: Pack, parts: dict) -> None:
    with raises(pack, "ImageError", "attributes: has 2 frames, but images has 3; give 1, or as many"):
        pack.run("DiffFAESaveImage", {"prompt": {}, "unique_id": "1"}, images=parts["images"], attributes=parts["own"][:2])


def sampled(pack: Pack, slots, identity: Tensor, render: Tensor, carry, steps: int = 2) -> Tensor:
    positive, _, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render, carry=carry)
    return pack.run("DiffFAESampler", positive=positive, latent=latent, steps=steps)[0]


def test_a_batch_is_edited_like_its_frames(pack: Pack, parts: dict) -> None:
    batch = sampled(pack, parts["slots"], parts["identity"], parts["render"], parts["carry"])
    pasted, *_ = pack.run("DiffFAEPasteBack", original=parts["images"], edited=batch, crop=parts["crop"], carry=parts["carry"])
    assert (batch[0] - batch[1]).abs().max() > 0.05
    for number in range(3):
        rows = slice(number, number + 1)
        slots, crop = frame_slots(parts, rows), frame_crop(parts, rows)
        carry = pack.run(
            "DiffFAECarryPhoto",
            image=parts["picture"][rows],
            source=parts["own"][rows],
            target=parts["target"][rows],
            crop=crop,
            slots=slots,
        )[2]
        # a batch is moved at the side of its largest square; those of these frames are all below the smallest at which one is moved
        assert carry.image.shape == parts["carry"].image[rows].shape
        assert (carry.image - parts["carry"].image[rows]).abs().max() < 1e-4
        alone = sampled(pack, slots, parts["identity"][rows], parts["render"][rows], carry)
        assert (alone[0] - batch[number]).abs().max() < 1e-3  # sums of another order in matrix products
        single, *_ = pack.run("DiffFAEPasteBack", original=parts["images"][rows], edited=alone, crop=crop, carry=carry)
        assert (single[0] - pasted[number]).abs().max() < 1e-3


def test_tokens_without_a_matte_still_carry(pack: Pack, parts: dict) -> None:
    """As those of a profile without one are."""
    rows, slots = slice(0, 1), frame_slots(parts, slice(0, 1))
    assert slots.slots.matte.shape == (1, 1, 256, 256)
    old = replace(slots, slots=replace(slots.slots, matte=None))
    inputs = {
        "image": parts["picture"][rows],
        "source": parts["own"][rows],
        "target": parts["target"][rows],
        "crop": frame_crop(parts, rows),
    }
    carry = pack.run("DiffFAECarryPhoto", **inputs, slots=old)[2]
    assert carry.image.shape == parts["carry"].image[rows].shape
    assert (carry.image - parts["carry"].image[rows]).abs().max() > 0.01  # the matte tells more


def test_one_source_serves_many_targets(pack: Pack, parts: dict) -> None:
    first = slice(0, 1)
    slots, crop = frame_slots(parts, first), frame_crop(parts, first)
    (targets,) = pack.run("DiffFAESweepAttributes", attributes=parts["own"][first], number="yaw", start=-15.0, end=15.0, frames=3)
    carry = pack.run(
        "DiffFAECarryPhoto", image=parts["picture"][first], source=parts["own"][first], target=targets, crop=crop, slots=slots
    )[2]
    render = pack.run("DiffFAERenderFace", attributes=targets)[0]
    drawn = sampled(pack, slots, parts["identity"][first], render, carry)
    pasted, *_ = pack.run("DiffFAEPasteBack", original=parts["images"][first], edited=drawn, crop=crop, carry=carry)
    assert pasted.shape == (3, 256, 256, 3)
    (read,) = pack.run("DiffFAEEstimateAttributes", image=pasted)
    turns = [float(attributes) for attributes in _yaw(pack, read)]
    assert turns[0] < turns[1] - 5 < turns[2] - 10


def _yaw(pack: Pack, attributes) -> list[Tensor]:
    rotations = pack.library("common.rotations")
    turn = rotations.axis_angle_to_matrix(attributes.pose[:, :2])
    return [rotations.to_yaw_pitch_roll(rotations.matrix_to_axis_angle(one[0] @ one[1]))[..., 0] for one in turn]


def test_many_sources_take_one_target(pack: Pack, parts: dict) -> None:
    (reference,) = pack.run("DiffFAEEstimateAttributes", image=portrait("query.png"))
    (targets,) = pack.run("DiffFAEComposeAttributes", source=parts["own"], pose=reference, expression=reference, light=reference)
    assert len(targets) == 3
    assert torch.equal(targets.expression, reference.expression.expand(3, -1))
    assert torch.equal(targets.camera, parts["own"].camera)
    carry = pack.run(
        "DiffFAECarryPhoto", image=parts["picture"], source=parts["own"], target=targets, crop=parts["crop"], slots=parts["slots"]
    )[2]
    drawn = sampled(pack, parts["slots"], parts["identity"][:1], parts["render"][:1], carry)
    assert drawn.shape == (3, 256, 256, 3)


def test_pictures_with_a_crop_must_be_that_crop(pack: Pack, parts: dict) -> None:
    message = "image: is 900x600, but crop is for 256x256; wire the crop picture of the same Crop Face, or leave crop unwired"
    for node in ("DiffFAEEstimateAttributes", "DiffFAEIdentityToken"):
        with raises(pack, "ImageError", message):
            pack.run(node, image=batch_of("900x600", "rgb", "one", 1), crop=parts["crop"])
    # the pixels of the picture count, not those that were cropped
    tinted = parts["picture"] * torch.tensor([0.5, 0.8, 1.0])
    (blue,) = pack.run("DiffFAEEstimateAttributes", image=tinted, crop=parts["crop"])
    assert (blue.light - parts["own"].light).abs().max() > 0.05
    (token,) = pack.run("DiffFAEIdentityToken", image=tinted, crop=parts["crop"])
    assert (token - parts["identity"]).norm(dim=1).min() > 0.01


def test_the_smallest_and_the_strangest_pictures(pack: Pack) -> None:
    message = "image: has shape (1, 8, 8, 2); an IMAGE of shape (frames, height, width, 1, 3 or 4) is needed"
    with raises(pack, "ImageError", message):
        pack.run("DiffFAECropFace", image=torch.zeros(1, 8, 8, 2))
    with raises(pack, "NoFaceError", NO_FACE.format("image")):
        pack.run("DiffFAECropFace", image=torch.zeros(1, 1, 1, 3))
    assert pack.run("DiffFAEEncodeSlots", image=torch.zeros(1, 1, 1, 3))[1].shape == (1, 1, 1)
