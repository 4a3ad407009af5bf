"""Hair and hats that go on beyond the square are moved on a wider canvas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from difffae import Adjustments, DiffFAE, Portrait, Sampling, read_image
from difffae.common.checkpoint import asset_path
from difffae.edit.analysing import with_slots
from difffae.edit.conditioning import conditions
from difffae.edit.description import Edit, Faces, SlotTokens
from difffae.edit.moving import move
from difffae.edit.native import Canvas, canvas_margin, native_rows, native_side, options_on, padded, ramp, widened
from difffae.edit.pasting import paste
from difffae.faces.crop import FaceCrop, extract

PREVIEW = Sampling(denoise=0)
DOWN = 40  # pixels
ORDER = ("face", "hair", "clothes", "background")


def faces(square: FaceCrop, picture: Tensor, *mattes: Tensor) -> Faces:
    """A face for every matte (256,256), with slots."""
    cut, inside = extract(picture, square)
    count = max(len(mattes), 1)
    slots = SlotTokens(
        torch.zeros(count, 4, 8), torch.full((count, 4, 32, 32), 0.25), ORDER, torch.stack(mattes)[:, None] if mattes else None
    )
    return Faces(cut.expand(count, -1, -1, -1), inside.expand(count, -1, -1, -1), (square,) * count, picture, slots=slots)


def matte(rows: slice, columns: slice) -> Tensor:
    found = torch.zeros(256, 256)
    found[rows, columns] = 1
    return found


TOP, SIDES, SHOULDERS = (slice(0, 4), slice(100, 140)), (slice(40, 90), slice(0, 256)), (slice(200, 256), slice(0, 256))


@pytest.mark.parametrize(
    ("touching", "left", "top", "needed"),
    [
        (TOP, 200, 100, True),
        (TOP, 200, 0, False),  # the picture ends there
        (TOP, 200, -9, False),
        (SIDES, 200, 100, True),
        (SIDES, 0, 100, True),  # on the right the picture goes on
        (SHOULDERS, 200, 100, False),
        ((slice(0, 1), slice(100, 103)), 200, 100, False),  # three pixels are no hat
        ((slice(1, 190), slice(1, 255)), 200, 100, True),  # strands reach farther than the matte
        ((slice(8, 190), slice(8, 248)), 200, 100, False),
    ],
)
def test_needed_where_hair_is_cut(touching: tuple[slice, slice], left: int, top: int, needed: bool) -> None:
    some = faces(FaceCrop(left, top, 300, 600, 800), torch.zeros(1, 3, 600, 800), matte(*touching))
    assert canvas_margin(some, native_side(some)) == (75 if needed else 0)


def test_one_row_decides_for_all() -> None:
    square, picture = FaceCrop(200, 100, 300, 600, 800), torch.zeros(1, 3, 600, 800)
    assert canvas_margin(faces(square, picture, matte(*SHOULDERS), matte(*TOP)), 300) == 75
    assert canvas_margin(faces(square, picture, matte(*SHOULDERS), matte(*SHOULDERS)), 300) == 0
    assert canvas_margin(replace(faces(square, picture, matte(*TOP)), original=None), 300) == 0
    assert canvas_margin(faces(square, picture), 300) == 0  # without a matte nobody knows


@pytest.mark.parametrize(("side", "margin"), [(300, 75), (302, 76), (258, 64)])
def test_a_square_in_its_own_pixels_is_the_middle_of_its_canvas(side: int, margin: int) -> None:
    picture = torch.rand(1, 3, 600, 800, generator=torch.Generator().manual_seed(1))
    x, y = 120, 31  # of a marker beyond the square
    picture[..., y, x] = torch.tensor([1.0, 0.0, 1.0])
    some = faces(FaceCrop(180, 90, side, 600, 800), picture, matte(*TOP))
    assert canvas_margin(some, side) == margin
    wide, inside = native_rows(some, side, 1, margin=margin)
    assert wide.shape == (1, 3, side + 2 * margin, side + 2 * margin)
    assert torch.equal(wide[..., margin:-margin, margin:-margin], native_rows(some, side, 1)[0])
    assert wide[0, :, y - 90 + margin, x - 180 + margin].tolist() == [1, 0, 1]
    assert inside.min() == 1


@pytest.mark.parametrize("side", [180, 202, 300, 302, 514, 1026])
def test_points_and_cameras_mean_the_same_places(side: int) -> None:
    """Also where the margin is rounded to whole pixels of the picture."""
    square = FaceCrop(700, 500, side, 2600, 2600)
    some = faces(square, torch.zeros(1, 3, 2600, 2600), matte(*TOP))
    native = native_side(some)
    canvas = Canvas.of(some, native, round(native / 4), 1, slice(None))
    wide = widened(square, native, canvas.margin)
    points = torch.tensor([[[0.0, 0.0, 0.0], [256.0, 40.0, 7.0], [100.0, 200.0, -3.0]]])
    assert torch.allclose(wide.to_picture(canvas.points(points, 256)), square.to_picture(points), atol=1e-2)
    # a head's point p = s (x + t), -1..1 over the square
    camera, place = torch.tensor([[6.0, 0.01, 0.02]]), torch.tensor([0.1, -0.05])

    def seen(by: Tensor, where: FaceCrop) -> Tensor:
        return torch.tensor(where.centre) + by[0, 0] * (place + by[0, 1:]) * where.side / 2

    assert torch.allclose(seen(canvas.camera(camera), wide), seen(camera, square), atol=1e-3)
    middle = native_rows(some, native, 1)[0].shape[-1]
    assert abs(wide.side * middle / wide.size - side) < 1  # the square is the middle of the canvas within half a pixel on each side


def test_options_keep_their_lengths() -> None:
    some = faces(FaceCrop(700, 500, 300, 2600, 2600), torch.zeros(1, 3, 2600, 2600), matte(*TOP))
    from difffae.carry.options import CarryOptions

    wide, plain = (options_on(Canvas.of(some, 300, margin, 1, slice(None)), CarryOptions()) for margin in (75, 0))
    assert plain == CarryOptions()
    assert wide is not None
    assert wide.reach * 450 == pytest.approx(CarryOptions.reach * 300)


def test_the_join_has_no_step() -> None:
    share = ramp(torch.ones(1, 1, 100, 100), 25)
    assert share.shape == (1, 1, 150, 150)
    assert share[..., :25, :].max() == share[..., -25:].max() == 0
    assert share[..., 28:-28, 28:-28].min() == 1
    assert share.diff(dim=-1).abs().max() < 0.5
    assert padded(torch.ones(1, 1, 4, 4), 2).min() == 1


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


@pytest.fixture(scope="module")
def tall(model: DiffFAE) -> Portrait:
    """A face whose square lies so low that her hair leaves it at the top."""
    face = with_slots(model, model.analyse(read_image(asset_path("source.png"))[0]))
    assert canvas_margin(face, native_side(face)) == 0
    square = replace(face.crop, top=face.crop.top + DOWN)
    picture, inside = extract(face.original, square)
    camera = face.attributes.camera.clone()
    camera[:, 2] += 2 * DOWN / square.side / camera[:, 0]  # y is up
    landmarks = face.landmarks - torch.tensor([0, DOWN * 256 / square.side, 0])
    attributes = replace(face.attributes, camera=camera)
    return with_slots(
        model,
        replace(face, picture=picture, inside_picture=inside, squares=(square,), landmarks=landmarks, attributes=attributes, slots=None),
    )


def test_moved_beside_one_that_stays(model: DiffFAE, tall: Portrait) -> None:
    turned = model.target(tall, change=Adjustments(yaw=15))
    edit = Edit(tall, type(turned).cat([tall.attributes, turned]), sampling=PREVIEW)
    moved = move(model, edit)
    side, margin = native_side(tall), canvas_margin(tall, native_side(tall))
    assert (moved.side, moved.margin, moved.size, len(moved)) == (side, margin, 256, 2)
    assert moved.image.shape == (2, 3, side + 2 * margin, side + 2 * margin)
    assert moved.offset_to_source.shape == (2, 2, 384, 384)
    before = native_rows(tall, side, 1, margin=margin)[0]
    assert torch.equal(moved.image[:1], before)  # nothing asked: the photograph, bit for bit
    assert moved.unchanged.tolist() == [True, False]
    # what was moved lies beyond the square, too
    assert (moved.image[1] - before[0])[:, : margin - 8, margin:-margin].abs().max() > 0.1

    pictures, squares = paste(edit.faces, moved.square(moved.image), moved)
    assert torch.equal(pictures[:1], tall.original)
    assert torch.equal(squares[:1], tall.picture)
    assert squares.shape == (2, 3, 256, 256)
    changed = (pictures[1] - tall.image).abs().amax(0)
    assert changed[: tall.crop.top - 4].max() > 0.1
    nothing, _ = paste(edit.faces, moved.square(moved.image), moved, torch.zeros(1, 1, 256, 256))
    assert torch.equal(nothing, tall.original.expand(2, -1, -1, -1))

    told, start = conditions(model.model.autoencoder, edit.faces, torch.zeros(1, 512), torch.zeros(1, 3, 256, 256), moved)
    assert told.carried is not None
    assert start is not None
    assert told.carried.shape == told.render.expand(2, -1, -1, -1).shape == start.shape
    assert told.validity is not None
    assert told.validity.shape == (2, 1, 32, 32)
