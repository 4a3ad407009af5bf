"""What the nodes make of odd pictures and numbers, of videos without the person, of rolled pictures, and of a hundred runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from client import Comfy
from graphs import BUNDLE, SOURCE, edited, link, node
from inprocess import Pack
from mutations import bad_pictures, noise_picture
from pictures import portrait
from PIL import Image

RUNS, SETTLED = 100, 40
GROWTH = 120  # MiB


def odd_picture(generator: random.Random, portrait: torch.Tensor) -> torch.Tensor:
    """IMAGEs of shapes and values that a graph may bring."""
    height, width, frames = (generator.choice((0, 1, 7, 64)) for _ in range(3))
    channels = generator.choice((1, 2, 3, 4))
    kinds = (
        torch.rand(min(frames, 3), height, width, channels),
        portrait.to(torch.float16),
        portrait * generator.choice((float("nan"), float("inf"), -1.0, 1e30)),
        portrait[0],
        portrait[..., :2],
        portrait.expand(2, -1, -1, -1),
        portrait.movedim(-1, 1),
    )
    return generator.choice(kinds)


@pytest.mark.slow
def test_pictures_and_numbers(pack: Pack) -> None:
    """100 runs: a result of finite numbers, or one of our own errors in one line."""
    generator = random.Random(0)
    torch.manual_seed(0)
    known = portrait("source.png")
    picture, _, crop = pack.run("DiffFAECropFace", image=known)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    ours, highest = pack.library("common.errors").DiffFAEError, {"yaw": 60.0, "smile": 1.0, "jaw_open": 1.0}
    outcomes = {"right": 0, "told": 0}
    wrong = []
    for number in range(100):
        image = odd_picture(generator, known)
        numbers = {name: generator.choice((-1e9, float("nan"), high)) for name, high in highest.items()}
        wishes: list[tuple[str, dict[str, Any]]] = [
            ("DiffFAECropFace", {"image": image, "face": generator.choice((0, 1, 63))}),
            ("DiffFAEEstimateAttributes", {"image": image, "crop": generator.choice((None, crop))}),
            ("DiffFAEPasteBack", {"original": image, "edited": generator.choice((picture, image)), "crop": crop}),
            ("DiffFAEReport", {"source": generator.choice((known, image)), "result": image}),
            ("DiffFAEAdjustAttributes", {"attributes": own} | numbers),
        ]
        name, inputs = wishes[number % len(wishes)]
        try:
            result = pack.run(name, **{key: value for key, value in inputs.items() if value is not None})
        except ours as error:
            outcomes["told"] += "\n" not in str(error)
            continue
        outcomes["right"] += 1
        if not all(bool(torch.isfinite(value).all()) for value in result if isinstance(value, torch.Tensor)):
            wrong.append((number, name))
    assert wrong == []
    assert outcomes["told"] > 20
    assert outcomes["right"] > 10
    assert sum(outcomes.values()) == 100


@pytest.mark.slow
def test_files_of_recipes(pack: Pack, tmp_path: Path) -> None:
    """60 damaged pictures: none carries a recipe, and each says so in a line."""
    ours = pack.library("common.errors").DiffFAEError
    for name, content in bad_pictures(60, noise_picture(1), 1):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ours) as caught:
            pack.library("edit.recipe").read_recipe(path)
        assert "\n" not in str(caught.value)


def test_frames_without_the_person(pack: Pack) -> None:
    """They pass bit for bit, also where somebody else is seen; what they give to others comes from the frames around them."""
    here, other = portrait("source.png"), torch.nn.functional.interpolate(portrait("query.png").movedim(-1, 1), (384, 384)).movedim(1, -1)
    frames = torch.cat([here, torch.full_like(here, 0.5), other, here])
    for missing in ("interpolate", "repeat"):
        picture, _, crop = pack.run("DiffFAECropFace", image=frames, missing_face=missing)
        assert [crop.shows_face(row) for row in range(4)] == [True, False, False, True]
        (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
        torch.testing.assert_close(own.expression[1], own.expression[0], atol=1e-4, rtol=0)
        pasted, squares, *_ = pack.run("DiffFAEPasteBack", original=frames, edited=(picture * 0.8).clamp(0, 1), crop=crop)
        for row in (1, 2):
            assert torch.equal(pasted[row], frames[row])
            assert torch.equal(squares[row], picture[row])
        assert (pasted[0] - frames[0]).abs().max() > 0.05
        _, identity, *_, report = pack.run("DiffFAEReport", source=frames, result=pasted, crop=crop)
        assert [np.isnan(rows[0].value) for rows in report.rows] == [False, True, True, False]
        assert identity < 0.43


def test_a_picture_upside_down(pack: Pack) -> None:
    """The square that Crop Face gives is upright, and Paste Back puts it where it was."""
    upright = portrait("source.png")[:, :360]
    inverted = upright.rot90(2, (1, 2))
    (a, _, _), (b, _, crop) = (pack.run("DiffFAECropFace", image=image) for image in (upright, inverted))
    assert (a - b).abs().mean() < 0.03  # the squares differ by a pixel
    pasted, *_ = pack.run("DiffFAEPasteBack", original=inverted, edited=b, crop=crop)
    assert torch.equal(pasted, inverted)
    half = b.clone()
    half[:, 128:] *= 0.5
    changed = pack.run("DiffFAEPasteBack", original=inverted, edited=half, crop=crop)[0] - inverted
    rows = changed.abs().mean((0, 2, 3))
    assert rows[: 360 - crop.squares[0].top - crop.squares[0].side * 6 // 10].mean() > 0.01  # what was below is above
    assert rows[360 - crop.squares[0].top :].max() == 0


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def test_the_pack_loads_at_once(pack: Pack) -> None:
    """It adds at most half a second to ComfyUI's start; 0.2 were measured."""
    assert pack.import_seconds < 0.5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to read a process's memory")
