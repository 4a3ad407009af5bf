"""Editing by hand in Adjust Face Attributes: the photograph in the node follows sliders, drags, presets and pasted attributes."""

from __future__ import annotations

import base64
import io
import json
import statistics
import time
import urllib.request

import numpy as np
import pytest
import torch
from app import App
from client import Comfy
from PIL import Image

from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image
from difffae.edit.analysing import layers_of, with_slots
from difffae.edit.editor import DiffFAE
from difffae.head.adjust import Adjustments
from difffae.head.attributes import FaceAttributes
from difffae.person.prepared import carry

NODE = "24"
MODES = pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
VALUES = """id => Object.fromEntries(app.graph.getNodeById(id).widgets.filter(w => w.serialize !== false).map(w => [w.name, w.value]))"""
PIXELS = """async id => {
    const image = app.graph.getNodeById(id).widgets.find(w => w.name === "difffae_preview").element.querySelector("img");
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    canvas.getContext("2d").drawImage(image, 0, 0);
    const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}"""
SET = """([id, name, value]) => {
    const node = app.graph.getNodeById(id), widget = node.widgets.find(w => w.name === name);
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
}"""
BALL = """id => {
    const ball = document.querySelector(`[data-test-id=panel${id}] canvas`), side = ball.width;
    const pixels = ball.getContext("2d").getImageData(0, 0, side, side).data;
    let light = 0, across = 0;
    for (let at = 0; at < side * side; at++) {
        const value = pixels[4 * at] * pixels[4 * at + 3];
        light += value;
        across += value * (at % side);
    }
    return across / light / side;
}"""  # where its light lies, from 0 at the left to 1
PLACE = """places => {
    for (const [id, pos] of Object.entries(places)) app.graph.getNodeById(id).pos = pos;
    Object.assign(app.canvas.ds, { scale: 1 });
    app.canvas.ds.offset = [60, 40];
    app.canvas.setDirty(true, true);
}"""


def prompt(image: str, *nodes: str) -> dict:
    def node(kind: str, **inputs) -> dict:
        return {"class_type": kind, "inputs": inputs}

    sliders = dict.fromkeys(("yaw", "pitch", "roll", "smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"), 0.0)
    light = {"relight": False, "light_azimuth": 45.0, "light_elevation": 20.0, "light_strength": 0.6, "absolute": False, "pasted": ""}
    links = {"difffae": ["1", 2], "attributes": ["5", 0], "image": ["4", 0], "slots": ["9", 0]}
    return {
        "1": node("DiffFAELoader", checkpoint="open-256"),
        "2": node("LoadImage", image=image),
        "4": node("DiffFAECropFace", difffae=["1", 2], image=["2", 0], face=0, missing_face="error", smoothing=0.0),
        "5": node("DiffFAEEstimateAttributes", difffae=["1", 2], image=["4", 0], crop=["4", 2]),
        "9": node("DiffFAEEncodeSlots", difffae=["1", 2], image=["4", 0]),
        "30": node("PreviewImage", images=["4", 0]),  # another output, which the node's own button must not run
        **{name: node("DiffFAEAdjustAttributes", **links, **sliders, **light) for name in nodes or (NODE,)},
    }


