# ruff: noqa: E501 - the tables' messages stand in one line, as people read them
"""Wires that fit a socket but not the node: an error or a warning names the input and what belongs there; right wires say nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from client import Comfy
from graphs import BUNDLE, conditioned, edited, link, node, saved
from inprocess import Pack
from pictures import portrait
from torch import Tensor

LATENT = "use the LATENT of DiffFAE Conditioning"
EXCHANGED = (
    "source and target: are exchanged, the target's numbers are those of image; wire Estimate Face Attributes into source, and Compose or "
    "Adjust into target"
)
WHOLE_EDITED = "edited: is a whole picture (384x{}), but squares are needed; wire the image of DiffFAE Sampler, VAE Decode or Carry Photo"
WHOLE_SLOTS = (
    "image: is a whole picture (384x{}), stretched to a square here; wire the crop of a Crop Face, by which regions are told apart better"
)
ORIGINAL = "original: is another picture than the one that crop was cut from; wire the same picture into both"
RENDER = "wire the render of Render Face"


def others(name: str) -> str:
    return f"{name}: was made of other squares than image shows; wire image and {name} from one Crop Face"


@pytest.fixture(scope="module")
def made(pack: Pack) -> SimpleNamespace:
    """An edit of the astronaut by the officer, and the officer's own crop and numbers."""
    whole = portrait("source.png")
    query = portrait("query.png")[:, 60:444, 60:444]  # of the same size, so that sizes do not tell the two apart
    picture, _, crop = pack.run("DiffFAECropFace", image=whole)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    other, _, other_crop = pack.run("DiffFAECropFace", image=query)
    (wanted,) = pack.run("DiffFAEEstimateAttributes", image=other, crop=other_crop)
    (target,) = pack.run("DiffFAEComposeAttributes", source=own, pose=wanted, expression=wanted, light=wanted)
    (lit,) = pack.run("DiffFAEComposeAttributes", source=own, light=wanted)
    slots = pack.run("DiffFAEEncodeSlots", image=picture, crop=crop)[0]
    (identity,) = pack.run("DiffFAEIdentityToken", image=picture, crop=crop)
    moved, _, carry, *_ = pack.run("DiffFAECarryPhoto", image=picture, source=own, target=target, crop=crop, slots=slots)
    other_carry = pack.run("DiffFAECarryPhoto", image=other, source=wanted, target=wanted, crop=other_crop)[2]
    render, _, normals, _ = pack.run("DiffFAERenderFace", attributes=target)
    (clay, *_) = pack.run("DiffFAERenderFace", attributes=target, shading="clay")
    positive, negative, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render, carry=carry)
    return SimpleNamespace(**{name: value for name, value in locals().items() if name != "pack"})


def carried(m: SimpleNamespace, **inputs: Any) -> tuple[str, dict]:
    return "DiffFAECarryPhoto", {"image": m.picture, "source": m.own, "target": m.target, "crop": m.crop, "slots": m.slots} | inputs


def pasted(m: SimpleNamespace, **inputs: Any) -> tuple[str, dict]:
    return "DiffFAEPasteBack", {"original": m.whole, "edited": m.moved, "crop": m.crop, "carry": m.carry} | inputs


def told(m: SimpleNamespace, **inputs: Any) -> tuple[str, dict]:
    return "DiffFAEConditioning", {"slots": m.slots, "identity": m.identity, "render": m.render, "carry": m.carry} | inputs


def sampled(m: SimpleNamespace, **inputs: Any) -> tuple[str, dict]:
    return "DiffFAESampler", {"positive": m.positive, "negative": m.negative, "latent": m.latent, "steps": 1} | inputs


def foreign(*shape: int) -> dict[str, Tensor]:
    return {"samples": torch.ones(shape)}  # zeros count as empty, which ComfyUI fits to the model


