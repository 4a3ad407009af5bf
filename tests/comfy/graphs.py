"""Graphs of whole edits, in ComfyUI's API format."""

from __future__ import annotations

from typing import Any

from client import ROOT, Comfy

SOURCE, QUERY = ROOT / "difffae/assets/source.png", ROOT / "difffae/assets/query.png"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def link(name: str, output: int = 0) -> list:
    return [name, output]


MODEL, VAE, BUNDLE = (link("load", output) for output in range(3))


def conditioned(comfy: Comfy, **compose: Any) -> dict[str, Any]:
    """From the two example portraits to conditioning: the astronaut takes pose, expression and light of the officer.

    Names: load, source, query, crop, own, wanted, target, render, slots, identity, carry, conditioning.
    """
    shares = {"pose_strength": 1.0, "expression_strength": 1.0, "light_strength": 1.0, "framing": "source"}
    return {
        "load": node("DiffFAELoader", checkpoint="open-256"),
        "source": node("LoadImage", image=comfy.upload(SOURCE)),
        "query": node("LoadImage", image=comfy.upload(QUERY)),
        "crop": node("DiffFAECropFace", difffae=BUNDLE, image=link("source"), face=0, missing_face="error", smoothing=0.0),
        "own": node("DiffFAEEstimateAttributes", difffae=BUNDLE, image=link("crop"), crop=link("crop", 2)),
        "wanted": node("DiffFAEEstimateAttributes", difffae=BUNDLE, image=link("query")),
        "target": node(
            "DiffFAEComposeAttributes",
            **{"source": link("own"), "pose": link("wanted"), "expression": link("wanted"), "light": link("wanted")} | shares | compose,
        ),
        "render": node("DiffFAERenderFace", difffae=BUNDLE, attributes=link("target"), shading="textured", size=256),
        "slots": node("DiffFAEEncodeSlots", difffae=BUNDLE, image=link("crop")),
        "identity": node("DiffFAEIdentityToken", difffae=BUNDLE, image=link("crop"), crop=link("crop", 2)),
        "carry": node(
            "DiffFAECarryPhoto",
            **{"difffae": BUNDLE, "image": link("crop"), "source": link("own"), "target": link("target"), "crop": link("crop", 2)},
            slots=link("slots"),
        ),
        "conditioning": node(
            "DiffFAEConditioning",
            **{"vae": VAE, "slots": link("slots"), "identity": link("identity"), "render": link("render"), "carry": link("carry", 2)},
        ),
    }


def sampler(**settings: Any) -> dict[str, Any]:
    """DiffFAE Sampler on `conditioned`."""
    given = {"seed": 0, "steps": 3, "sampler_name": "dpmpp_2m", "scheduler": "normal", "denoise": 1.0, "cfg": 1.0}
    wires = {"model": MODEL, "vae": VAE, "positive": link("conditioning"), "latent": link("conditioning", 2)}
    return node("DiffFAESampler", **{**wires, **given, **settings})


def core_sampler(**settings: Any) -> dict[str, Any]:
    """KSampler on `conditioned`."""
    given = {"seed": 0, "steps": 3, "sampler_name": "dpmpp_2m", "scheduler": "normal", "denoise": 1.0, "cfg": 1.0}
    ends = {"positive": link("conditioning"), "negative": link("conditioning", 1), "latent_image": link("conditioning", 2)}
    return node("KSampler", **{"model": MODEL, **ends, **given, **settings})


def edited(comfy: Comfy, **settings: Any) -> dict[str, Any]:
    """`conditioned`, then sample, paste and save."""
    carried = {"crop": link("crop", 2), "carry": link("carry", 2)}
    return {
        **conditioned(comfy),
        "sample": sampler(**settings),
        "paste": node("DiffFAEPasteBack", original=link("source"), edited=link("sample"), feather=0.012, **carried),
        "save": node("DiffFAESaveImage", images=link("paste"), filename_prefix="edit", difffae=BUNDLE, attributes=link("target")),
    }


def saved(*names: str, **outputs: list) -> dict[str, Any]:
    """SaveImage nodes "save NAME" for the first outputs of nodes, or for given links."""
    links = {name: link(name) for name in names} | outputs
    return {f"save {name}": node("SaveImage", images=where, filename_prefix=name) for name, where in links.items()}
