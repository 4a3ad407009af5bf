"""Edit Face: the whole edit in one node is the library's, says what is wrong, and shows its preview."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from client import ROOT, Comfy
from inprocess import Pack
from pictures import NO_FACE, frame, portrait, raises
from test_adjust_widget import Hand
from torch import Tensor

NUMBERS = {"yaw": 12.0, "smile": 0.5}


def tensor(image: Tensor) -> Tensor:
    """IMAGE (1,H,W,C) as the library reads it: (3,H,W)."""
    return image[0, ..., :3].movedim(-1, 0).contiguous()


def edit(pack: Pack, image: Tensor, **values) -> tuple:
    """image, unseen, attributes, difffae, mask."""
    return pack.run("DiffFAEEditFace", image=image, **pack.loaded, **values)


@pytest.fixture(scope="module")
def model(pack: Pack):
    return pack.library("edit.editor").DiffFAE.from_pretrained("open-256")


def test_all_at_rest_nothing_changes(pack: Pack) -> None:
    image = portrait("source.png")
    result, unseen, attributes, bundle, mask = edit(pack, image)
    assert torch.equal(result, image)
    assert unseen.shape == mask.shape == image.shape[:3]
    assert (float(unseen.max()), float(mask.max())) == (0, 0)
    assert len(attributes) == 1
    assert bundle is pack.bundle


@pytest.mark.parametrize("diffusion", [False, True])
def test_is_the_library_s_edit(pack: Pack, model, diffusion: bool) -> None:
    image, other = portrait("source.png"), portrait("query.png")
    result, unseen, attributes, *_ = edit(
        pack, image, light=other, hair=other, background=other, strength=0.8, diffusion=diffusion, **NUMBERS
    )
    sampling = pack.library("edit.description").Sampling(denoise=None if diffusion else 0.0)
    officer = model.analyse(tensor(other))
    library = model.edit(
        tensor(image),
        adjust=pack.library("head.adjust").Adjustments(**NUMBERS),
        **dict.fromkeys(("light_from", "hair_from", "background_from"), officer),
        strength=0.8,
        sampling=sampling,
    )
    if diffusion:
        assert float((tensor(result) - library.image).square().mean()) < 1e-5  # 50 dB: ComfyUI's sampler
    else:
        assert torch.equal(tensor(result), library.image)
    assert torch.equal(attributes.pose, library.attributes.pose)
    assert torch.equal(attributes.light, library.attributes.light)
    assert 0.01 < float(unseen.mean()) < 0.5


def test_all_faces_and_the_one_that_is_meant(pack: Pack) -> None:
    image, _ = frame("900x600", "three")
    changed = [(edit(pack, image, yaw=12.0, **which)[0] - image).abs().amax(-1)[0] for which in ({}, {"face": 1}, {"all_faces": True})]
    assert all(0.01 < float((own > 0.05).float().mean()) < 0.5 for own in changed)
    assert float(((changed[0] > 0.05) & (changed[1] > 0.05)).float().mean()) < 0.001  # one face each
    assert bool(((changed[2] > 0) | ~((changed[0] > 0.05) | (changed[1] > 0.05))).all())


def test_a_cut_out_stays_one(pack: Pack) -> None:
    image = portrait("source.png")
    mask = torch.zeros(image.shape[:3])
    mask[:, :, :80] = 1
    result, *_, left = edit(pack, image, mask=mask, yaw=10.0)
    assert result.shape == image.shape
    assert 0.1 < float(left.mean()) < 0.5


def test_messages_name_the_input(pack: Pack) -> None:
    nobody, _ = frame("256x256", "nobody")
    with raises(pack, "NoFaceError", NO_FACE.format("image")):
        edit(pack, nobody)
    for name in ("light", "hair"):
        with raises(pack, "NoFaceError", NO_FACE.format(name)):
            edit(pack, portrait("source.png"), **{name: nobody})
    with pytest.raises(pack.library("common.errors").ConfigError, match=r"^coefficients: is not JSON"):
        edit(pack, portrait("source.png"), coefficients="{")


def prompt(comfy: Comfy, **values) -> dict:
    def node(kind: str, **inputs) -> dict:
        return {"class_type": kind, "inputs": inputs}

    known = comfy.object_info("DiffFAEEditFace")["input"]
    defaults = {name: spec[1]["default"] for name, spec in known["required"].items() if "default" in spec[-1]}
    bundle, crop = ["load", 2], {"image": ["crop", 0], "crop": ["crop", 2]}
    adjust = comfy.object_info("DiffFAEAdjustAttributes")["input"]["required"]
    sliders = {name: spec[1]["default"] for name, spec in adjust.items() if "default" in spec[-1]}
    return {
        "photo": node("LoadImage", image="difffae_portrait.png"),
        "edit": node("DiffFAEEditFace", image=["photo", 0], **defaults | values),
        "result": node("PreviewImage", images=["edit", 0]),
        "load": node("DiffFAELoader", checkpoint="open-256"),
        "crop": node("DiffFAECropFace", difffae=bundle, image=["photo", 0], face=0, missing_face="error", smoothing=0.0),
        "own": node("DiffFAEEstimateAttributes", difffae=bundle, **crop),
        "slots": node("DiffFAEEncodeSlots", difffae=bundle, **crop),
        "target": node("DiffFAEAdjustAttributes", difffae=bundle, attributes=["own", 0], **sliders | values),
        "carry": node("DiffFAECarryPhoto", difffae=bundle, **crop, source=["own", 0], target=["target", 0], slots=["slots", 0]),
        "paste": node("DiffFAEPasteBack", original=["photo", 0], edited=["carry", 0], crop=["crop", 2], carry=["carry", 2], feather=0.012),
        "chain": node("PreviewImage", images=["paste", 0]),
    }


def test_one_node_gives_what_the_chain_gives(comfy_each: Comfy) -> None:
    """On the picture that the pack puts into the input folder; and the model is loaded once, until ComfyUI is told to free it."""
    comfy = comfy_each
    graph = prompt(comfy, yaw=14.0, smile=0.4)
    result = comfy.run(graph)
    own, chain = (np.asarray(result.images(name)[0]) for name in ("result", "chain"))
    assert np.array_equal(own, chain)
    source = np.asarray(comfy.image({"filename": "difffae_portrait.png", "subfolder": "", "type": "input"}).convert("RGB"))
    assert np.abs(own.astype(float) - source).mean() > 1
    alone = {name: graph[name] for name in ("photo", "edit", "result")}
    loaders = lambda run: [name for name in run.executed if name.startswith("edit.") and name.endswith(".1")]  # noqa: E731
    comfy.free()
    assert len(loaders(comfy.run(alone))) == 1
    alone["edit"]["inputs"] |= {"yaw": 5.0}
    assert loaders(comfy.run(alone)) == []


def test_the_preview_in_the_node(comfy: Comfy, open_app) -> None:
    app = open_app(node_types=["DiffFAEEditFace"], size=(1400, 900))
    app.load(ROOT / "workflows" / "01_edit_face.json")
    app.page.wait_for_timeout(500)
    (node,) = [key for key, node in app.to_api().items() if node["class_type"] == "DiffFAEEditFace"]
    hand = Hand(app, node)
    app.queue()  # a run of the whole workflow fills the preview, too
    turned = hand.picture()
    still = hand.set("yaw", 0.0)
    assert np.abs(turned - still).mean() > 2
    hand.choose("surprised")
    assert hand.values()["jaw_open"] > 0.2
    assert (hand.values()["relight"], hand.values()["checkpoint"]) == (False, "open-256")
    app.page.evaluate("id => app.graph.getNodeById(id).widgets.find(w => w.name === 'diffusion').value = true", node)
    hand.press("Reset")
    assert all(hand.values()[name] == 0 for name in ("smile", "jaw_open", "brow_up"))
    assert hand.values()["diffusion"] is True  # is no number of the face
    # a page that was opened anew, with nothing changed since the last run
    again = open_app(node_types=["DiffFAEEditFace"], size=(1400, 900))
    again.load(ROOT / "workflows" / "01_edit_face.json")
    again.page.wait_for_timeout(500)
    assert np.abs(Hand(again, node).load() - turned).mean() < 0.5
    assert (app.errors, app.failed_requests, app.foreign_requests) == ([], [], [])


def test_examples_are_put_where_they_lack(pack: Pack, tmp_path, caplog) -> None:
    examples = pack.module("example_input")
    examples.put_examples(tmp_path)
    for name, asset in examples.EXAMPLES.items():
        assert (tmp_path / name).read_bytes() == (ROOT / "difffae" / "assets" / asset).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(examples.EXAMPLES)
    kept = tmp_path / next(iter(examples.EXAMPLES))
    kept.write_bytes(b"somebody's own")
    examples.put_examples(tmp_path)
    assert kept.read_bytes() == b"somebody's own"
    with caplog.at_level(logging.WARNING):
        examples.put_examples(tmp_path / "missing")
    assert "could not be put into the input folder" in caplog.text
