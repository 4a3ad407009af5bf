"""Every node that takes a picture: batches of 1, 2 and 3 frames, with 1, 3 and 4 channels, of three sizes, with no face, one and three.

Each gives the right result or the documented error, and a batch gives what its frames give one by one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from client import Comfy
from inprocess import Pack
from pictures import CHANNELS, NO_FACE, PEOPLE, SIDE, SIZES, batch_of, frame, one_by_one, own_pixels, portrait, raises, seen
from PIL import Image
from torch import Tensor

matrix = pytest.mark.parametrize(
    ("size", "channels", "people"), [(s, c, p) for s in SIZES for c in CHANNELS for p in PEOPLE], ids=lambda value: value
)


@matrix
def test_crop_face(pack: Pack, size: str, channels: str, people: str) -> None:
    height, width = SIZES[size]
    if people == "nobody":
        for count in (1, 3):
            where = "image" if count == 1 else "image: no face found in frame 0 of 3; use"
            message = NO_FACE.format(where) if count == 1 else NO_FACE.format("image").replace("image: no face found; use", where)
            with raises(pack, "NoFaceError", message):
                pack.run("DiffFAECropFace", image=batch_of(size, channels, people, count))
        return
    images = batch_of(size, channels, people, 3)
    singles = [pack.run("DiffFAECropFace", image=images[i : i + 1]) for i in range(3)]
    for number, (picture, known, crop) in enumerate(singles):
        assert (picture.shape, known.shape) == ((1, SIDE, SIDE, 3), (1, SIDE, SIDE))
        assert (crop.landmarks.shape, crop.blendshapes.shape) == ((1, 478, 3), (1, 52))
        (square,) = crop.squares
        x, y = frame(size, people, number)[1]
        assert max(abs(square.centre[0] - x), abs(square.centre[1] - y)) < 0.07 * square.side
        # pixels: the crop, shrunk again, is the part of the picture it came from
        left, top = max(square.left, 0), max(square.top, 0)
        right, bottom = min(square.left + square.side, width), min(square.top + square.side, height)
        back = F.interpolate(picture.movedim(-1, 1), (square.side, square.side), mode="bicubic", antialias=True)
        part = back[..., top - square.top : bottom - square.top, left - square.left : right - square.left]
        assert (part.movedim(1, -1) - seen(images)[number : number + 1, top:bottom, left:right]).abs().mean() < 0.02
        inside = (bottom - top) * (right - left) / square.side**2
        assert known.mean().item() == pytest.approx(inside, abs=0.02)
        if channels == "grey":
            assert torch.equal(picture[..., 0], picture[..., 2])
    for count in (2, 3):
        picture, known, crop = pack.run("DiffFAECropFace", image=images[:count])
        one_by_one(picture, [single[0] for single in singles[:count]])
        one_by_one(known, [single[1] for single in singles[:count]])
        one_by_one(crop.landmarks, [single[2].landmarks for single in singles[:count]], 1e-3)


@matrix
def test_estimate_attributes(pack: Pack, size: str, channels: str, people: str) -> None:
    images = batch_of(size, channels, people, 2)
    if people == "nobody":
        with raises(pack, "NoFaceError", NO_FACE.format("image")):
            pack.run("DiffFAEEstimateAttributes", image=images[:1])
        return
    singles = [pack.run("DiffFAEEstimateAttributes", image=images[i : i + 1])[0] for i in range(2)]
    (both,) = pack.run("DiffFAEEstimateAttributes", image=images)
    for name, values in both.tensors().items():
        assert torch.isfinite(values).all()
        # landmarks that differ in the last bits move the edge of the skin by a pixel
        one_by_one(values, [single.tensors()[name] for single in singles], 1e-2 if name in ("light", "albedo") else 1e-3)
    if size == "900x600" and people == "one" and channels != "grey":
        picture, _, crop = pack.run("DiffFAECropFace", image=images)
        (cropped,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
        assert all(torch.equal(values, both.tensors()[name]) for name, values in cropped.tensors().items())


@matrix
def test_encode_slots(pack: Pack, size: str, channels: str, people: str) -> None:
    images = batch_of(size, channels, people, 3)
    singles = [pack.run("DiffFAEEncodeSlots", image=images[i : i + 1]) for i in range(3)]
    for count in (1, 2, 3):
        slots, *masks = pack.run("DiffFAEEncodeSlots", image=images[:count])
        assert slots.slots.tokens.shape[:2] == (count, 4)
        assert [tuple(mask.shape) for mask in masks] == [(count, *SIZES[size])] * 4
        assert (sum(masks) - 1).abs().max() < 1e-4
        assert min(mask.min() for mask in masks) >= 0
        one_by_one(slots.slots.tokens, [single[0].slots.tokens for single in singles[:count]], 1e-4)


def test_slots_are_where_they_should(pack: Pack) -> None:
    picture = pack.run("DiffFAECropFace", image=portrait("source.png"))[0]
    masks = pack.run("DiffFAEEncodeSlots", image=picture)[1:]
    for mask, (x, y) in zip(masks, [(140, 140), (130, 25), (50, 215), (20, 60)], strict=True):
        assert mask[0, y, x] > 0.7


@matrix
def test_identity_token(pack: Pack, size: str, channels: str, people: str) -> None:
    images = batch_of(size, channels, people, 2)
    if people == "nobody":
        with raises(pack, "NoFaceError", NO_FACE.format("image")):
            pack.run("DiffFAEIdentityToken", image=images[:1])
        return
    singles = [pack.run("DiffFAEIdentityToken", image=images[i : i + 1])[0] for i in range(2)]
    (both,) = pack.run("DiffFAEIdentityToken", image=images)
    one_by_one(both, singles, 1e-3)
    # the largest of three is the other man
    own = pack.run("DiffFAEIdentityToken", image=portrait("query.png" if people == "three" else "source.png"))[0]
    other = pack.run("DiffFAEIdentityToken", image=portrait("source.png" if people == "three" else "query.png"))[0]
    if size != "64x64":
        assert (both - own).norm(dim=1).max() < (both - other).norm(dim=1).min()


@pytest.mark.parametrize("people", ["one", "three"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_carry_photo_and_paste_back(pack: Pack, size: str, channels: str, people: str) -> None:
    """Taking nothing gives the very pixels; an edit changes the inside of the square only; transparency is kept."""
    images = batch_of(size, channels, people, 3)
    picture, _, crop = pack.run("DiffFAECropFace", image=images)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    as_input = picture.mean(-1, keepdim=True) if channels == "grey" else picture
    carried, valid, carry, *_ = pack.run("DiffFAECarryPhoto", image=as_input, source=own, target=own, crop=crop)
    still = own_pixels(pack, crop).movedim(1, -1)
    assert torch.equal(carried, still)
    assert valid.shape == still.shape[:3]
    expected = torch.cat([seen(images), images[..., 3:]], -1) if channels == "rgba" else seen(images)
    # whatever was drawn: of these frames nothing was asked
    pasted, square, *_ = pack.run("DiffFAEPasteBack", original=images, edited=1 - picture, crop=crop, carry=carry)
    assert torch.equal(pasted, expected)
    assert torch.equal(square, picture)
    # without the carried photograph every pixel is the edit's
    painted = torch.full_like(picture, 0.25)
    pasted, *_ = pack.run("DiffFAEPasteBack", original=images, edited=painted, crop=crop)
    assert pasted.shape == expected.shape
    for number, place in enumerate(crop.squares):
        inside = torch.zeros(images.shape[1:3], dtype=torch.bool)
        inside[max(place.top, 0) : place.top + place.side, max(place.left, 0) : place.left + place.side] = True
        assert torch.equal(pasted[number][~inside], expected[number][~inside])
        x, y = (int(value) for value in place.centre)
        assert (pasted[number, y, x, :3] - 0.25).abs().max() < 0.04
        if channels == "rgba":
            assert torch.equal(pasted[number, ..., 3], images[number, ..., 3])
    alone = pack.library("faces.crop").FaceCrop
    for number in range(3):
        assert isinstance(crop.squares[number], alone)
        _, _, one = pack.run("DiffFAECropFace", image=images[number : number + 1])
        single, *_ = pack.run("DiffFAEPasteBack", original=images[number : number + 1], edited=painted[:1], crop=one)
        assert (single[0] - pasted[number]).abs().max() < 1e-5


@pytest.mark.parametrize("size", ["64x64", "900x600"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_carry_photo_wants_crops(pack: Pack, size: str, channels: str) -> None:
    (own,) = pack.run("DiffFAEEstimateAttributes", image=portrait("source.png"))
    with raises(pack, "ImageError", f"image: is {size}; crops of 256x256 are needed, from DiffFAE Crop Face"):
        pack.run("DiffFAECarryPhoto", image=batch_of(size, channels, "one", 1), source=own, target=own)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_conditioning(pack: Pack, size: str, channels: str) -> None:
    images = batch_of(size, channels, "one", 3)
    slots = pack.run("DiffFAEEncodeSlots", image=images[:1])[0]
    (identity,) = pack.run("DiffFAEIdentityToken", image=portrait("source.png"))
    width = identity.shape[1]

    def made(render: Tensor, tokens) -> tuple[Tensor, dict, dict]:
        ((context, extra),), _, latent = pack.run("DiffFAEConditioning", slots=tokens, identity=identity, render=render)
        return context, extra, latent

    singles = [made(images[i : i + 1], pack.run("DiffFAEEncodeSlots", image=images[i : i + 1])[0]) for i in range(3)]
    for count in (1, 2, 3):
        context, extra, latent = made(images[:count], pack.run("DiffFAEEncodeSlots", image=images[:count])[0])
        latents = (count, pack.vae.latent_channels, 32, 32)
        assert context.shape == (count, 4, slots.slots.tokens.shape[2])
        assert extra["difffae_identity"].shape == (count, width)
        assert (extra["difffae_render"].shape, latent["samples"].shape) == (latents, latents)
        assert "difffae_carried" not in extra
        one_by_one(extra["difffae_render"], [single[1]["difffae_render"] for single in singles[:count]], 1e-4)
    _, extra, _ = made(seen(images)[:1], slots)
    assert torch.equal(extra["difffae_render"], made(images[:1], slots)[1]["difffae_render"])


@matrix
def test_report(pack: Pack, size: str, channels: str, people: str) -> None:
    images = batch_of(size, channels, people, 2)
    known = portrait("source.png")
    if people == "nobody":
        for name, given in (("source", {"source": images[:1], "result": known}), ("result", {"source": known, "result": images[:1]})):
            with raises(pack, "NoFaceError", NO_FACE.format(name)):
                pack.run("DiffFAEReport", **given)
        with raises(pack, "NoFaceError", NO_FACE.format("reference")):
            pack.run("DiffFAEReport", source=known, result=known, reference=images[:1])
        return
    text, identity, pose, expression, light, report = pack.run("DiffFAEReport", source=images[:1], result=images[:1])
    assert identity == 0
    assert all(np.isnan(value) for value in (pose, expression, light))
    assert text.count("\n") == 0
    text, identity, pose, expression, light, report = pack.run(
        "DiffFAEReport", source=images, result=images, reference=portrait("query.png")
    )
    assert identity == 0
    assert pose >= 0
    assert len(report.rows) == 2
    assert text.startswith("means of 2 frames\n")
    if people == "one":
        assert (expression, light) == (1, 1)
    else:  # the largest face is the reference's own: there is next to nothing to take
        assert pose < 3


@matrix
def test_adjust_preview(pack: Pack, size: str, channels: str, people: str) -> None:
    """The picture is for the preview alone: sliders at 0 return the very attributes, whatever picture is shown."""
    (own,) = pack.run("DiffFAEEstimateAttributes", image=portrait("source.png"))
    for count in (1, 2, 3):
        output = pack.output("DiffFAEAdjustAttributes", attributes=own, image=batch_of(size, channels, people, count))
        assert output.result[0] is own
        assert output.ui["difffae_preview"][0]["photo"] is True


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_save_image(pack: Pack, size: str, channels: str) -> None:
    for count in (1, 2, 3):
        images = batch_of(size, channels, "one", count)
        saved = pack.output("DiffFAESaveImage", {"prompt": {}, "unique_id": "1"}, images=images, filename_prefix=f"{size}-{channels}")
        files = [entry["filename"] for entry in saved.ui.as_dict()["images"]]
        assert len(files) == count
        for image, name in zip(images, files, strict=True):
            with Image.open(f"{pack.folders.get_output_directory()}/{name}") as file:
                assert file.mode == {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}[channels]
                pixels = np.array(file)
            wanted = (image * 255).round().byte().numpy()
            assert np.array_equal(pixels, wanted[..., 0] if channels == "grey" else wanted)


# the same through the server, for a few


def test_through_the_server(comfy_each: Comfy) -> None:
    """RGBA of 900x600 with three faces, in a batch of two, from files to files."""
    names = []
    for number in range(2):
        pixels = (frame("900x600", "three", number)[0][0] * 255).round().byte().numpy()
        names.append(comfy_each.upload(Image.fromarray(pixels)))
    prompt = {
        "model": {"class_type": "DiffFAELoader", "inputs": {"checkpoint": "open-256"}},
        "a": {"class_type": "LoadImage", "inputs": {"image": names[0]}},
        "b": {"class_type": "LoadImage", "inputs": {"image": names[1]}},
        "ab": {"class_type": "ImageBatch", "inputs": {"image1": ["a", 0], "image2": ["b", 0]}},
        "hole": {"class_type": "SolidMask", "inputs": {"value": 0.25, "width": 900, "height": 600}},
        "rgba": {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["ab", 0], "alpha": ["hole", 0]}},
        "crop": {
            "class_type": "DiffFAECropFace",
            "inputs": {"difffae": ["model", 2], "image": ["rgba", 0], "face": 1, "missing_face": "error", "smoothing": 0},
        },
        "white": {"class_type": "ImageInvert", "inputs": {"image": ["crop", 0]}},
        "paste": {
            "class_type": "DiffFAEPasteBack",
            "inputs": {"original": ["rgba", 0], "edited": ["white", 0], "crop": ["crop", 2], "feather": 0.05},
        },
        "save": {"class_type": "DiffFAESaveImage", "inputs": {"images": ["paste", 0], "filename_prefix": "matrix"}},
    }
    result = comfy_each.run(prompt)
    pictures = result.images("save")
    assert [(picture.size, picture.mode) for picture in pictures] == [((900, 600), "RGBA")] * 2
    for number, picture in enumerate(pictures):
        before = (frame("900x600", "three", number)[0][0] * 255).round().byte().numpy().astype(int)
        after = np.array(picture).astype(int)
        assert set(np.unique(after[..., 3])) == {191}  # JoinImageWithAlpha takes 1 - mask
        assert np.array_equal(after[:, 400:, :3], before[:, 400:])  # the two other faces
        assert np.abs(after[90:110, 140:160, :3] - (255 - before[90:110, 140:160])).mean() < 12  # face 1 is the second largest
