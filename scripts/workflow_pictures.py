"""Thumbnails of the bundled workflows from what they really give: the pictures of a run, side by side."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from PIL import Image
from workflow_graph import Workflow

WIDTH, HEIGHT, GAP = 640, 512, 4
FRAMES = 4  # of an animation


def call(url: str, body: Any = None) -> Any:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url}: HTTP {error.code}: {error.read().decode()[:2000]}") from None


def run(server: str, prompt: dict[str, Any]) -> dict[str, Any]:
    """Outputs of every node of a prompt, once it has run. Ends the program with the server's error if it does not."""
    identity = call(f"{server}/prompt", {"prompt": prompt})["prompt_id"]
    while not (entry := call(f"{server}/history/{identity}").get(identity)):
        time.sleep(0.1)
    if entry["status"]["status_str"] != "success":
        raise SystemExit(json.dumps([message for message in entry["status"]["messages"] if "error" in message[0]])[:2000])
    return entry["outputs"]


def frames_of(server: str, entry: dict[str, str]) -> list[Image.Image]:
    """Of a file in ComfyUI's output or temp folder; a still picture is one frame."""
    with urllib.request.urlopen(f"{server}/view?{urllib.parse.urlencode(entry)}") as answer:
        picture = Image.open(io.BytesIO(answer.read()))
    frames = []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        frames.append(picture.convert("RGB"))
    return frames


def row(pictures: list[Image.Image], height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Pictures at one height, side by side on white, not wider than `width`."""
    scaled = [picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS) for picture in pictures]
    total = sum(picture.width for picture in scaled) + GAP * (len(scaled) - 1)
    if total > width and height > 1:
        return row(pictures, min(height - 1, int(height * width / total)), width)
    sheet = Image.new("RGB", (total, height), "white")
    x = 0
    for picture in scaled:
        sheet.paste(picture, (x, 0))
        x += picture.width + GAP
    return sheet


def jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return stream.getvalue()


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


def thumbnail(server: str, workflow: Workflow) -> Image.Image:
    """Runs the workflow, and draws what `workflow.picture` asks for."""
    outputs = run(server, workflow.graph.api())
    titles = {node.title: str(node.id) for node in workflow.graph.nodes if node.title}

    def frames(part: str) -> list[Image.Image]:
        return frames_of(server, outputs[titles[part]]["images"][0] if part in titles else _example(server, part))

    shown = [frames(part) if isinstance(part, str) else [column([frames(one)[0] for one in part])] for part in workflow.picture.parts]
    if max(map(len, shown)) == 1:
        return row([pictures[0] for pictures in shown])
    strips = [[pictures[round(k * (len(pictures) - 1) / (FRAMES - 1))] for k in range(FRAMES)] for pictures in shown]
    return column([row(strip) for strip in strips])


def _example(server: str, name: str) -> dict[str, str]:
    prompt = {
        "1": {"class_type": "DiffFAEExamplePortrait", "inputs": {"picture": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    return run(server, prompt)["2"]["images"][0]
