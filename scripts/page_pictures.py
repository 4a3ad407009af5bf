"""Draw docs/workflow.jpg and docs/adjust.jpg: the first workflow, and Adjust Face Attributes in Nodes 2.0, in ComfyUI's page after a run.

.comfyui/venv/bin/python scripts/page_pictures.py      needs Chromium
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "comfy"))

from app import App, chromium  # noqa: E402
from server import running  # noqa: E402

LOOK = """([at, values]) => {
    const node = app.graph.nodes.find(node => node.comfyClass === at.kind);
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find(widget => widget.name === name);
        widget.value = value;
        widget.callback?.(value, app.canvas, node);
    }
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = at.whole ? at.place : [at.place[0] - node.pos[0], at.place[1] - node.pos[1]];
    app.canvas.setDirty(true, true);
    return String(node.id);
}"""
CALM = """() => document.querySelector('.difffae-stage > img')?.src && document.querySelector('.difffae-busy').hidden"""


def shown(app: App, workflow: str, at: dict[str, Any], values: dict[str, Any]) -> str:
    """Loads a workflow, sets numbers of the node with the preview, runs it and brings it into sight; the node's id."""
    app.load(ROOT / "workflows" / workflow)
    app.page.wait_for_timeout(500)
    node = app.page.evaluate(LOOK, [at, values])
    app.queue()
    app.page.wait_for_function(CALM, timeout=120_000)
    app.page.wait_for_timeout(8000)  # what the page says of a finished job goes by itself
    return node


def save(picture: bytes, name: str) -> None:
    path = ROOT / "docs" / name
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(path, quality=85, optimize=True)
        print(f"docs/{name} {image.size} {path.stat().st_size // 1000} kB")


def main() -> None:
    with running() as comfy, chromium() as browser:
        comfy.post("/api/settings", {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False})
        app = App(comfy, browser, vue=False, node_types=["DiffFAEEditFace"], size=(1430, 885))
        shown(app, "01_edit_face.json", {"kind": "DiffFAEEditFace", "whole": True, "place": [75, 135]}, {})
        save(app.page.screenshot(), "workflow.jpg")
        app.page.close()
        app = App(comfy, browser, vue=True, node_types=["DiffFAEAdjustAttributes"], size=(1000, 900))
        numbers = {"yaw": -10.0, "pitch": 3.5, "smile": 0.3, "relight": True, "light_azimuth": -45.0, "light_elevation": 24.0}
        node = shown(app, "02_edit_by_numbers.json", {"kind": "DiffFAEAdjustAttributes", "place": [120, 130]}, numbers)
        save(app.page.locator(f'[data-node-id="{node}"]').screenshot(), "adjust.jpg")


if __name__ == "__main__":
    main()