def test_freed_memory(comfy: Comfy) -> None:
    """After /free a server that has edited holds at most 100 MiB more than after the first /free, and than when its code was loaded."""
    graph = {**edited(comfy, denoise=0.2), "show": node("PreviewImage", images=link("paste"))}
    del graph["save"]
    comfy.run(graph)
    comfy.free()
    before = memory(comfy.pid)
    for seed in range(4):
        graph["sample"]["inputs"]["seed"] = seed
        comfy.run(graph)
        comfy.free()
    assert memory(comfy.pid) - before < 100


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to read a process's memory")
def test_a_hundred_runs_keep_memory_flat(comfy: Comfy) -> None:
    with Image.open(SOURCE) as opened:
        base = opened.convert("RGB").crop((90, 30, 290, 230))
    measured = []
    for number in range(RUNS):
        side = 200 + 2 * (number % 7)
        picture = base.resize((side, side))
        picture.putpixel((0, 0), (number, 0, 0))  # every run has its own source
        graph = {
            "load": node("DiffFAELoader", checkpoint="open-256"),
            "source": node("LoadImage", image=comfy.upload(picture)),
            "crop": node("DiffFAECropFace", difffae=BUNDLE, image=link("source"), face=0, missing_face="error", smoothing=0.0),
            "slots": node("DiffFAEEncodeSlots", difffae=BUNDLE, image=link("crop")),
            "paste": node("DiffFAEPasteBack", original=link("source"), edited=link("crop"), crop=link("crop", 2), feather=0.012),
            "show": node("PreviewImage", images=link("paste")),
            "slot mask": node("MaskPreview", mask=link("slots", 1)),
        }
        comfy.run(graph)
        measured.append(memory(comfy.pid))
    assert max(measured[-10:]) - max(measured[SETTLED - 10 : SETTLED]) < GROWTH
