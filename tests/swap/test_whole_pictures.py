"""Backgrounds and clothes of whole photographs, and cut-outs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from difffae.carry.transparency import Transparency
from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image
from difffae.common.pixels import dilate, erode, pixel_grid
from difffae.edit.analysing import with_slots
from difffae.edit.description import Faces, Sampling
from difffae.edit.editor import DiffFAE
from difffae.edit.pasting import cut_again
from difffae.edit.staging import dressed
from difffae.faces.crop import FaceCrop, extract
from difffae.head.adjust import Adjustments
from difffae.source.whole_matte import _connected, whole_matte
from difffae.swap.backgrounds import covering, fitted_background, with_background
from difffae.swap.clothes import with_clothes
from difffae.swap.dressed import Dressed, like_skin
from difffae.swap.longer import longer

HEIGHT, WIDTH = 160, 240
RED, GREEN, BLUE, SKIN = (
    torch.tensor(c)[None, :, None, None] for c in ([0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.8], [0.8, 0.6, 0.5])
)


def disc(x: float, y: float, radius: float, soft: float = 2.0) -> Tensor:
    """(1,1,H,W) a disc with a soft outline, in pixels."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return ((radius - ((rows - y) ** 2 + (columns - x) ** 2).sqrt()) / soft + 0.5).clamp(0, 1)[None, None]


def test_a_reference_covers_the_frame_without_distortion():
    wide = torch.rand(1, 3, 60, 100)
    assert torch.equal(covering(wide, (60, 60)), wide[..., 20:80])
    ramp = pixel_grid(60, 100, wide).permute(2, 0, 1)[None]
    fitted = covering(ramp, (HEIGHT, WIDTH))
    # a step to the right and one down are as long as in the reference
    right, down = fitted[0, 0, :, 20:-20].diff(dim=-1).mean() * 50, fitted[0, 1, 20:-20].diff(dim=0).mean() * 30
    assert right.item() == pytest.approx(down.item(), rel=0.02)


def test_a_fitted_background_is_the_reference_where_it_shows_and_never_its_person():
    alpha, behind = disc(120, 90, 50), torch.rand(1, 1, HEIGHT, WIDTH) * 0.3 + GREEN
    picture = torch.lerp(behind, RED.expand_as(behind), alpha)
    fitted, own = fitted_background(picture, alpha, (120, 120))
    assert own.mean() > 0.2
    assert ((fitted - covering(picture, (120, 120)).clamp(0, 1)) * own).abs().max() < 1e-5
    assert (fitted[:, 0] < 0.5).all()  # no red


def test_a_wide_gap_has_the_detail_of_the_background_beside_it():
    """Sky over a field of stripes; the person covered more than half of the width."""
    rows, columns = torch.arange(160)[:, None], torch.arange(200)
    field = 0.45 + 0.15 * torch.sin(columns * 1.1 + 2 * torch.sin(rows * 0.37))
    picture = torch.where(rows < 80, torch.tensor(0.8), field).expand(1, 3, -1, -1).clone()
    alpha = torch.zeros(1, 1, 160, 200)
    alpha[..., 20:, 46:156] = 1
    gone = torch.lerp(picture, torch.tensor([0.9, 0.1, 0.1])[None, :, None, None], alpha)
    fitted, own = fitted_background(gone, alpha, (160, 200))
    middle = fitted[..., 85:, 80:122]
    assert (own[..., 85:, 80:122] == 0).all()
    assert middle.std(-1).mean() > 0.6 * picture[..., 85:, :40].std(-1).mean()
    assert (middle.mean((2, 3)) - 0.45).abs().max() < 0.04
    assert (fitted[..., 30:70, 80:122] - 0.8).abs().max() < 0.05  # the sky stays above


def test_a_background_is_replaced_to_the_last_pixel():
    alpha = disc(120, 90, 50, 6)
    picture = torch.lerp(BLUE.expand(1, 3, HEIGHT, WIDTH), RED.expand(1, 3, HEIGHT, WIDTH), alpha)
    behind = torch.rand(1, 1, HEIGHT, WIDTH) * 0.3 + GREEN
    result = with_background(picture, alpha, behind)
    free, core = (alpha == 0).expand(-1, 3, -1, -1), erode(alpha, 11) == 1
    assert torch.equal(result[free], behind[free])
    assert torch.equal(result[core.expand(-1, 3, -1, -1)], picture[core.expand(-1, 3, -1, -1)])
    wanted = torch.lerp(behind, RED.expand_as(behind), alpha)
    assert (result - wanted).abs().max() < 0.12  # the blue of the outline was 0.7 brighter
    assert (result - wanted).abs().mean() < 0.005