class Hand:
    """A person at one such node."""

    def __init__(self, app: App, node: str = NODE):
        self.app, self.page, self.node = app, app.page, node
        mark = "id => { app.graph.getNodeById(id).widgets.at(-1).element.dataset.testId = 'panel' + id }"
        app.page.evaluate(mark, node)
        self.panel = app.page.locator(f"[data-test-id=panel{node}]")

    def values(self) -> dict:
        return self.page.evaluate(VALUES, self.node)

    def source(self) -> str | None:
        return self.panel.locator(".difffae-stage > img").get_attribute("src")

    def picture(self, since: str | None = "") -> np.ndarray:
        """Pixels (H,W,3) of the preview once it is another one than `since` and stays."""
        end = time.monotonic() + 60
        last, calm = None, time.monotonic()
        while True:
            shown = self.source()
            # a slow machine may need longer for a move than a picture has to stay; the panel says so from 0.3 s on
            busy = self.panel.locator(".difffae-busy").get_attribute("hidden") is None
            if shown != last or shown is None or shown == since or busy:
                last, calm = shown, time.monotonic()
            if time.monotonic() - calm > 0.5:
                break
            assert time.monotonic() < end, "no new preview"
            self.page.wait_for_timeout(50)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(self.page.evaluate(PIXELS, self.node)))).convert("RGB")).astype(float)

    def comes_to_show(self, expected: np.ndarray, since: str | None) -> bool:
        """Whether the preview comes to show these pixels after it was `since`: one that was asked for earlier may come first."""
        end = time.monotonic() + 60
        while np.abs(self.picture(since) - expected).mean() >= 0.5:
            if time.monotonic() > end:
                return False
            self.page.wait_for_timeout(200)
        return True

    def load(self) -> np.ndarray:
        self.panel.get_by_role("button", name="Load photo").click()
        return self.picture()

    def set(self, name: str, value) -> np.ndarray:
        before = self.source()
        self.page.evaluate(SET, [self.node, name, value])
        return self.picture(before)

    def slider(self, name: str):
        return self.panel.get_by_role("slider", name=name, exact=True)

    def move_slider(self, name: str) -> np.ndarray:
        """To about three quarters of its way, with the mouse."""
        before = self.source()
        track = self.slider(name).bounding_box()
        x, y = track["x"] + 0.75 * track["width"], track["y"] + track["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + 2, y)
        self.page.mouse.up()
        return self.picture(before)

    def drag(self, part: str, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
        """Places are shares of the part's width and height."""
        before, box = self.source(), self.panel.locator(part).bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=5)
        self.page.mouse.up()
        return self.picture(before)

    def choose(self, preset: str) -> np.ndarray:
        before = self.source()
        self.panel.get_by_role("combobox").select_option(preset)
        return self.picture(before)

    def press(self, label: str) -> None:
        self.panel.locator(f"button[aria-label^='{label}']").click()


@pytest.fixture
def opened(comfy: Comfy, open_app):
    """A page with a face and one or more such nodes; the graph is saved as a workflow would be."""

    def open_(vue: bool, *nodes: str) -> App:
        app = open_app(vue=vue, node_types=["DiffFAEAdjustAttributes", "LoadImage"], size=(1400, 1100))
        # the page still opens its first workflow, which would take ours away again
        app.page.wait_for_function("() => !app.extensionManager.spinner && app.extensionManager.workflow?.activeWorkflow", timeout=60_000)
        app.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        app.page.evaluate("prompt => app.loadApiJson(prompt, 'test')", prompt(comfy.upload("difffae/assets/source.png"), *nodes))
        app.page.wait_for_function("count => app.graph._nodes.length === count", arg=6 + len(nodes or (NODE,)))
        places = {node: [60 + 650 * index, 30] for index, node in enumerate(nodes or (NODE,))}
        app.page.evaluate(PLACE, places | {node: [-700, 60 * index] for index, node in enumerate(("1", "2", "4", "5", "9", "30"))})
        app.page.wait_for_timeout(500)
        return app

    return open_


def face_sides(picture: np.ndarray) -> tuple[float, float]:
    """Mean luminance of the two cheeks, image left and right; the shipped face looks straight ahead."""
    grey = picture @ [0.2126, 0.7152, 0.0722]
    return grey[100:150, 80:115].mean(), grey[100:150, 140:175].mean()


@MODES
def test_picture_follows_the_hand(opened, vue):
    app = opened(vue)
    hand, page = Hand(app), app.page
    original = hand.load()
    assert original.shape == (256, 256, 3)
    assert page.evaluate("() => ['24', '30'].map(id => id in app.nodeOutputs)") == [True, False]  # only the node's own branch ran

    turned = hand.move_slider("yaw")
    assert hand.values()["yaw"] > 15
    assert np.abs(turned - original).mean() > 4
    assert np.abs(hand.set("yaw", 0.0) - original).mean() < 0.5

    dragged = hand.drag(".difffae-stage", (0.45, 0.5), (0.6, 0.42))
    values = hand.values()
    assert 10 < values["yaw"] < 20
    assert 4 < values["pitch"] < 12
    assert values["roll"] == 0
    assert np.abs(dragged - original).mean() > 3
    page.keyboard.down("Shift")
    hand.drag(".difffae-stage", (0.45, 0.5), (0.55, 0.5))
    page.keyboard.up("Shift")
    assert 5 < hand.values()["roll"] < 20
    before = hand.source()
    hand.panel.locator(".difffae-stage").dblclick(position={"x": 150, "y": 120})
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    assert [hand.values()[name] for name in ("yaw", "pitch", "roll")] == [0, 0, 0]

    box, scale = hand.panel.locator(".difffae-stage").bounding_box(), page.evaluate("() => app.canvas.ds.scale")
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, 120)
    page.wait_for_function("scale => app.canvas.ds.scale !== scale", arg=scale)  # the wheel still zooms
    page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [60, 40]; app.canvas.setDirty(true, true) }")
    page.wait_for_timeout(300)

    assert hand.values()["relight"] is False
    left, right = face_sides(hand.drag(".difffae-ball", (0.5, 0.5), (0.85, 0.3)))
    values = hand.values()
    assert values["relight"] is True
    assert 30 < values["light_azimuth"] <= 120
    assert 5 < values["light_elevation"] < 60
    assert right > 1.15 * left
    left, right = face_sides(hand.drag(".difffae-ball", (0.5, 0.5), (0.2, 0.7)))
    assert hand.values()["light_azimuth"] < -20
    assert hand.values()["light_elevation"] < -5
    assert left > 1.15 * right
    azimuth, before = hand.values()["light_azimuth"], hand.source()
    hand.panel.locator(".difffae-ball").dblclick(position={"x": 36, "y": 20})
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    assert hand.values()["relight"] is False
    assert hand.values()["light_azimuth"] == azimuth  # for when it is switched on again

    surprised = hand.choose("surprised")
    values = hand.values()
    assert values["jaw_open"] > 0.2
    assert values["brow_up"] > 0.8
    assert values["blink"] < -0.5
    assert values["smile"] < -0.5  # the shipped face smiles
    assert np.abs(surprised - original).mean() > 1
    before = hand.source()
    button = hand.panel.locator("button[aria-label^='Hold']").bounding_box()
    page.mouse.move(button["x"] + 10, button["y"] + 10)
    page.mouse.down()
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    before = hand.source()
    page.mouse.up()
    assert np.abs(hand.picture(before) - surprised).mean() < 0.5
    before = hand.source()
    hand.panel.get_by_role("button", name="Clay").click()
    assert np.abs(hand.picture(before) - surprised).mean() > 20
    hand.press("Reset")
    assert all(hand.values()[name] == 0 for name in ("smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"))
    assert (app.errors, app.failed_requests, app.foreign_requests) == ([], [], [])