REFUSED: dict[str, tuple[Callable[[SimpleNamespace], tuple[str, dict]], str]] = {
    "source and target exchanged": (lambda m: carried(m, source=m.target, target=m.own), EXCHANGED),
    "exchanged without a crop": (lambda m: carried(m, source=m.target, target=m.own, crop=None), EXCHANGED),
    "lights exchanged": (lambda m: carried(m, source=m.lit, target=m.own), EXCHANGED),
    "whole picture pasted": (lambda m: pasted(m, edited=m.whole), WHOLE_EDITED.format(384)),
    "wide picture pasted": (lambda m: pasted(m, edited=m.whole[:, :300]), WHOLE_EDITED.format(300)),
    "mask of another picture": (lambda m: pasted(m, mask=torch.ones(1, 100, 200)), "mask: is 200x100, neither a square nor of the picture's size 384x384; wire a mask of the picture or of the crop"),
    "whole picture encoded": (lambda m: ("DiffFAEEncodeSlots", {"image": m.whole, "crop": m.crop}), "image: is a whole picture (384x384), but squares are needed; wire the crop picture of the same Crop Face"),
    "negative as positive": (lambda m: sampled(m, positive=m.negative, negative=m.positive), "positive: is the negative output of DiffFAE Conditioning; wire its positive output, and this one into negative"),
    "foreign model": (lambda m: sampled(m, model=SimpleNamespace(model=torch.nn.Identity())), "model: is another model's; wire the MODEL of Load DiffFAE"),
    "foreign vae": (lambda m: sampled(m, vae=object()), "vae: is another model's; wire the VAE of Load DiffFAE"),
    "latent of an image model": (lambda m: sampled(m, latent=foreign(1, 16, 32, 32)), "latent_image: the latents have 16 channels and the conditioning 8, but this model has 8; take model, vae and conditioning from one Load DiffFAE"),
    "latent of a video model": (lambda m: sampled(m, latent=foreign(1, 8, 1, 32, 32)), f"latent_image: has 8x1x32x32 numbers, as another model's have; {LATENT}"),
    "latent of sound": (lambda m: sampled(m, latent=foreign(1, 64, 16)), f"latent_image: has 64x16 numbers, as another model's have; {LATENT}"),
    "result as source": (lambda m: ("DiffFAEReport", {"source": m.whole.flip(2), "result": m.whole, "crop": m.crop}), "source and result: are exchanged, result is the picture that crop was cut from; wire the edited picture into it"),
}  # fmt: skip

WARNED: dict[str, tuple[Callable[[SimpleNamespace], tuple[str, dict]], set[str]]] = {
    "a reference as target": (lambda m: carried(m, target=m.wanted), {"target: has the head of another person than source; wire Compose Face Attributes between, with this face as its source"}),
    "a reference as source": (lambda m: carried(m, source=m.wanted, target=m.wanted), {"source: is not what image shows; wire the attributes that Estimate Face Attributes read off the same crops"}),
    "crop of another": (lambda m: carried(m, crop=m.other_crop), {others("crop")}),
    "slots of another": (lambda m: carried(m, image=m.other, source=m.wanted, target=m.wanted, crop=m.other_crop), {others("slots")}),
    "numbers by another's crop": (lambda m: ("DiffFAEEstimateAttributes", {"image": m.picture, "crop": m.other_crop}), {others("crop")}),
    "identity by another's crop": (lambda m: ("DiffFAEIdentityToken", {"image": m.picture, "crop": m.other_crop}), {others("crop")}),
    "pasted into another": (lambda m: pasted(m, original=m.query), {ORIGINAL}),
    "crop of another pasted": (lambda m: pasted(m, crop=m.other_crop, carry=None), {ORIGINAL}),
    "carry of another": (lambda m: pasted(m, edited=m.picture, carry=m.other_carry), {"carry: shows something else than edited; wire the carry that the conditioning of this edit was made with"}),
    "whole picture encoded": (lambda m: ("DiffFAEEncodeSlots", {"image": m.whole}), {WHOLE_SLOTS.format(384)}),
    "wide picture encoded": (lambda m: ("DiffFAEEncodeSlots", {"image": m.whole[:, :300]}), {WHOLE_SLOTS.format(300)}),
    "photograph as render": (lambda m: told(m, render=m.picture), {f"render: is a picture, not a head on black; {RENDER}"}),
    "normals as render": (lambda m: told(m, render=m.normals), {f"render: are the normals; {RENDER}"}),
    "nothing as render": (lambda m: told(m, render=torch.zeros_like(m.render)), {f"render: is black; {RENDER}"}),
    "clay as render": (lambda m: told(m, render=m.clay), {"render: has no skin colour, which the model is told by; set shading of Render Face to textured"}),
    "whole picture in the preview": (lambda m: ("DiffFAEAdjustAttributes", {"attributes": m.own, "image": m.whole}), {"image: is 384x384, but the preview needs crops of 256x256; wire the crop of Crop Face"}),
    "another source in a report": (lambda m: ("DiffFAEReport", {"source": m.query, "result": m.whole.flip(2), "crop": m.crop}), {ORIGINAL.replace("original", "source")}),
}  # fmt: skip