def test_a_matte_keeps_what_hangs_together_with_the_face():
    mine, other = disc(60, 80, 40), disc(190, 80, 30)
    kept = _connected(mine.maximum(other), FaceCrop(30, 50, 60, HEIGHT, WIDTH))
    assert (kept - mine)[..., :110].abs().max() < 1e-3
    assert kept[..., 140:].max() == 0


def someone(cloth: Tensor, neck: float, behind: Tensor) -> Dressed:
    """A face over a body in clothes of one colour (1,3,1,1), whose shoulders begin in the row `neck`."""
    face = disc(120, 60, 24)
    rows = (torch.arange(HEIGHT) + 0.5)[:, None].expand(-1, WIDTH)[None, None]
    body = (disc(120, neck + 70, 70) * (rows > neck)).clamp(0, 1)
    alpha = face.maximum(body)
    worn = body * (1 - face)
    picture = torch.lerp(behind.expand(1, 3, HEIGHT, WIDTH), SKIN.expand(1, 3, HEIGHT, WIDTH), face.maximum(worn))
    picture = torch.lerp(picture, cloth.expand_as(picture), worn)
    square = FaceCrop(60, 0, 120, HEIGHT, WIDTH)
    return Dressed(picture, alpha, torch.zeros_like(alpha), worn, (face > 0.9).float(), square, torch.tensor([5.0, 0.0, 0.0]))


def test_clothes_are_replaced_on_the_body_and_nowhere_else():
    me = someone(RED, 84, GREEN)
    # the other's picture ends above my lower border: its clothes go on
    other = someone(BLUE, 84, torch.tensor(0.5))
    cut = {name: getattr(other, name)[..., :120, :] for name in ("picture", "alpha", "hair", "cloth", "face")}
    other = replace(other, square=replace(other.square, height=120), **cut)
    result = with_clothes(me, other)
    away = (dilate(me.alpha, 3) == 0).expand(-1, 3, -1, -1)
    assert torch.equal(result[away], me.picture[away])
    face = (erode(me.face, 3) == 1).expand(-1, 3, -1, -1)
    assert torch.equal(result[face], me.picture[face])
    worn = erode((me.cloth * (1 - dilate(me.face, 9)) > 0.99).float(), 9) > 0
    assert worn[..., 130:, :].sum() > 1000
    shown = result.permute(1, 0, 2, 3)[:, worn[:, 0]]
    assert (shown - BLUE[0, :, 0]).abs().max() < 0.1


@pytest.mark.parametrize("neck", [76, 100])
def test_clothes_lie_on_the_own_shoulders(neck: int):
    me, other = someone(RED, 84, GREEN), someone(BLUE, neck, torch.tensor(0.5))
    result = with_clothes(me, other)
    aside = (torch.arange(WIDTH) - 120).abs()[None, None, None] > 42  # beyond the collar, by COLLAR and the side of 120
    away = ((dilate(me.alpha, 3) == 0) & aside).expand(-1, 3, -1, -1)
    assert torch.equal(result[away], me.picture[away])
    shoulders = (erode(me.cloth, 5) > 0.99) & aside
    assert shoulders.sum() > 1000
    shown = result.permute(1, 0, 2, 3)[:, shoulders[:, 0]]
    assert (shown - BLUE[0, :, 0]).abs().max() < 0.1


def test_a_collar_stands_out_of_the_own_outline():
    me, other = someone(RED, 84, GREEN), someone(BLUE, 84, torch.tensor(0.5))
    collar = torch.zeros_like(me.alpha)
    collar[..., 72:110, 88:98] = 1
    collar[..., 72:110, 142:152] = 1
    other = replace(other, alpha=other.alpha.maximum(collar), cloth=other.cloth.maximum(collar))
    other = replace(other, picture=torch.lerp(other.picture, BLUE.expand_as(other.picture), collar))
    result = with_clothes(me, other)
    out = (erode(collar, 3) == 1) & (dilate(me.alpha, 3) == 0)
    assert out.sum() > 40
    shown = result.permute(1, 0, 2, 3)[:, out[:, 0]]
    assert (shown - BLUE[0, :, 0]).abs().max() < 0.1


