"""Draw the thumbnails of the bundled workflows, workflows/*.jpg, from what they really give: the pictures of a run, side by side.

.comfyui/venv/bin/python scripts/workflow_pictures.py [NAME ...]      names of workflows, as 03_full_edit; by default all of them
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "comfy"))

from client import Comfy  # noqa: E402
from server import running  # noqa: E402

WIDTH, HEIGHT, GAP = 640, 512, 4
FRAMES = 4  # of an animation
# left to right: titles of nodes whose pictures the run gave, or names of example portraits. A list of them stands one above the other.
# Of animations some frames stand in a row
PARTS: dict[str, list[str | list[str]]] = {
    "01_edit_face": ["astronaut", "Result"],
    "02_edit_by_numbers": ["naval officer", "Result"],
    "03_full_edit": [["astronaut", "naval officer"], "Result"],
    "04_each_from_its_own_reference": [["Before", "turned", "surprised", "side light"], "After"],
    "05_swap_hair_clothes_background": [["Before", "surprised", "naval officer", "side light"], "After"],
    "06_swap_and_edit": [["astronaut", "naval officer"], "Result"],
    "07_relight_sweep": ["All frames"],
    "08_animate_portrait": ["Result"],
    "09_video_frames": ["The actor's frames", "Result"],
    "10_native_ksampler": [["astronaut", "naval officer", "Result"], "Blurred background"],
    "11_repeat_a_saved_edit": ["naval officer", "Result"],
    "12_repair_sd_inpainting": ["Before the repair", "White: is painted"],  # what follows needs a checkpoint that nobody has yet
    "13_repair_flux_fill": ["Before the repair", "White: is painted"],
    "14_relight_a_clip": ["Result"],
    "15_paper_pipeline": [["Source", "Reference"], "What is asked for", "Result"],
}


def run(comfy: Comfy, prompt: dict[str, Any]) -> dict[str, Any]:
    """Outputs of every node of a prompt."""
    return comfy.wait(comfy.queue(prompt), timeout=3600).outputs


def frames_of(picture: Image.Image) -> list[Image.Image]:
    """A still picture is one frame."""
    frames = []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        frames.append(picture.convert("RGB"))
    return frames


def row(pictures: list[Image.Image], height: int = HEIGHT) -> Image.Image:
    """Pictures at one height, side by side on white, not wider than WIDTH."""
    scaled = [picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS) for picture in pictures]
    total = sum(picture.width for picture in scaled) + GAP * (len(scaled) - 1)
    if total > WIDTH and height > 1:
        return row(pictures, min(height - 1, int(height * WIDTH / total)))
    sheet = Image.new("RGB", (total, height), "white")
    x = 0
    for picture in scaled:
        sheet.paste(picture, (x, 0))
        x += picture.width + GAP
    return sheet


def column(pictures: list[Image.Image]) -> Image.Image:
    """Pictures at the width of the first, one above the other on white."""
    width = pictures[0].width
    scaled = [picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS) for picture in pictures]
    sheet = Image.new("RGB", (width, sum(picture.height for picture in scaled) + GAP * (len(scaled) - 1)), "white")
    y = 0
    for picture in scaled:
        sheet.paste(picture, (0, y))
        y += picture.height + GAP
    return sheet


def needed(prompt: dict[str, Any], titles: list[str]) -> dict[str, Any]:
    """The nodes with these titles, and those that they depend on."""
    waiting = [key for key, node in prompt.items() if node["_meta"]["title"] in titles]
    found: dict[str, Any] = {}
    while waiting:
        key = waiting.pop()
        if key not in found:
            found[key] = prompt[key]
            waiting += [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list) and len(value) == 2]
    return found


def thumbnail(comfy: Comfy, name: str) -> Image.Image:
    """Runs the workflow, and draws what PARTS asks for."""
    prompt = json.loads((ROOT / "tests" / "comfy" / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    names = [part for own in PARTS[name] for part in ([own] if isinstance(own, str) else own)]
    outputs = run(comfy, needed(prompt, names))
    titles = {node["_meta"]["title"]: key for key, node in prompt.items()}

    def frames(part: str) -> list[Image.Image]:
        entry = outputs[titles[part]]["images"][0] if part in titles else _example(comfy, part)
        return frames_of(comfy.image(entry))

    shown = [frames(part) if isinstance(part, str) else [column([frames(one)[0] for one in part])] for part in PARTS[name]]
    if max(map(len, shown)) == 1:
        return row([pictures[0] for pictures in shown])
    strips = [[pictures[round(k * (len(pictures) - 1) / (FRAMES - 1))] for k in range(FRAMES)] for pictures in shown]
    return column([row(strip) for strip in strips])


def _example(comfy: Comfy, name: str) -> dict[str, str]:
    prompt = {
        "1": {"class_type": "DiffFAEExamplePortrait", "inputs": {"picture": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    return run(comfy, prompt)["2"]["images"][0]


def main(*names: str) -> None:
    with running() as comfy:
        for name in names or PARTS:
            thumbnail(comfy, name).save(ROOT / "workflows" / f"{name}.jpg", quality=66, optimize=True, progressive=True)
            print(f"workflows/{name}.jpg")


if __name__ == "__main__":
    main(*sys.argv[1:])
