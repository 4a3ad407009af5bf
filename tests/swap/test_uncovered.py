"""What comes into view where hair is taken away: known pixels, and nothing left of what was there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dressed import BLUE, BROWN, GREEN, GREY, RED, SIZE, dressed, parts
from heads import head  # noqa: F401  (fixture)
from people import person
from torch import Tensor

from difffae.common.pixels import dilate, erode, pixel_grid
from difffae.head.morphable import HeadModel
from difffae.source.regions import Layers
from difffae.swap.kinds import hanging_together, told_apart, whole_face, with_strays
from difffae.swap.region_parts import BACKGROUND, CLOTHES, HAIR, FaceAreas
from difffae.swap.region_sources import reference_parts
from difffae.swap.region_transfer import take_hair
from difffae.swap.uncovered import continued


def test_cloth_goes_on_as_in_a_mirror():
    across = torch.arange(64.0).expand(1, 3, 64, -1) / 64
    known = torch.zeros(1, 1, 64, 64)
    known[..., :32] = 1
    result = continued(across, known)
    assert torch.equal(result[..., :32], across[..., :32])
    assert (result[..., 32:] < 0.5).all()  # nothing of the other half
    # falling as the known half rises, more and more in its mean
    assert (result[0, 0, 32, 33:37] < result[0, 0, 32, 32:36]).all()


def test_what_hangs_together_ends_at_a_gap():
    row = torch.zeros(1, 1, 20, 40)
    row[..., 8:12, 2:10] = row[..., 8:12, 12:20] = row[..., 8:12, 30:38] = 1
    start = torch.zeros_like(row) > 0
    start[..., 9, 3] = True
    assert hanging_together(row, start, 3)[0, 0, 9, 15] == 0
    found = hanging_together(row, start, 7)
    assert found[0, 0, 9, 15] == 1
    assert found[0, 0, 9, 33] == 0


@pytest.fixture(scope="module")
def scene(head: HeadModel):  # noqa: F811
    face = person(head, 1)
    image, layers = dressed(head, face, BROWN, RED, GREY, cap=45)
    return head, face, image, layers


def test_a_mask_of_hair_that_leaks_over_clothes_is_corrected_by_colour(scene):
    head, face, image, layers = scene  # noqa: F811
    areas = whole_face(FaceAreas.of(head, face, image))
    cloth = (layers.loose - layers.hair).clamp_min(0)
    shares = torch.cat([(layers.person - layers.loose).clamp_min(0), layers.hair, cloth, 1 - layers.person], 1)
    first = int((cloth > 0.5)[0, 0].any(1).nonzero()[0])
    leak = cloth * (torch.arange(SIZE)[:, None] < first + 20)
    assert leak.sum() > 100
    wrong = shares.clone()
    wrong[:, HAIR : HAIR + 1] = shares[:, HAIR : HAIR + 1] + 0.7 * leak
    wrong[:, CLOTHES : CLOTHES + 1] = shares[:, CLOTHES : CLOTHES + 1] - 0.7 * leak
    core = (erode(leak, 3) > 0).float()
    for taken in (True, False):
        found = told_apart(image, wrong, areas, taken)
        torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
        assert (found[:, HAIR : HAIR + 1] * core).sum() / core.sum() < 0.1


def test_the_old_hair_is_gone_to_the_last_pixel(scene):
    """A mass of brown hair before grey, a reference whose blue hair is close: nothing brown is left, and the grey is grey."""
    head, face, image, layers = scene  # noqa: F811
    base, areas = parts(head, face, image, layers)
    close, close_layers = dressed(head, face, BLUE, GREEN, GREY, cap=9)
    reference = reference_parts(close, torch.ones_like(close[:, :1]), face, face, areas, head, close_layers)
    mixed = take_hair(base, reference, areas)
    old = dilate(layers.hair, 3) * (1 - dilate(close_layers.person, 7)) * (1 - dilate(areas.mesh, 9))
    assert old.sum() > 500
    where = old.expand(1, 3, SIZE, SIZE) > 0
    assert (mixed.carried.image[where] - 0.5).abs().max() < 0.02
    assert (base.carried.image[where] - 0.5).abs().mean() > 0.2
    assert (mixed.shares[:, BACKGROUND : BACKGROUND + 1][old > 0] > 0.95).all()


def test_no_background_shines_through_the_seam_between_two_skins(scene):
    """Half of the forehead was under hair: between the source's skin and the reference's there is skin all over."""
    head, face, image, layers = scene  # noqa: F811
    areas = FaceAreas.of(head, face, image)
    half = areas.skin * (1 - areas.below_brows) * (pixel_grid(SIZE, SIZE, image)[..., 0] < 0)
    covered = torch.lerp(image, BROWN[:, None, None].expand_as(image), half)
    green = torch.lerp(GREEN[:, None, None].expand_as(image), covered, layers.person)
    layers = replace(layers, hair=layers.hair.maximum(half), loose=layers.loose.maximum(half))
    base, _ = parts(head, face, green, layers)
    bare, bare_layers = dressed(head, face, BROWN, RED, GREY, cap=9)
    reference = reference_parts(bare, torch.ones_like(bare[:, :1]), face, face, areas, head, bare_layers)
    mixed = take_hair(base, reference, areas)
    inner = erode(areas.skin, 9) * (1 - dilate(bare_layers.hair, 9)) > 0
    red, green_ = mixed.carried.image[:, :1][inner], mixed.carried.image[:, 1:2][inner]
    assert inner.sum() > 500
    assert (green_ - red).max() < 0.05
    assert (mixed.shares[:, BACKGROUND:][inner] < 0.05).all()


def shares_of(layers: Layers) -> Tensor:
    cloth = (layers.loose - layers.hair).clamp_min(0)
    return torch.cat([(layers.person - layers.loose).clamp_min(0), layers.hair, cloth, 1 - layers.person], 1)


def test_a_bare_scalp_is_skin_and_hair_is_hair(scene):
    """Masks call the cap hair both times: where it has the colour of skin, and no relief, it is a scalp."""
    head, face, image, layers = scene  # noqa: F811
    areas = whole_face(FaceAreas.of(head, face, image))
    cap = (layers.hair > 0.5).float() * areas.mesh
    skin = torch.tensor([0.93, 0.85, 0.73])[:, None, None].expand_as(image)
    scalp = told_apart(torch.lerp(image, skin, layers.hair), shares_of(layers), areas, True)
    hair = told_apart(image, shares_of(layers), areas, True)
    assert cap.sum() > 300
    assert (scalp[:, HAIR : HAIR + 1] * cap).sum() / cap.sum() < 0.02
    assert (hair[:, HAIR : HAIR + 1] * cap).sum() / cap.sum() > 0.9


def test_a_bare_forehead_keeps_its_pixels_and_nothing_shows_the_references_background(scene):
    head, face, image, layers = scene  # noqa: F811
    base, areas = parts(head, face, image, layers)
    magenta = torch.tensor([1.0, 0, 1])[:, None, None].expand_as(image)
    close, close_layers = dressed(head, face, BLUE, GREEN, magenta, cap=25)
    reference = reference_parts(close, torch.ones_like(close[:, :1]), face, face, areas, head, close_layers)
    mixed = take_hair(base, reference, areas).carried.image
    bare = areas.skin * (1 - areas.below_brows) * (1 - dilate(layers.hair.maximum(close_layers.hair), 25))
    assert bare.sum() > 200
    where = bare.expand_as(mixed) > 0
    torch.testing.assert_close(mixed[where], image[where], atol=1e-6, rtol=0)
    red, green, blue = mixed.split(1, 1)
    assert (red.minimum(blue) - green).max() < 0.1
    assert (close[:, :1].minimum(close[:, 2:]) - close[:, 1:2]).max() > 0.9


def test_a_curl_that_masks_missed_goes_with_the_hair(scene):
    _, _, image, layers = scene
    beside = (layers.hair > 0.5)[0, 0].nonzero()
    row = int(beside[:, 0].max())
    column = int(beside[beside[:, 0] > row - 10][:, 1].min())
    curl = torch.zeros_like(layers.hair)
    curl[..., row - 4 : row + 8, column - 8 : column - 5] = 1
    curl[..., row - 6 : row - 3, column - 8 : column + 8] = 1
    curl = curl * (1 - layers.person)
    with_curl = torch.lerp(image, BROWN[:, None, None].expand_as(image), curl)
    found = with_strays(with_curl, shares_of(layers), SIZE)
    none = with_strays(image, shares_of(layers), SIZE)
    assert curl.sum() > 30
    assert (found[:, HAIR : HAIR + 1] * curl).sum() / curl.sum() > 0.9
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    assert torch.equal(none, shares_of(layers))
