"""The bundled workflows and subgraph blueprints in ComfyUI's page: they open, are what the API prompts say, and run."""

from __future__ import annotations

import json
import re
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
# the page marks these where the file that the person brings is not there
BROUGHT = ("CheckpointLoaderSimple", "UNETLoader", "DualCLIPLoader", "VAELoader")
NEEDS_NODES = ["DiffFAELoader", "DiffFAEExamplePortrait"]


def check_page(app: App) -> None:
    """Every workflow opens whole, tidy, and as the prompt that the other tests run."""
    for path in WORKFLOWS:
        app.load(path)
        twin = json.loads((ROOT / "tests" / "comfy" / "workflows" / path.name).read_text(encoding="utf-8"))
        assert app.to_api() == twin, f"{path.name}: run scripts/export_workflows.py"
        assert [kind for kind in app.page.evaluate(UNKNOWN) if kind not in BROUGHT] == [], path.name
        app.page.wait_for_timeout(300)
        assert app.page.evaluate(OVERLAPS) == [], path.name
    assert app.foreign_requests == []
    assert app.errors == []
    assert app.failed_requests == []


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
def test_workflows_open_and_one_runs(comfy: Comfy, open_app, vue: bool):
    app = open_app(vue=vue, node_types=NEEDS_NODES)
    check_page(app)
    app.load(ROOT / "workflows" / "03_full_edit.json")
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
    app.page.get_by_text(names[0], exact=True).wait_for()
    titles = app.page.get_by_text(re.compile(r"^\d\d_\w+$")).all_inner_texts()
    assert titles == names[: len(titles)]  # in the order of their names, whatever the file system says
    assert len(titles) >= 6
    for name in names:  # pictures are loaded when they come into sight
        card = app.page.get_by_text(name, exact=True).locator("xpath=ancestor::*[.//img][1]")
        card.scroll_into_view_if_needed()
        image = card.locator("img").first.element_handle()
        app.page.wait_for_function("image => image.src.startsWith('blob:') && image.naturalWidth >= 560", arg=image)
    app.screenshot(tmp_path / "templates.png", fit=False)
    assert app.foreign_requests == []


UPLOAD = """() => {
    const node = app.graph._nodes.find(node => node.type === 'LoadImage');
    const button = node.widgets.find(widget => widget.type === 'button');
    const box = app.canvas.canvas.getBoundingClientRect(), { scale, offset } = app.canvas.ds;
    const x = node.pos[0] + node.size[0] / 2, y = node.pos[1] + button.last_y + 10;
    return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale];
}"""


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
def test_the_first_edit_of_a_newcomer(comfy: Comfy, open_app, tmp_path, vue: bool):
    """README's three steps: the first template, a run, a photograph of one's own by one click, a run."""
    app = open_app(vue=vue, node_types=["DiffFAEEditFace"])
    page = app.page
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.locator("nav, aside").get_by_text("difffae", exact=True).click()
    page.get_by_text("01_edit_face", exact=True).click()
    page.wait_for_function("() => app.graph._nodes.length === 4")
    page.wait_for_timeout(1000)  # the view glides to the nodes
    assert page.evaluate("() => app.canvas.ds.scale") > 0.7

    def run() -> np.ndarray:
        with page.expect_response(lambda response: response.url.endswith("/prompt")) as answer:
            page.get_by_test_id("queue-button").click()
        result = comfy.wait(answer.value.json()["prompt_id"])
        (key,) = [key for key, output in result.outputs.items() if output.get("images", [{}])[0].get("type") == "output"]
        return np.asarray(result.images(key)[0].convert("RGB"), float)

    with Image.open(ROOT / "difffae" / "assets" / "source.png") as file:
        assert 1 < np.abs(run() - np.asarray(file.convert("RGB"), float)).mean() < 20
    with Image.open(ROOT / "difffae" / "assets" / "query.png") as file:
        own = file.convert("RGB").crop((40, 30, 440, 450))
    own.save(tmp_path / f"own_{vue}.png")
    with page.expect_file_chooser() as chooser:
        if vue:
            page.locator("label:has(input[type=file])").first.click()  # the folder beside the file's name
        else:
            page.mouse.click(*page.evaluate(UPLOAD))
    chooser.value.set_files(tmp_path / f"own_{vue}.png")
    page.wait_for_function(
        "name => app.graph._nodes.find(node => node.type === 'LoadImage').widgets[0].value === name", arg=f"own_{vue}.png"
    )
    changed = np.abs(run() - np.asarray(own, float)).mean(-1)
    assert changed.shape == (420, 400)
    assert changed.mean() > 0.5
    assert (changed < 1).mean() > 0.2  # what lies outside the square stays
    app.screenshot(tmp_path / "own.png", fit=False)
    assert app.foreign_requests == []