def test_bare_necks_have_the_own_tone():
    me, other = someone(RED, 84, GREEN), someone(BLUE, 84, torch.tensor(0.5))
    opening = disc(120, 92, 20)
    dark = 0.5 * SKIN.expand_as(other.picture)
    picture = torch.lerp(torch.lerp(other.picture, dark, opening), dark, other.face)
    other = replace(other, picture=picture, cloth=other.cloth * (1 - opening))
    result = with_clothes(me, other)
    neck = (erode(opening, 9) == 1) & (dilate(me.face, 5) == 0) & (erode(me.alpha, 5) == 1)
    assert neck.sum() > 100
    shown = result.permute(1, 0, 2, 3)[:, neck[:, 0]]
    assert (shown - SKIN[0, :, 0]).abs().max() < 0.08  # theirs is darker by up to 0.4


def test_lines_go_on_below_a_frame_and_openings_close():
    me = someone(RED, 84, GREEN)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    right = ((columns - 140 - 0.4 * (rows - HEIGHT)) / 2 + 0.5).clamp(0, 1)[None, None]  # an edge through column 140 of the lowest row
    whole = torch.ones_like(right)
    picture = torch.lerp(RED.expand(1, 3, HEIGHT, WIDTH), BLUE.expand(1, 3, HEIGHT, WIDTH), right)
    one = longer(replace(me, picture=picture, alpha=whole, cloth=whole), 24)
    assert one.picture.shape[-2:] == (HEIGHT + 24, WIDTH)
    assert one.square.height == HEIGHT + 24
    assert torch.equal(one.picture[..., : HEIGHT - 4, :], picture[..., : HEIGHT - 4, :])
    for depth in (6, 20):
        edge = int((one.picture[0, 2, HEIGHT + depth] > 0.45).nonzero()[0, 0])
        assert edge == pytest.approx(140 + 0.4 * depth, abs=2.5)
    gap = ((columns - 100).abs() < 10)[None, None].to(whole)
    one = longer(replace(me, picture=picture, alpha=whole, cloth=1 - gap), 24)
    assert one.cloth[0, 0, HEIGHT - 4, 92:109].max() == 0
    assert one.cloth[0, 0, HEIGHT + 4, 99:102].max() < 0.5
    assert one.cloth[0, 0, HEIGHT + 23].min() > 0.99


def test_own_clothes_change_next_to_nothing():
    me = someone(RED, 84, GREEN)
    result = with_clothes(me, me)
    assert (result - me.picture).abs().mean() < 0.005  # the outlines alone, which are crisper
    inner = (erode(me.alpha, 7) == 1) & (erode(1 - dilate(me.face, 9), 3) == 1)
    assert inner.sum() > 3000
    assert ((result - me.picture).abs() * inner).max() < 0.02


def test_no_clothes_to_take_leave_the_picture():
    me, other = someone(RED, 84, GREEN), someone(BLUE, 84, GREEN)
    bare = replace(other, alpha=other.face, cloth=torch.zeros_like(other.cloth))
    assert torch.equal(with_clothes(me, bare), me.picture)


def test_skin_has_the_colours_of_the_lower_face():
    me = someone(RED, 84, GREEN)
    like = like_skin(me)
    assert (like[erode(me.face, 5) == 1] == 1).all()
    assert (like[erode(me.cloth, 5) == 1] == 0).all()


def test_hidden_colours_never_show_and_nothing_asked_changes_nothing():
    alpha = disc(120, 80, 40)
    alpha[..., :30, :] = 0
    pictures = [torch.where(alpha > 0, RED, hidden).expand(1, 3, HEIGHT, WIDTH).contiguous() for hidden in (BLUE, GREEN)]
    plates = [Transparency(alpha, picture).on_plate for picture in pictures]
    assert torch.equal(*plates)
    assert torch.equal(plates[0][(alpha == 1).expand(-1, 3, -1, -1)], pictures[0][(alpha == 1).expand(-1, 3, -1, -1)])
    faces = Faces(plates[0], alpha, original=plates[0], transparency=Transparency(alpha, pictures[0]))
    image, left = cut_again(faces, plates[0], None)
    assert left is not None
    assert torch.equal(image, pictures[0])
    assert torch.equal(left, alpha)
    # a pixel that changed shows neither plate nor what was hidden
    drawn = plates[0].clone()
    drawn[..., 60:100, 80:100] = (drawn[..., 60:100, 80:100] * 0.9).clamp(0, 1)
    image, _ = cut_again(faces, drawn, None)
    seen = ((alpha > 0.2) & (alpha < 0.9)).expand(-1, 3, -1, -1)
    assert seen.sum() > 300
    assert (image - RED)[seen].abs().max() < 0.15


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained()


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    """The bundled source in a frame twice as wide, and the query."""
    image, other = (read_image(asset_path(name))[0] for name in ("source.png", "query.png"))
    margin = image.shape[-1] // 2
    return torch.cat([image[..., :1].expand(-1, -1, margin), image, image[..., -1:].expand(-1, -1, margin)], -1), other