@MODES
def test_sliders_beside_the_picture(opened, vue, tmp_path):
    """At 1000 pixels across: groups that fold, a row that a double click resets, limits of turns, buttons in one row, undo."""
    app = opened(vue)
    app.page.set_viewport_size({"width": 1000, "height": 1100})
    app.page.evaluate("() => localStorage.removeItem('difffae.groups')")
    hand, page = Hand(app), app.page
    original = hand.load()
    picture, yaw = hand.panel.locator(".difffae-stage").bounding_box(), hand.slider("yaw").bounding_box()
    assert yaw["x"] > picture["x"] + picture["width"]  # beside, and both in sight
    assert picture["y"] < yaw["y"] < picture["y"] + picture["height"]
    assert yaw["x"] + yaw["width"] < 1000
    bar = hand.panel.locator(".difffae-bar")
    assert len({round(one.bounding_box()["y"]) for one in bar.locator("button:visible, select").all()}) == 1
    assert page.locator("textarea:visible").count() == 0  # the pasted JSON is out of the way
    assert hand.slider("yaw").locator("..").locator("..").get_attribute("title").endswith("-44° … 45°")

    assert hand.slider("squint").is_hidden()
    hand.panel.locator("summary", has_text="Eyes").click()
    hand.slider("squint").scroll_into_view_if_needed()
    before = hand.source()
    hand.slider("squint").fill("0.8")
    assert hand.values()["squint"] == 0.8
    assert np.abs(hand.picture(before) - original).mean() > 0.1
    before = hand.source()
    hand.slider("squint").dblclick()
    assert hand.values()["squint"] == 0
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    assert hand.values()["relight"] is False
    before = hand.source()
    hand.slider("azimuth").fill("-60")
    assert (hand.values()["relight"], hand.values()["light_azimuth"]) == (True, -60)
    lit = hand.picture(before)
    left, right = face_sides(lit)
    assert left > 1.15 * right
    app.screenshot(tmp_path / "beside.png", fit=False)

    hand.press("Copy")
    pasteboard(page, "difffae-attributes")
    before = hand.source()
    hand.press("Reset")
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    own = page.evaluate(BALL, NODE)
    before = hand.source()
    hand.press("Paste")
    assert np.abs(hand.picture(before) - lit).mean() < 1.5
    assert (hand.values()["relight"], hand.values()["light_azimuth"]) == (False, 45)
    assert page.evaluate(BALL, NODE) < own - 0.02  # the ball shows the pasted light, from the left
    before = hand.source()
    hand.panel.locator("button", has_text="pasted").click()
    assert hand.values()["pasted"] == ""
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    page.wait_for_timeout(500)
    hand.press("Undo")
    page.wait_for_function("id => app.graph.getNodeById(id)?.widgets.find(w => w.name === 'pasted').value !== ''", arg=NODE)
    assert (app.errors, app.failed_requests, app.foreign_requests) == ([], [], [])