def test_blueprints_open_and_run(comfy: Comfy, open_app):
    listed = comfy.get("/global_subgraphs")
    own = {entry["name"]: key for key, entry in listed.items() if entry["info"]["node_pack"] == "custom_nodes.difffae"}
    assert sorted(own) == [path.stem for path in BLUEPRINTS]
    app = open_app(node_types=NEEDS_NODES)
    files = {}
    for name, key in own.items():
        data = files[name] = json.loads(comfy.get(f"/global_subgraphs/{quote(key)}")["data"])
        app.load(data)
        assert app.page.evaluate(UNKNOWN) == [], name
        inner = data["definitions"]["subgraphs"][0]["nodes"]
        assert len(app.to_api()) == len(inner), name
    picked = {
        "Face Edit from Reference": ("DiffFAEComposeAttributes", {"light_strength": 0.5}),
        "Swap from Reference": ("DiffFAESwapSlots", {"background": True}),
    }
    source = np.asarray(Image.open(ROOT / "difffae" / "assets" / "source.png").convert("RGB"), np.float32)
    for title, (kind, values) in picked.items():
        edited = {}
        for diffusion in (False, True):
            edited[diffusion], prompt = _run_alone(app, files[f"{title} (DiffFAE)"], {"steps": 4, "diffusion": diffusion} | values)
            inputs = {node["class_type"]: node["inputs"] for node in prompt.values()}
            assert inputs["DiffFAESampler"]["steps"] == 4
            assert inputs["ComfySwitchNode"]["switch"] == diffusion
            assert values.items() <= inputs[kind].items()
            assert edited[diffusion].shape == source.shape
            assert 1 < np.abs(edited[diffusion] - source).mean() < (20 if title.startswith("Face") else 90)
        assert np.abs(edited[True] - edited[False]).mean() > 0.01
    assert app.errors == []


def _run_alone(app: App, blueprint: dict, values: dict) -> tuple[np.ndarray, dict]:
    """A blueprint as one node between the loader, two portraits and a preview: its picture and its prompt."""
    app.load(blueprint)
    app.page.evaluate(
        """values => {
            const add = (type, values = {}) => {
                const node = LiteGraph.createNode(type)
                app.graph.add(node)
                return set(node, values)
            }
            const set = (node, values) => {
                for (const [name, value] of Object.entries(values)) node.widgets.find(widget => widget.name === name).value = value
                return node
            }
            const edit = set(app.graph.nodes[0], values)
            const loader = add('DiffFAELoader')
            const source = add('DiffFAEExamplePortrait', { picture: 'astronaut' })
            const reference = add('DiffFAEExamplePortrait', { picture: 'naval officer' })
            const preview = add('PreviewImage')
            loader.connect(0, edit, 'model'); loader.connect(1, edit, 'vae'); loader.connect(2, edit, 'difffae')
            source.connect(0, edit, 'source'); reference.connect(0, edit, 'reference'); edit.connect('image', preview, 'images')
        }""",
        values,
    )
    prompt = app.to_api()
    result = app.queue()
    (preview,) = [node for node in result.outputs if prompt.get(node, {}).get("class_type") == "PreviewImage"]
    return np.asarray(result.images(preview)[0].convert("RGB"), np.float32), prompt