def warnings(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {record.getMessage() for record in caplog.records if record.name.endswith("nodes.wires")}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(pack: Pack, made: SimpleNamespace, name: str) -> None:
    wrong, message = REFUSED[name]
    kind, inputs = wrong(made)
    with pytest.raises(pack.library("common.errors").DiffFAEError, match=f"^{re.escape(message)}$"):
        pack.run(kind, **{key: value for key, value in inputs.items() if value is not None})


@pytest.mark.parametrize("name", WARNED)
def test_what_is_unlikely_is_told(pack: Pack, made: SimpleNamespace, caplog: pytest.LogCaptureFixture, name: str) -> None:
    wrong, messages = WARNED[name]
    kind, inputs = wrong(made)
    with caplog.at_level(logging.WARNING):
        pack.run(kind, **{key: value for key, value in inputs.items() if value is not None})
    assert warnings(caplog) == messages


@pytest.mark.parametrize("name", ["source.png", "query.png", "side_light.jpg", "surprised.jpg", "turned.jpg"])
def test_right_wires_say_nothing(pack: Pack, made: SimpleNamespace, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Hardly anything asked, much asked, squares that were worked on, and an edit of an edit."""
    whole = portrait(name)
    with caplog.at_level(logging.WARNING):
        picture, _, crop = pack.run("DiffFAECropFace", image=whole)
        (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
        (fast,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop, estimator="network")
        slots = pack.run("DiffFAEEncodeSlots", image=picture, crop=crop)[0]
        (identity,) = pack.run("DiffFAEIdentityToken", image=picture, crop=crop)
        (slight,) = pack.run("DiffFAEAdjustAttributes", attributes=own, image=picture, smile=0.05)
        (strong,) = pack.run("DiffFAEAdjustAttributes", attributes=own, yaw=12.0, jaw_open=0.6, relight=True, light_azimuth=70.0)
        (like,) = pack.run("DiffFAEComposeAttributes", source=fast, pose=made.wanted, expression=made.wanted, light=made.wanted)
        bright = (picture * 1.3).clamp(0, 1)
        for image, source, target in ((picture, own, slight), (picture, own, strong), (picture, fast, like), (bright, own, strong)):
            moved, _, carry, *_ = pack.run("DiffFAECarryPhoto", image=image, source=source, target=target, crop=crop, slots=slots)
        (render, *_) = pack.run("DiffFAERenderFace", attributes=strong)
        positive, negative, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render, carry=carry)
        drawn, _ = pack.run("DiffFAESampler", positive=positive, negative=negative, latent=latent)
        result, *_ = pack.run("DiffFAEPasteBack", original=whole, edited=drawn, crop=crop, carry=carry)
        pack.run("DiffFAEPasteBack", original=result, edited=moved, crop=crop)
        pack.run("DiffFAEReport", source=whole, result=result, crop=crop)
        again = pack.run("DiffFAECarryPhoto", image=moved, source=strong, target=own)[0]
    assert torch.isfinite(again).all()
    assert warnings(caplog) == set()


def test_warnings_reach_the_node(comfy_each: Comfy) -> None:
    """As the text that the page shows on the node; the run goes on."""
    graph = {**conditioned(comfy_each), "mask": node("MaskPreview", mask=link("slots", 1))}
    graph["slots"] = node("DiffFAEEncodeSlots", difffae=BUNDLE, image=link("source"))
    result = comfy_each.run(graph)
    assert result.texts["slots"] == WHOLE_SLOTS.format(384)
    graph["slots"] = node("DiffFAEEncodeSlots", difffae=BUNDLE, image=link("crop"))
    assert comfy_each.run(graph).texts == {}


def test_errors_name_the_node(comfy: Comfy) -> None:
    graph = {**edited(comfy), **saved("paste")}
    graph["paste"]["inputs"]["edited"] = link("source")
    error = comfy.run(graph, expect_error=True).error
    assert (error.node_id, error.exception_message) == ("paste", WHOLE_EDITED.format(384))


WORKFLOW = {
    "last_node_id": 4,
    "last_link_id": 4,
    "nodes": [
        {"id": 1, "type": "DiffFAELoader", "pos": [20, 60], "widgets_values": ["open-256"]},
        {"id": 2, "type": "DiffFAEExamplePortrait", "pos": [20, 260], "widgets_values": ["astronaut"]},
        {"id": 3, "type": "DiffFAEEncodeSlots", "pos": [360, 60]},
        {"id": 4, "type": "MaskPreview", "pos": [760, 60]},
    ],
    "links": [],
    "version": 0.4,
}
CONNECT = """wires => {
    for (const [from, output, to, input] of wires) {
        const target = app.graph.getNodeById(to);
        app.graph.getNodeById(from).connect(output, target, target.inputs.findIndex(one => one.name === input));
    }
}"""
WIRES = [[1, 2, 3, "difffae"], [2, 0, 3, "image"], [3, 1, 4, "mask"]]
RUNS_AGAIN = """async id => {
    const { api } = await import('/scripts/api.js');
    api.dispatchEvent(new CustomEvent('executing', { detail: id }));
}"""
FOLD = """async () => {
    const { subgraph, node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(3)]));
    return [node.id, subgraph.nodes.length];
}"""


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
def test_the_page_shows_a_warning_until_it_is_mended(comfy: Comfy, open_app, tmp_path, vue: bool) -> None:
    app = open_app(vue=vue, node_types=["DiffFAEEncodeSlots"], size=(1200, 700))
    app.load(WORKFLOW)
    app.page.evaluate(CONNECT, WIRES)
    high = app.page.evaluate("() => app.graph.getNodeById(3).size[1]")
    app.queue()
    shown = app.page.locator(".difffae-warning")
    shown.get_by_text("image: is a whole picture").wait_for()
    app.page.wait_for_timeout(1500)  # newer pages take away the texts of a run that ended
    assert shown.all_inner_texts() == [WHOLE_SLOTS.format(384)]
    assert app.page.evaluate("() => app.graph.getNodeById(3).widgets.map(widget => widget.name)") == ["difffae_warning"]
    box = shown.evaluate("box => [box.scrollHeight - box.clientHeight, box.clientWidth > 100]")
    assert box == [0, True]  # as high as its text
    app.screenshot(tmp_path / "warned.png")
    app.page.evaluate("() => { const crop = LiteGraph.createNode('DiffFAECropFace'); crop.pos = [360, 360]; app.graph.add(crop) }")
    crop = app.page.evaluate("() => app.graph.nodes.find(node => node.comfyClass === 'DiffFAECropFace').id")
    app.page.evaluate(CONNECT, [[1, 2, crop, "difffae"], [2, 0, crop, "image"], [crop, 0, 3, "image"], [crop, 2, 3, "crop"]])
    app.queue()
    shown.wait_for(state="detached")
    assert app.page.evaluate("() => app.graph.getNodeById(3).size[1]") == (high if not vue else pytest.approx(high, abs=40))
    app.screenshot(tmp_path / "mended.png")
    assert app.errors == []


def test_a_warning_inside_a_subgraph_is_shown_on_it(comfy: Comfy, open_app, tmp_path) -> None:
    app = open_app(node_types=["DiffFAEEncodeSlots"], size=(1200, 700))
    app.load(WORKFLOW)
    app.page.evaluate(CONNECT, WIRES)
    around, inside = app.page.evaluate(FOLD)
    assert inside == 1
    app.queue()
    app.page.locator(".difffae-warning").get_by_text("image: is a whole picture").first.wait_for()
    # pages differ in whether a subgraph node lists a widget that is not promoted; all of them show its box
    assert set(app.page.locator(".difffae-warning:visible").all_inner_texts()) == {WHOLE_SLOTS.format(384)}
    app.screenshot(tmp_path / "folded.png")
    # it goes when the node inside runs again
    app.page.evaluate(RUNS_AGAIN, f"{around}:3")
    app.page.wait_for_function("() => !document.querySelector('.difffae-warning')")
    assert app.errors == []