def test_linked_numbers_keep_their_widgets(opened):
    """A number that comes by a wire is shown, and cannot be moved."""
    app = opened(False)
    hand = Hand(app)
    app.page.evaluate(
        """id => {
        const from = LiteGraph.createNode("PrimitiveFloat"), node = app.graph.getNodeById(id);
        app.graph.add(from);
        from.widgets[0].value = 12;
        from.connect(0, node, node.inputs.findIndex(input => input.name === "yaw"));
    }""",
        NODE,
    )
    hand.load()
    assert hand.slider("yaw").is_disabled()
    assert hand.slider("yaw").input_value() == "12"
    assert hand.slider("pitch").is_enabled()
    assert app.page.evaluate("id => app.graph.getNodeById(id).widgets.find(w => w.name === 'yaw').hidden", NODE) is False
    assert app.page.evaluate("id => app.graph.getNodeById(id).widgets.find(w => w.name === 'pitch').hidden", NODE) is True


def pasteboard(page, word: str) -> str:
    """The clipboard's text, once it holds a word: a page's own wait takes an unfinished answer for a yes."""
    end = time.monotonic() + 20
    while word not in (text := page.evaluate("() => navigator.clipboard.readText()")):
        assert time.monotonic() < end, f"the clipboard holds {text[:80]!r}"
        page.wait_for_timeout(50)
    return text


@MODES
def test_attributes_travel_between_two_nodes(opened, comfy, vue):
    app = opened(vue, "24", "25")
    first, second = Hand(app, "24"), Hand(app, "25")
    first.load()
    untouched = second.load()
    turned = first.set("yaw", 25.0)
    assert second.values()["yaw"] == 0
    assert np.abs(second.picture() - untouched).mean() == 0

    first.press("Copy")
    copied = FaceAttributes.from_json(pasteboard(app.page, "difffae-attributes"))
    assert copied.pose.shape == (1, 5, 3)
    before = second.source()
    second.press("Paste")
    assert second.comes_to_show(turned, before)
    assert FaceAttributes.from_json(second.values()["pasted"]).head == copied.head
    assert second.values()["yaw"] == 0

    app.page.evaluate('() => navigator.clipboard.writeText(\'{"format": "something"}\')')
    kept = second.values()
    second.press("Paste")
    second.panel.locator(".difffae-note.error").wait_for()
    assert second.values() == kept
    app.page.evaluate("() => { navigator.clipboard.readText = () => Promise.reject(new Error('not allowed')) }")
    second.press("Paste")
    second.panel.get_by_role("textbox").fill(kept["pasted"].replace("[", " ["))
    second.panel.get_by_role("button", name="OK").click()
    assert second.values()["pasted"] == kept["pasted"].replace("[", " [")
    second.press("Reset")
    assert second.values()["pasted"] == ""
    assert np.abs(second.picture() - untouched).mean() < 0.5

    app.page.evaluate("() => app.graph.remove(app.graph.getNodeById(25))")
    app.page.wait_for_timeout(200)
    assert app.page.locator(".difffae-adjust").count() == 1
    assert np.abs(first.set("yaw", 0.0) - untouched).mean() < 0.5
    assert (app.errors, app.failed_requests, app.foreign_requests) == ([], [], [])


@MODES
def test_workflow_keeps_the_values_and_undo_shows_them(opened, vue):
    app = opened(vue)
    hand = Hand(app)
    original = hand.load()
    dragged = hand.drag(".difffae-stage", (0.45, 0.5), (0.65, 0.5))
    values = hand.values()
    saved = app.page.evaluate("() => app.graph.serialize()")
    (node,) = [node for node in saved["nodes"] if str(node["id"]) == NODE]
    assert node["widgets_values"] == list(values.values())
    assert "difffae_preview" not in app.to_api()[NODE]["inputs"]

    app.page.wait_for_timeout(500)
    app.page.evaluate("() => app.extensionManager.command.execute('Comfy.Undo')")
    app.page.wait_for_function("id => app.graph.getNodeById(id)?.widgets.find(w => w.name === 'yaw').value === 0", arg=NODE)
    app.page.wait_for_timeout(1000)  # the node is made anew
    assert np.abs(Hand(app).picture() - original).mean() < 0.5
    app.load(saved)  # as another workflow: the page knows nothing of its face
    hand = Hand(app)
    assert hand.values() == values
    assert np.abs(hand.load() - dragged).mean() < 0.5
    assert (app.errors, app.failed_requests) == ([], [])


