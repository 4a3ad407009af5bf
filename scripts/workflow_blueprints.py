"""Subgraph blueprints: the common chains as one node each, in ComfyUI's node library under the pack's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_chains import EDIT_DENOISE
from workflow_graph import AMBER, GREEN, RED, Graph, Node, Out


def _read(graph: Graph, difffae: Out, image: Out, **crop_options: Any) -> tuple[Node, Node, Node, Node]:
    """Crop, attributes, tokens and identity of a portrait."""
    crop = graph.node("DiffFAECropFace", difffae=difffae, image=image, **crop_options)
    shown = {"difffae": difffae, "image": crop["crop"], "crop": crop["crop_info"]}
    attributes, slots, identity = (graph.node(f"DiffFAE{name}", **shown) for name in ("EstimateAttributes", "EncodeSlots", "IdentityToken"))
    return crop, attributes, slots, identity


def analyse_portrait(graph: Graph) -> str:
    difffae, image = graph.input("difffae", "DIFFFAE"), graph.input("image", "IMAGE")
    face = graph.input("face", "INT", 0)
    crop, attributes, slots, identity = _read(graph, difffae, image, face=face)
    graph.group("Crop", GREEN, [crop])
    graph.group("Read", GREEN, [attributes, slots, identity])
    for name, out in (
        ("crop", crop["crop"]),
        ("crop_info", crop["crop_info"]),
        ("attributes", attributes["attributes"]),
        ("slots", slots["slots"]),
        ("identity", identity["identity"]),
    ):
        graph.output(name, out)
    return "Crops the face of a portrait and reads everything an edit needs from it: attributes, slot tokens, identity."


def paint_edit(graph: Graph) -> str:
    ports = {"model": "MODEL", "vae": "VAE", "difffae": "DIFFFAE", "original": "IMAGE", "crop": "IMAGE", "crop_info": "DIFFFAE_CROP"}
    ports |= {"source": "FACE_ATTRIBUTES", "target": "FACE_ATTRIBUTES", "slots": "SLOT_TOKENS", "identity": "IDENTITY_TOKEN"}
    given = {name: graph.input(name, kind) for name, kind in ports.items()}
    seed, steps = graph.input("seed", "INT", 0), graph.input("steps", "INT", 10)
    pasted, carry = _paint(graph, **given, seed=seed, steps=steps)
    graph.output("image", pasted["image"])
    graph.output("edited_crop", pasted["crop"])
    graph.output("preview", carry["image"])
    return "Paints an edit: moves and relights the photograph, samples what it could not show, and pastes the square back."


def _paint(graph: Graph, **given: Any):
    difffae, crop = given["difffae"], given["crop"]
    render = graph.node("DiffFAERenderFace", difffae=difffae, attributes=given["target"])
    carry = graph.node(
        "DiffFAECarryPhoto",
        **{"difffae": difffae, "image": crop, "source": given["source"], "target": given["target"]},
        **{"crop": given["crop_info"], "slots": given["slots"]},
    )
    told = graph.node(
        "DiffFAEConditioning",
        **{
            "vae": given["vae"],
            "slots": given["slots"],
            "identity": given["identity"],
            "render": render["render"],
            "carry": carry["carry"],
        },
    )
    sampler = graph.node(
        "DiffFAESampler",
        **{"model": given["model"], "vae": given["vae"], "positive": told["positive"], "latent": told["latent"]},
        **{"seed": given["seed"], "steps": given["steps"], "denoise": EDIT_DENOISE},
    )
    pasted = graph.node(
        "DiffFAEPasteBack", original=given["original"], edited=sampler["image"], crop=given["crop_info"], carry=carry["carry"]
    )
    graph.group("Target", AMBER, [render, carry])
    graph.group("Paint", RED, [told, sampler, pasted])
    return pasted, carry


def face_edit_from_reference(graph: Graph) -> str:
    ports = {"model": "MODEL", "vae": "VAE", "difffae": "DIFFFAE", "source": "IMAGE", "reference": "IMAGE"}
    given = {name: graph.input(name, kind) for name, kind in ports.items()}
    strengths = {f"{kind}_strength": graph.input(f"{kind}_strength", "FLOAT", 1.0) for kind in ("pose", "expression", "light")}
    seed, steps = graph.input("seed", "INT", 0), graph.input("steps", "INT", 10)
    difffae = given["difffae"]
    crop, own, slots, identity = _read(graph, difffae, given["source"])
    wanted = graph.node("DiffFAEEstimateAttributes", difffae=difffae, image=given["reference"], title="Estimate: reference")
    target = graph.node(
        "DiffFAEComposeAttributes",
        source=own["attributes"],
        **dict.fromkeys(("pose", "expression", "light"), wanted["attributes"]),
        **strengths,
    )
    graph.group("What is in them", GREEN, [crop, own, slots, identity], [wanted, target])
    pasted, carry = _paint(
        graph,
        **{name: given[name] for name in ("model", "vae", "difffae")},
        **{"original": given["source"], "crop": crop["crop"], "crop_info": crop["crop_info"], "source": own["attributes"]},
        **{"target": target["attributes"], "slots": slots["slots"], "identity": identity["identity"], "seed": seed, "steps": steps},
    )
    graph.output("image", pasted["image"])
    graph.output("edited_crop", pasted["crop"])
    graph.output("preview", carry["image"])
    graph.output("target", target["attributes"])
    return "Gives a portrait the pose, expression and light of another one; identity, hair, clothes and background stay."


def swap_from_reference(graph: Graph) -> str:
    ports = {"model": "MODEL", "vae": "VAE", "difffae": "DIFFFAE", "source": "IMAGE", "reference": "IMAGE"}
    given = {name: graph.input(name, kind) for name, kind in ports.items()}
    regions = {name: graph.input(name, "BOOLEAN", name == "hair") for name in ("hair", "clothes", "background")}
    strength = graph.input("strength", "FLOAT", 1.0)
    seed, steps = graph.input("seed", "INT", 0), graph.input("steps", "INT", 10)
    difffae = given["difffae"]
    crop, own, slots, identity = _read(graph, difffae, given["source"])
    other = graph.node("DiffFAECropFace", difffae=difffae, image=given["reference"], title="Crop: reference")
    theirs = graph.node("DiffFAEEncodeSlots", difffae=difffae, image=other["crop"], crop=other["crop_info"], title="Tokens: reference")
    swap = graph.node("DiffFAESwapSlots", slots=slots["slots"], reference=theirs["slots"], **regions, strength=strength)
    graph.group("What is in them", GREEN, [crop, own, slots, identity], [other, theirs, swap])
    pasted, carry = _paint(
        graph,
        **{name: given[name] for name in ("model", "vae", "difffae")},
        **{"original": given["source"], "crop": crop["crop"], "crop_info": crop["crop_info"], "source": own["attributes"]},
        **{"target": own["attributes"], "slots": swap["slots"], "identity": identity["identity"], "seed": seed, "steps": steps},
    )
    graph.output("image", pasted["image"])
    graph.output("edited_crop", pasted["crop"])
    graph.output("preview", carry["image"])
    return "Gives a portrait the hair, the clothes or the background of another one; the face stays."


DEFINITIONS = {
    "Analyse Portrait": analyse_portrait,
    "Paint Edit": paint_edit,
    "Face Edit from Reference": face_edit_from_reference,
    "Swap from Reference": swap_from_reference,
}


def build(nodes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """File name -> blueprint."""
    made = {}
    for title, define in DEFINITIONS.items():
        graph = Graph(nodes, f"{title} (DiffFAE)")
        description = define(graph)
        made[graph.name] = graph.subgraph(description)
    return made
