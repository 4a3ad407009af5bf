"""The bundled workflows and subgraph blueprints in ComfyUI's page: they open, are what the API prompts say, and run."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from app import App
from client import Comfy
from PIL import Image

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
OVERLAPS = """() => {
    const boxes = app.graph._nodes.map(node => [node.title, ...node.boundingRect])
    const meet = (a, b) => a[1] < b[1] + b[3] && b[1] < a[1] + a[3] && a[2] < b[2] + b[4] && b[2] < a[2] + a[4]
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b)).map(b => a[0] + ' / ' + b[0]))
}"""
UNKNOWN = "() => app.graph._nodes.filter(node => node.has_errors || !(node.type in LiteGraph.registered_node_types)).map(node => node.type)"
NEEDS_NODES = ["DiffFAELoader", "DiffFAEExamplePortrait"]


def check_page(app: App) -> None:
    """Every workflow opens whole, tidy, and as the prompt that the other tests run."""
    for path in WORKFLOWS:
        app.load(path)
        twin = json.loads((ROOT / "tests" / "comfy" / "workflows" / path.name).read_text(encoding="utf-8"))
        assert app.to_api() == twin, f"{path.name}: run scripts/export_workflows.py"
        assert app.page.evaluate(UNKNOWN) == [], path.name
        app.page.wait_for_timeout(300)
        assert app.page.evaluate(OVERLAPS) == [], path.name
    assert app.foreign_requests == []
    assert app.errors == []
    assert app.failed_requests == []


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
def test_workflows_open_and_one_runs(comfy: Comfy, open_app, vue: bool):
    app = open_app(vue=vue, node_types=NEEDS_NODES)
    check_page(app)
    app.load(ROOT / "workflows" / "1_full_edit.json")
    with app.page.expect_response(lambda response: response.url.endswith("/prompt")) as answer:
        app.page.get_by_test_id("queue-button").click()
    result = comfy.wait(answer.value.json()["prompt_id"])
    (saved,) = [output["images"] for output in result.outputs.values() if output.get("images", [{}])[0].get("type") == "output"]
    with Image.open(comfy.base / "output" / saved[0]["subfolder"] / saved[0]["filename"]) as picture:
        assert (picture.size, "workflow" in picture.info) == ((384, 384), True)
    app.page.wait_for_timeout(1000)
    assert app.page.evaluate(OVERLAPS) == []  # pictures that came with the run found their room


def test_workflows_open_in_the_oldest_supported(comfy_floor: Comfy, open_app):
    check_page(open_app(node_types=NEEDS_NODES, server=comfy_floor))


def test_template_browser_shows_them(comfy: Comfy, open_app, tmp_path):
    names = [path.stem for path in WORKFLOWS]
    assert sorted(comfy.get("/api/workflow_templates")["difffae"]) == names
    for name in names:
        with urllib.request.urlopen(f"{comfy.url}/api/workflow_templates/difffae/{name}.jpg") as answer:
            thumbnail = Image.open(answer)
            assert 560 <= thumbnail.width <= 640
            assert np.asarray(thumbnail).std() > 20
    app = open_app(node_types=NEEDS_NODES, size=(1600, 1000))
    app.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    app.page.locator("nav, aside").get_by_text("difffae", exact=True).click()
    app.page.get_by_text("difffae", exact=True).nth(1).wait_for()  # the title above the pictures
    for name in names:  # pictures are loaded when they come into sight
        card = app.page.get_by_text(name, exact=True).locator("xpath=ancestor::*[.//img][1]")
        card.scroll_into_view_if_needed()
        image = card.locator("img").first.element_handle()
        app.page.wait_for_function("image => image.src.startsWith('blob:') && image.naturalWidth >= 560", arg=image)
    app.screenshot(tmp_path / "templates.png", fit=False)
    assert app.foreign_requests == []


def test_blueprints_open_and_run(comfy: Comfy, open_app):
    listed = comfy.get("/global_subgraphs")
    own = {entry["name"]: key for key, entry in listed.items() if entry["info"]["node_pack"] == "custom_nodes.difffae"}
    assert sorted(own) == [path.stem for path in BLUEPRINTS]
    app = open_app(node_types=NEEDS_NODES)
    for name, key in own.items():
        data = json.loads(comfy.get(f"/global_subgraphs/{quote(key)}")["data"])
        app.load(data)
        assert app.page.evaluate(UNKNOWN) == [], name
        inner = data["definitions"]["subgraphs"][0]["nodes"]
        assert len(app.to_api()) == len(inner), name
    for title, picked in (("Face Edit from Reference", {"light_strength": 0.5}), ("Swap from Reference", {"background": True})):
        edited, prompt = _run_alone(app, f"{title} (DiffFAE)", {"steps": 4} | picked)
        (sampler,) = [node for node in prompt.values() if node["class_type"] == "DiffFAESampler"]
        assert sampler["inputs"]["steps"] == 4
        values = [node["inputs"] for node in prompt.values() if node["class_type"] in ("DiffFAEComposeAttributes", "DiffFAESwapSlots")]
        assert [picked.items() <= inputs.items() for inputs in values] == [True]
        source = np.asarray(Image.open(ROOT / "difffae" / "assets" / "source.png").convert("RGB"), np.float32)
        assert edited.shape == source.shape
        changed = np.abs(edited - source).mean()
        assert 1 < changed < (20 if title.startswith("Face") else 90)
    assert app.errors == []


def _run_alone(app, title: str, values: dict) -> tuple[np.ndarray, dict]:
    """A blueprint as one node, as it comes out of the node library: its picture and its prompt."""
    app.load({"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4})
    app.page.wait_for_function(f"Object.values(LiteGraph.registered_node_types).some(type => type.title === {json.dumps(title)})")
    app.page.evaluate(
        """([title, values]) => {
            const add = (type, values = {}) => {
                const node = LiteGraph.createNode(type)
                app.graph.add(node)
                for (const [name, value] of Object.entries(values)) node.widgets.find(widget => widget.name === name).value = value
                return node
            }
            const loader = add('DiffFAELoader')
            const source = add('DiffFAEExamplePortrait', { picture: 'astronaut' })
            const reference = add('DiffFAEExamplePortrait', { picture: 'naval officer' })
            const type = Object.entries(LiteGraph.registered_node_types).find(([, known]) => known.title === title)[0]
            const edit = add(type, values)
            const preview = add('PreviewImage')
            loader.connect(0, edit, 'model'); loader.connect(1, edit, 'vae'); loader.connect(2, edit, 'difffae')
            source.connect(0, edit, 'source'); reference.connect(0, edit, 'reference'); edit.connect('image', preview, 'images')
        }""",
        [title, values],
    )
    prompt = app.to_api()
    result = app.queue()
    (preview,) = [node for node, output in result.outputs.items() if output.get("images") and ":" not in node]
    return np.asarray(result.images(preview)[0].convert("RGB"), np.float32), prompt