def test_errors_are_shown_in_the_node(opened):
    app = opened(False)
    hand = Hand(app)
    original = hand.load()
    note = hand.panel.locator(".difffae-note.error")
    app.page.evaluate(SET, [NODE, "pasted", '{"format": "difffae-attributes/1"}'])
    note.wait_for()
    assert "attributes JSON" in note.inner_text()
    hand.set("pasted", "")
    assert note.is_hidden()
    # a server that was started again does not know the face
    app.page.route("**/difffae/preview", lambda route: route.fulfill(status=410, body="gone"), times=1)
    app.page.evaluate(SET, [NODE, "yaw", 10.0])
    hand.panel.get_by_role("button", name="Load photo").wait_for()
    app.page.evaluate(SET, [NODE, "yaw", 0.0])
    before = hand.source()
    hand.panel.get_by_role("button", name="Load photo").click()
    assert np.abs(hand.picture(before) - original).mean() < 0.5
    # nothing is connected, so that the server refuses to run the node
    bare = app.page.evaluate("() => String(app.graph.add(LiteGraph.createNode('DiffFAEAdjustAttributes')) && app.graph._nodes.at(-1).id)")
    app.page.evaluate(PLACE, {bare: [560, 30]})
    app.page.wait_for_timeout(300)
    hand = Hand(app, bare)
    hand.panel.get_by_role("button", name="Load photo").click()
    hand.panel.locator(".difffae-note.error").wait_for()
    assert hand.panel.get_by_role("button", name="Load photo").is_enabled()


def _library_seconds() -> float:
    """Of one move of the same photograph with all its preparation, in this process: how fast this machine is."""
    model = DiffFAE.from_pretrained("open-256")
    face = model.analyse(read_image(asset_path("source.png"))[0])
    layers = layers_of(with_slots(model, face).slots, face.picture, 1)
    target = model.target(face, change=Adjustments(yaw=18, smile=0.3, light_azimuth=54))
    seconds = []
    with torch.inference_mode():
        for _ in range(7):
            start = time.perf_counter()
            carry(face.picture, face.attributes, target, model.head, layers=layers)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def test_a_move_takes_at_most_200_ms(comfy):
    """Or, on a slow machine, one and a half times what the library needs for a photograph that it sees for the first time. (Before
    the source's side was kept a move took 385 ms where it takes 290 now, so 200 ms alone would say which machine this is.)"""
    image = comfy.upload("difffae/assets/source.png")
    (scene,) = comfy.run(prompt(image)).outputs[NODE]["difffae_preview"]
    seconds = []
    for move in range(12):
        body = {"key": scene["key"], "values": {"yaw": 3.0 * move, "smile": 0.05 * move, "relight": True, "light_azimuth": 9.0 * move}}
        start = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(comfy.url + "/difffae/preview", json.dumps(body).encode())) as answer:
            assert Image.open(io.BytesIO(answer.read())).size == (256, 256)
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds[2:]) <= max(0.2, 1.5 * _library_seconds())


def test_a_draft_takes_at_most_120_ms(comfy):
    """While a hand drags; or, on a slow machine, three fifths of what a move takes at full size at the same time."""
    (scene,) = comfy.run(prompt(comfy.upload("difffae/assets/source.png"))).outputs[NODE]["difffae_preview"]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for move in range(24):
        draft = move % 2 == 1
        body = {"key": scene["key"], "draft": draft, "values": {"yaw": 1.5 * move, "smile": 0.03 * move}}
        start = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(comfy.url + "/difffae/preview", json.dumps(body).encode())) as answer:
            assert Image.open(io.BytesIO(answer.read())).size == ((128, 128) if draft else (256, 256))
        seconds[draft].append(time.perf_counter() - start)
    assert statistics.median(seconds[True][2:]) <= max(0.12, 0.6 * statistics.median(seconds[False][2:]))


def test_keys_of_faces(comfy_each):
    """A node that runs twice with the same face has one key; a key that the server does not know is answered by 410."""
    comfy = comfy_each
    image = comfy.upload("difffae/assets/source.png")
    graph = prompt(image)
    (scene,) = comfy.run(graph).outputs[NODE]["difffae_preview"]
    graph[NODE]["inputs"] |= {"yaw": 5.0}
    assert comfy.run(graph).outputs[NODE]["difffae_preview"][0]["key"] == scene["key"]
    request = urllib.request.Request(comfy.url + "/difffae/preview", json.dumps({"key": "0" * 16, "values": {}}).encode())
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 410
