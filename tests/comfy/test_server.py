"""ComfyUI starts with the pack, loads it fast and without a word of complaint, and the client sees what happens."""

from __future__ import annotations

import re

import pytest
from client import Comfy, RunFailed
from PIL import Image


def blurred(size: int = 16, sigma: float = 1.0) -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": size, "height": size, "batch_size": 2, "color": 0xFF0000}},
        "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 1, "sigma": sigma}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def inverted(name: str) -> dict:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def test_pack_loads_without_complaint(comfy_each: Comfy):
    complaints = ("IMPORT FAILED", "Cannot import", "Error while calling comfy_entrypoint", "did not return", "Skip ", "Unable to parse")
    pack = str(comfy_each.base / "custom_nodes" / "difffae")
    lines = [line for line in comfy_each.log_text().splitlines() if pack in line or "pyproject" in line]
    assert lines
    assert [line for line in lines if any(complaint in line for complaint in complaints)] == []
    own = {name: info for name, info in comfy_each.get("/object_info").items() if info["python_module"] == "custom_nodes.difffae"}
    assert own
    assert all(name.startswith("DiffFAE") for name in own)


def test_pack_loads_fast(comfy_each: Comfy):
    (seconds,) = re.findall(r" ([\d.]+) seconds.*: .*custom_nodes.difffae$", comfy_each.log_text(), re.MULTILINE)
    assert float(seconds) < 0.5


def test_a_prompt_runs_and_is_cached(comfy_each: Comfy):
    comfy_each.free()
    first = comfy_each.run(blurred())
    assert (first.status, first.executed, first.cached) == ("success", ["1", "2", "3"], [])
    assert set(first.node_seconds) == {"1", "2", "3"}
    assert sum(first.node_seconds.values()) <= first.seconds
    pictures = first.images("3")
    assert [(picture.size, picture.getpixel((8, 8))) for picture in pictures] == [((16, 16), (254, 0, 0))] * 2
    second = comfy_each.run(blurred())
    assert (second.executed, sorted(second.cached)) == ([], ["1", "2", "3"])
    assert second.outputs == first.outputs


def test_an_uploaded_picture_arrives(comfy_each: Comfy):
    picture = Image.new("RGB", (8, 6), (10, 20, 30))
    picture.putpixel((7, 0), (255, 0, 0))
    (result,) = comfy_each.run(inverted(comfy_each.upload(picture))).images("3")
    assert (result.size, result.getpixel((0, 0)), result.getpixel((7, 0))) == ((8, 6), (245, 235, 225), (0, 255, 255))


def test_errors_name_their_node(comfy_each: Comfy):
    with pytest.raises(RunFailed, match=r"missing\.png"):
        comfy_each.run(inverted("missing.png"))
    rejected = comfy_each.run(inverted("missing.png"), expect_error=True)
    assert (rejected.status, rejected.error.node_id, list(rejected.node_errors)) == ("rejected", "1", ["1"])

    (comfy_each.base / "input" / "broken.png").write_bytes(b"no picture")
    broken = comfy_each.run(inverted("broken.png"), expect_error=True)
    assert (broken.status, broken.error.node_id, broken.error.node_type) == ("error", "1", "LoadImage")
    assert "UnidentifiedImageError" in broken.error.exception_type
    assert "cannot identify image file" in broken.error.exception_message
    with pytest.raises(RunFailed, match=r"node 1 \(LoadImage\)"):
        comfy_each.run(inverted("broken.png"))
    assert comfy_each.run(blurred()).status == "success"
