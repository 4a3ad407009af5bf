"""The paper's figures: their grid, maps and labels on inputs whose numbers are known, and pages of the shipped weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_models import small

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError
from difffae.common.images import read_image
from difffae.edit.editor import DiffFAE
from difffae.faces.crop import FaceCrop
from difffae.lab.tables import grid
from difffae.lab.tables.figures import at_model_size, layer_name, mean_attention
from difffae.lab.tables.parsing import CELEBAMASK, intersection_over_union, read_labels, region_masks
from difffae.vocabulary import REGIONS

SOURCE, QUERY = asset_path("source.png"), asset_path("query.png")


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


def test_grid_puts_pictures_where_their_names_are():
    red, blue = (torch.tensor(c)[:, None, None].expand(3, 5, 5) for c in ([1.0, 0, 0], [0, 0, 1.0]))
    page = grid.grid(["a", "b"], [("first", [red, None]), ("second", [None, blue])], cell=40)
    x, y = grid.MARGIN + grid.GAP + 20, grid.HEADER + 20
    step = 40 + grid.GAP
    assert page[:, y, x].tolist() == [1, 0, 0]
    assert page[:, y + step, x + step].tolist() == [0, 0, 1]
    assert torch.allclose(page[:, y, x + step], torch.tensor(grid.PAPER) / 255)


def test_heat_and_tint_follow_their_maps():
    black = torch.zeros(1, 3, 32, 32)
    values = torch.zeros(4, 4)
    values[0, 0] = 1
    shown = grid.heat(black, values)
    assert torch.allclose(shown[0, :, 2, 2], 0.75 * torch.tensor(grid.HEAT[-1]), atol=1e-5)
    assert shown[0, :, -1, -1].sum() == 0
    masks = torch.zeros(1, 4, 2, 2)
    masks[0, 0, :, 0], masks[0, 3, :, 1] = 1, 1
    colours = grid.slot_colours(REGIONS)
    tinted = grid.tint(torch.ones(1, 3, 32, 32), masks, colours)
    assert torch.allclose(tinted[0, :, 5, 2], colours[0], atol=1e-5)
    assert torch.allclose(tinted[0, :, 5, -2], colours[3], atol=1e-5)
    assert len({tuple(row) for row in grid.slot_colours(("face", "face", "hair", "face")).tolist()}) == 4


def test_labels_of_a_parser_in_the_square_and_their_overlap(tmp_path: Path):
    labels = np.zeros((50, 100), np.uint8)
    labels[10:30, 20:60] = 17
    labels[30:, :] = 16
    labels[35:45, 30:40] = 1
    Image.fromarray(labels).save(tmp_path / "face.png")
    crop = FaceCrop(left=20, top=0, side=100, height=100, width=200, size=50)  # the photograph is twice as large as the labels
    portrait = SimpleNamespace(image=torch.zeros(3, 100, 200), crop=crop)
    found = read_labels(tmp_path / "face.png", portrait, CELEBAMASK)
    expected = labels[:, 10:60]
    for index, value in enumerate((1, 17, 16, 0)):
        assert torch.equal(found[0, index] > 0, torch.from_numpy(expected == value)), REGIONS[index]
    other = found.clone()
    other[0, 1, 10:20], other[0, 3, 10:20] = 0, 1  # half of the hair is background instead
    known = torch.ones(1, 1, 50, 50)
    overlap = intersection_over_union(other, found, known)
    assert (overlap["hair"], overlap["clothes"], overlap["face"]) == (0.5, 1, 1)
    known[..., :10, :] = 0
    assert intersection_over_union(other * 0, found * 0, known)["face"] is None
    labels[0, 0] = 99
    Image.fromarray(labels).save(tmp_path / "face.png")
    with pytest.raises(ConfigError, match="label 99"):
        read_labels(tmp_path / "face.png", portrait, CELEBAMASK)


def test_slots_of_one_region_count_together():
    masks = torch.tensor([0.3, 0.4, 0.3]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    regions = region_masks(masks, ("face", "hair", "face"), 4)
    assert regions[0, 0].min() == 1  # 0.3 + 0.3 against 0.4


def test_mean_attention_sums_to_one_over_the_tokens():
    maps = {"a": torch.rand(1, 4, 8, 8).softmax(1), "b": torch.rand(1, 4, 32, 32).softmax(1)}
    mean = mean_attention(maps)
    assert mean.shape == (1, 4, 32, 32)
    assert torch.allclose(mean.sum(1), torch.ones(1, 32, 32), atol=1e-5)
    assert layer_name("up_blocks.2.attentions.1.transformer_blocks.0.attn2", maps["a"]) == "up 2.1 (8x8)"


def test_portraits_at_the_size_of_a_512_model(model: DiffFAE):
    image = read_image(SOURCE)[0]
    portrait = model.analyse(image)
    large = DiffFAE(small(sample_size=64), model.head, model.landmarker, model.identity)
    own = large.analyse(image)
    assert own.picture.shape == (1, 3, 512, 512)
    # the same square, four times the pixels, and everything in it agrees
    assert own.crop == replace(portrait.crop, size=512)
    assert torch.allclose(own.landmarks, portrait.landmarks * 2, atol=1e-2)
    assert (F.avg_pool2d(own.picture, 2) - portrait.picture).abs().mean() < 0.01
    # and the numbers of the face do not depend on the model's size
    for name, values in portrait.attributes.tensors().items():
        assert torch.allclose(own.attributes.tensors()[name], values, atol=5e-3), name
    again = at_model_size(large, portrait)  # one that another model analysed
    assert torch.equal(again.picture, own.picture)
    assert torch.allclose(again.landmarks, own.landmarks, atol=1e-2)
    assert at_model_size(model, portrait) is portrait


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns", "rows", "extra"),
    [
        ("tokens", 6, 1, ""),
        ("attention", 12, 5, "--steps 1"),
        ("lights", 11, 2, "--query QUERY"),
        ("edits", 6, 1, ""),
        ("swaps", 7, 2, "--steps 1"),
    ],
)
def test_figures_of_the_shipped_weights(tmp_path: Path, name: str, columns: int, rows: int, extra: str):
    line = f"figure {name} --cell 64 --device cpu --output {tmp_path / 'page.png'} {extra.replace('QUERY', str(QUERY))}"
    assert main(line.split()) == 0
    page = read_image(tmp_path / "page.png")[0]
    step = 64 + grid.GAP
    assert page.shape == (3, grid.HEADER + rows * step + grid.GAP, grid.MARGIN + columns * step + grid.GAP)
    cells = page[:, grid.HEADER :, grid.MARGIN + grid.GAP :]
    assert cells[:, (rows - 1) * step : (rows - 1) * step + 64, step : step + 64].std() > 0.05  # a picture, not paper


def test_figure_regions_prints_overlaps(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    Image.fromarray(np.full((384, 384), 16, np.uint8)).save(tmp_path / "source.png")
    line = f"figure regions --source {SOURCE} --labels {tmp_path} --cell 64 --output {tmp_path / 'page.png'}"
    assert main(line.split()) == 0
    printed = capfd.readouterr().out
    assert "open-256, source.png: intersection over union  face 0.000  hair 0.000  clothes 0." in printed