@pytest.mark.slow
def test_a_background_swap_reaches_the_whole_picture(model: DiffFAE, pictures: tuple[Tensor, Tensor]):
    image, other = pictures
    source, reference = model.analyse(image), model.analyse(other)
    result = model.swap(source, reference, ("background",), sampling=Sampling(denoise=0))
    with torch.no_grad():
        own, theirs = (dressed(model, with_slots(model, one), 0) for one in (source, reference))
    fitted, shown = fitted_background(theirs.picture, theirs.alpha, (image.shape[-2], image.shape[-1]))
    behind = own.alpha == 0
    assert behind.float().mean() > 0.4
    assert ((result.image[None] - fitted) * behind).abs().max() < 1e-5
    # the reference itself where that is visible, and it is in most of the frame
    seen = behind * shown
    assert seen.mean() > 0.3
    whole = covering(theirs.picture, (image.shape[-2], image.shape[-1])).clamp(0, 1)
    assert ((result.image[None] - whole) * seen).abs().max() < 1e-3
    core = erode(own.alpha, 25) == 1
    assert core.float().mean() > 0.05
    assert torch.equal(result.image[None][core.expand(-1, 3, -1, -1)], image[None][core.expand(-1, 3, -1, -1)])


@pytest.mark.slow
def test_alpha_moves_with_the_person(model: DiffFAE, pictures: tuple[Tensor, Tensor]):
    image, _ = pictures
    with torch.no_grad():
        alpha = dressed(model, with_slots(model, model.analyse(image)), 0).alpha[0]
    hidden = image * (alpha > 0) + (1 - (alpha > 0).float()) * RED[0]
    source = model.analyse(hidden, alpha=alpha)
    still = model.edit(source, adjust=Adjustments(yaw=0.0, absolute=False), sampling=Sampling(denoise=0))
    assert torch.equal(still.image, hidden)
    assert still.alpha is not None
    assert torch.equal(still.alpha, alpha)
    turned = model.edit(source, adjust=Adjustments(yaw=20.0), sampling=Sampling(denoise=0))
    assert turned.alpha is not None
    changed = (turned.alpha - alpha).abs() > 0.5
    assert 0.001 < changed.float().mean() < 0.1
    # the head in its new place is opaque, and red shows nowhere
    head = erode((turned.render.amax(1, keepdim=True) > 0).float(), 25)
    cut = extract(turned.alpha[None], source.crop)[0]
    assert head.sum() > 5000
    assert (cut[head > 0] > 0.99).float().mean() > 0.99
    composed = turned.image * turned.alpha + 0.5 * (1 - turned.alpha)
    assert ((composed[0] - composed[1]) > 0.6).float().mean() < 1e-3


def test_ears_of_the_head_model_are_the_persons_only_where_they_look_like_it():
    """A network that sees nobody: the face is sure, colours say which of two ears is one."""
    face, ears = disc(120, 80, 36), disc(78, 80, 12).maximum(disc(162, 80, 12))
    picture = torch.lerp(GREEN.expand(1, 3, HEIGHT, WIDTH), SKIN.expand(1, 3, HEIGHT, WIDTH), face.maximum(disc(78, 80, 12)))
    nobody = lambda pictures: torch.zeros_like(pictures[:, :1])  # noqa: E731
    sure, model = (face > 0.9).float(), (face.maximum(ears) > 0.9).float()
    square = FaceCrop(50, 10, 140, HEIGHT, WIDTH)
    alpha = whole_matte(nobody, picture, square, torch.zeros(1, 1, 256, 256), sure, model, torch.zeros_like(face))
    ear, none = (erode(disc(at, 80, 12) * (1 - dilate(face, 5)), 5) > 0.5 for at in (78, 162))
    assert min(int(ear.sum()), int(none.sum())) > 40
    assert alpha[ear].min() > 0.9
    assert alpha[none].max() < 0.1
