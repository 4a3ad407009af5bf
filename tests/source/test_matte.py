"""The person matte against the original network's outputs, and what it does for the layers of real and synthetic pictures.

golden/matte.json: shares that the original graph gives in Google's interpreter (ai-edge-litert) for the bundled pictures, reduced to
256x256 by Pillow's bicubic filter, at every sixteenth pixel from the eighth on. golden/grey_hair.jpg and grey_hair_regions.png: a synthetic
portrait (CC0) before a wall of its hair's colour, and its labels (0 face, 1 hair, 2 clothes, 3 background).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import TESTS

from difffae.common.checkpoint import asset_path
from difffae.common.errors import CheckpointError
from difffae.common.images import read_image
from difffae.edit.editor import DiffFAE
from difffae.edit.model import EditModel
from difffae.estimation.fit import LandmarkFit
from difffae.estimation.hair_finder import HairFinder
from difffae.source.matte import PersonMatte
from difffae.source.regions import Layers, fitted_regions, layers
from difffae.source.slots import SlotEncoder

GOLDEN = TESTS / "golden"


def small(path: Path) -> torch.Tensor:
    """(1,3,256,256) RGB 0..1."""
    picture = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def matte() -> PersonMatte:
    return PersonMatte.load()


@pytest.fixture(scope="module")
def slots() -> SlotEncoder:
    return EditModel.load(asset_path("open-256.safetensors")).slots


def both(slots: SlotEncoder, matte: PersonMatte, picture: torch.Tensor) -> tuple[Layers, Layers]:
    """Layers by the slots alone, and with the matte."""
    with torch.no_grad():
        masks = slots(picture)[1]
        return layers(masks, slots.config.order, picture), layers(masks, slots.config.order, picture, matte(picture))


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a & b).sum() / (a | b).sum()).item()


@pytest.mark.parametrize("name", ["source.png", "query.png", "surprised.jpg"])
def test_shares_are_the_original_networks(matte: PersonMatte, name: str) -> None:
    expected = torch.tensor(json.loads((GOLDEN / "matte.json").read_text())[name])
    share = matte(small(asset_path(name)))[0, 0, 8::16, 8::16]
    assert (share - expected).abs().max() < 2e-3
    assert 0.2 < (expected > 0.9).float().mean() < 0.8  # they show a person, and something else


def test_pictures_of_any_size_and_batches(matte: PersonMatte) -> None:
    picture = small(asset_path("source.png"))
    wide = torch.nn.functional.interpolate(picture, (384, 320), mode="bicubic", align_corners=False).clamp(0, 1)
    share = matte(torch.cat([wide, wide.flip(-1)]))
    assert share.shape == (2, 1, 384, 320)
    torch.testing.assert_close(share[:1], matte(wide), atol=1e-4, rtol=0)
    back = torch.nn.functional.interpolate(share[:1], (256, 256), mode="bilinear", align_corners=False)
    assert (back - matte(picture)).abs().mean() < 0.01
    # a mirrored person is found as well, though the network is not symmetric
    assert iou(share[0] > 0.5, share[1].flip(-1) > 0.5) > 0.97


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'matte' is needed"):
        PersonMatte.load(asset_path("landmarks.safetensors"))


def test_a_flag_is_no_hat(slots: SlotEncoder, matte: PersonMatte) -> None:
    """The officer's hat has the flag's colours: slots that knew no such pictures called half of the flag hair. So do these, made to."""
    picture, order = small(asset_path("query.png")), slots.config.order
    flag, hat = (..., slice(0, 150), slice(0, 40)), (..., slice(45, 60), slice(90, 150))
    with torch.no_grad():
        masks = slots(picture)[1]
    wrong = torch.nn.functional.one_hot(torch.tensor(order.index("hair")), len(order))[None, :, None, None].float()
    masks[..., : 150 // 8, : 40 // 8] = wrong
    alone, joined = layers(masks, order, picture), layers(masks, order, picture, matte(picture))
    assert float(alone.hair[flag].mean()) > 0.3
    for layer in (joined.person, joined.loose, joined.hair, joined.light):
        assert float(layer[flag].mean()) < 0.005
    assert float(joined.hair[hat].min()) > 0.95


def test_layers_of_a_synthetic_portrait_agree_with_its_labels(slots: SlotEncoder, matte: PersonMatte) -> None:
    picture = small(GOLDEN / "grey_hair.jpg")
    labels = torch.from_numpy(np.asarray(Image.open(GOLDEN / "grey_hair_regions.png")).copy())
    alone, joined = both(slots, matte, picture)
    # the slots see the person at 0.93 and the hair at 0.73 by themselves (0.84 and 0.53 before they met rendered people)
    for layer, label, least, gain in (("person", labels < 3, 0.95, 0.02), ("hair", labels == 1, 0.8, 0.1)):
        without, found = (iou(getattr(layers_, layer)[0, 0] > 0.5, label) for layers_ in (alone, joined))
        assert found > least
        assert found > without + gain
    for layer in (joined.loose, joined.hair, joined.light):
        assert bool((layer <= joined.person).all())
    with torch.no_grad():
        shares = fitted_regions(slots(picture)[1], slots.config.order, picture, matte(picture))
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 256, 256))
    assert (shares.argmax(1)[0] == labels).float().mean() > 0.9


def test_hair_finder_sees_hair_and_no_face() -> None:
    """The bundled short-haired woman: hair above the brows, none on the cheeks; the share of a bald rendered head is small."""
    model = DiffFAE.from_pretrained("open-256")
    portrait = model.analyse(read_image(asset_path("source.png"))[0])
    finder = HairFinder.load()
    hair = finder(portrait.picture)
    assert hair.shape == (1, 1, 256, 256)
    assert hair.min() >= 0
    assert hair.max() <= 1
    points = portrait.landmarks[0, :, :2].long()
    cheeks = [hair[0, 0, points[p, 1], points[p, 0]].item() for p in (50, 280, 205, 425, 4)]
    assert max(cheeks) < 0.1
    top = points[10]
    above = hair[0, 0, top[1] - 35 : top[1] - 18, top[0] - 10 : top[0] + 10]
    assert above.mean() > 0.8
    assert isinstance(model.estimator, LandmarkFit)
    assert model.estimator.hair is not None
