"""The bundled workflows. See workflow_graph.py for how a graph is written down, build_workflows.py for what is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workflow_chains import EDIT_DENOISE, Chains
from workflow_graph import AMBER, BLUE, GREEN, GREY, RED, VIOLET, Graph, Node, Picture, Workflow

NOTES = Path(__file__).parent / "workflow_notes"  # Markdown; {limits} and {own_picture} stand for the sentences of those files


def read_me(graph: Graph, name: str) -> Node:
    """The note of a workflow."""
    shared = {part: (NOTES / f"{part}.md").read_text(encoding="utf-8").strip() for part in ("limits", "own_picture")}
    return graph.note((NOTES / f"{name}.md").read_text(encoding="utf-8").format(**shared))


def full_edit(graph: Graph) -> Picture:
    chains = Chains(graph)
    source, reference = chains.example("astronaut", "Source"), chains.example("naval officer", "Reference")
    face = chains.face(source["image"])
    wanted = chains.attributes(reference["image"], "Estimate: reference")
    target = graph.node(
        "DiffFAEComposeAttributes",
        source=face.attributes,
        **dict.fromkeys(("pose", "expression", "light"), wanted["attributes"]),
    )["attributes"]
    render, carry, told = chains.condition(face, target)
    sampler, pasted = chains.paint(face, told, carry)
    report = chains.report(face, pasted["image"], reference["image"])
    save = chains.save(pasted["image"], "DiffFAE/full_edit", target, report[0])
    previews = [
        graph.node("PreviewImage", images=carry["image"], title="Carried photograph"),
        graph.node("MaskPreview", mask=carry["valid"], title="White: seen by the photograph"),
        graph.node("PreviewImage", images=render["render"], title="Render of the target"),
    ]
    masks = [graph.node("MaskPreview", mask=face.slots[name], title=f"Mask: {name}") for name in ("face", "hair", "clothes", "background")]
    note = read_me(graph, "full_edit")
    graph.group("Read me", GREY, [note])
    graph.group("1  Pictures", BLUE, [chains.loader, source, reference])
    graph.group("2  What is in them", GREEN, face.nodes, [wanted])
    graph.group("3  What is wanted", AMBER, [target.node, render, carry])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [save, *report])
    graph.row(under=1)
    graph.group("Look inside: regions of the source", GREY, *([one] for one in masks))
    graph.group("Look inside: the photograph moved, what it could not show, the render", GREY, *([one] for one in previews))
    return Picture([["astronaut", "naval officer"], "Result"])


def each_from_its_own_reference(graph: Graph) -> Picture:
    chains = Chains(graph)
    source = chains.example("astronaut", "Source")
    names = {"pose": "turned", "expression": "surprised", "light": "side light"}
    references = {kind: chains.example(picture, f"Reference: {kind}") for kind, picture in names.items()}
    face = chains.face(source["image"])
    wanted = {kind: chains.attributes(one["image"], f"Estimate: {kind}") for kind, one in references.items()}
    compose = graph.node(
        "DiffFAEComposeAttributes",
        source=face.attributes,
        **{kind: one["attributes"] for kind, one in wanted.items()},
        **{"pose_strength": 0.6, "expression_strength": 0.4, "light_strength": 0.4},
    )
    target = compose["attributes"]
    render, carry, told = chains.condition(face, target)
    sampler, pasted = chains.paint(face, told, carry)
    report = chains.report(face, pasted["image"])
    save = chains.save(pasted["image"], "DiffFAE/each_reference", target, report[0])
    closer = chains.closer(face, pasted)
    note = read_me(graph, "each_from_its_own_reference")
    graph.group("Read me", GREY, [note])
    graph.group("1  Pictures", BLUE, [chains.loader, source, *references.values()])
    graph.group("2  What is in them", GREEN, face.nodes, list(wanted.values()))
    graph.group("3  What is wanted", AMBER, [compose, render, carry])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [save, *report], closer)
    return Picture([["Before", *names.values()], "After"])


def edit_by_numbers(graph: Graph) -> Picture:
    chains = Chains(graph)
    source = chains.example("naval officer", "Source")
    face = chains.face(source["image"])
    sliders = graph.node(
        "DiffFAEAdjustAttributes",
        **{"difffae": chains.difffae, "attributes": face.attributes, "image": face.crop["crop"], "slots": face.slots["slots"]},
        **{"yaw": 8.0, "smile": 0.3, "relight": True, "light_azimuth": -60.0, "light_elevation": 15.0, "light_strength": 0.55},
    )
    target = sliders["attributes"]
    render, carry, told = chains.condition(face, target)
    sampler, pasted = chains.paint(face, told, carry)
    report = chains.report(face, pasted["image"])
    save = chains.save(pasted["image"], "DiffFAE/by_numbers", target, report[0])
    note = read_me(graph, "edit_by_numbers")
    graph.group("Read me", GREY, [note])
    graph.group("1  Picture", BLUE, [chains.loader, source])
    graph.group("2  What is in it", GREEN, face.nodes)
    graph.group("3  Your numbers", AMBER, [sliders], [render, carry])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [save, *report])
    return Picture(["naval officer", "Result"])


def swap_hair_clothes_background(graph: Graph) -> Picture:
    chains = Chains(graph)
    source = chains.example("astronaut", "Source")
    names = {"hair": "surprised", "clothes": "naval officer", "background": "side light"}
    references = {region: chains.example(picture, f"Reference: {region}") for region, picture in names.items()}
    face = chains.face(source["image"])
    tokens = {region: chains.tokens(one["image"], region) for region, one in references.items()}
    slots, swaps = face.slots["slots"], []
    for region in names:
        wanted = {name: name == region for name in names}
        swaps.append(graph.node("DiffFAESwapSlots", slots=slots, reference=tokens[region][1]["slots"], **wanted, title=f"Swap {region}"))
        slots = swaps[-1]["slots"]
    render, carry, told = chains.condition(face, face.attributes, slots)
    sampler, pasted = chains.paint(face, told, carry)
    report = chains.report(face, pasted["image"])
    save = chains.save(pasted["image"], "DiffFAE/swap", face.attributes, report[0])
    closer = chains.closer(face, pasted)
    changed = graph.node("MaskPreview", mask=carry["valid"], title="Dark: painted")
    note = read_me(graph, "swap_hair_clothes_background")
    graph.group("Read me", GREY, [note])
    graph.group("1  Pictures", BLUE, [chains.loader, source, *references.values()])
    graph.group("2  What is in them", GREEN, face.nodes, [one for pair in tokens.values() for one in pair])
    graph.group("3  Which regions", AMBER, swaps, [render, carry, changed])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [save, *report], closer)
    return Picture([["Before", *names.values()], "After"])


def swap_and_edit(graph: Graph) -> Picture:
    chains = Chains(graph)
    source, reference = chains.example("astronaut", "Source"), chains.example("naval officer", "Reference")
    face = chains.face(source["image"])
    tokens = chains.tokens(reference["image"], "reference")
    wanted = chains.attributes(reference["image"], "Estimate: reference")
    swap = graph.node(
        "DiffFAESwapSlots", slots=face.slots["slots"], reference=tokens[1]["slots"], hair=False, background=True, title="Swap background"
    )
    compose = graph.node(
        "DiffFAEComposeAttributes",
        source=face.attributes,
        **dict.fromkeys(("expression", "light"), wanted["attributes"]),
        **{"expression_strength": 0.8, "light_strength": 0.8},
    )
    adjust = graph.node(
        "DiffFAEAdjustAttributes",
        **{"difffae": chains.difffae, "attributes": compose["attributes"], "image": face.crop["crop"], "slots": face.slots["slots"]},
        **{"yaw": 12.0},
        title="Turn by numbers",
    )
    target = adjust["attributes"]
    render, carry, told = chains.condition(face, target, swap["slots"])
    sampler, pasted = chains.paint(face, told, carry)
    report = chains.report(face, pasted["image"])
    save = chains.save(pasted["crop"], "DiffFAE/swap_and_edit", target, report[0])
    before = graph.node("PreviewImage", images=face.crop["crop"], title="Before")
    note = read_me(graph, "swap_and_edit")
    graph.group("Read me", GREY, [note])
    graph.group("1  Pictures", BLUE, [chains.loader, source, reference])
    graph.group("2  What is in them", GREEN, face.nodes, [*tokens, wanted])
    graph.group("3  What is wanted", AMBER, [swap, compose], [adjust], [render, carry])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [save, *report], [before])
    return Picture([["Before", "naval officer"], "Result"])


def native_ksampler(graph: Graph) -> Picture:
    chains = Chains(graph)
    node = graph.node
    source, reference = chains.example("astronaut", "Source"), chains.example("naval officer", "Reference")
    face = chains.face(source["image"])
    wanted = chains.attributes(reference["image"], "Estimate: reference")
    compose = node(
        "DiffFAEComposeAttributes", source=face.attributes, **dict.fromkeys(("pose", "expression", "light"), wanted["attributes"])
    )
    render, carry, told = chains.condition(face, compose["attributes"])
    settings = {"steps": 10, "cfg": 1.0, "sampler_name": "dpmpp_2m", "scheduler": "normal", "denoise": EDIT_DENOISE}
    guides = {"model": chains.model, "positive": told["positive"], "negative": told["negative"]}

    sampler = node("KSampler", **guides, **settings, latent_image=told["latent"])
    decoded = node("VAEDecode", samples=sampler["LATENT"], vae=chains.vae)
    pasted = chains.paste(face, decoded["IMAGE"], carry)
    save = node("SaveImage", images=pasted["image"], filename_prefix="DiffFAE/native", title="Result")

    parts = [
        node("RandomNoise", noise_seed=0),
        node("BasicGuider", model=chains.model, conditioning=told["positive"]),
        node("KSamplerSelect", sampler_name="dpmpp_2m"),
        node("BasicScheduler", model=chains.model, scheduler="normal", steps=10, denoise=EDIT_DENOISE),
    ]
    custom = node(
        "SamplerCustomAdvanced",
        **{"noise": parts[0]["NOISE"], "guider": parts[1]["GUIDER"], "sampler": parts[2]["SAMPLER"], "sigmas": parts[3]["SIGMAS"]},
        latent_image=told["latent"],
    )
    decoded_custom = node("VAEDecode", samples=custom["output"], vae=chains.vae)
    preview_custom = node("PreviewImage", images=decoded_custom["IMAGE"], title="The same square")

    hidden = node("InvertMask", mask=carry["valid"])
    grown = node("GrowMask", mask=hidden["MASK"], expand=12)
    limited = node("SetLatentNoiseMask", samples=told["latent"], mask=grown["MASK"])
    inpainted = node("KSampler", **guides, **settings, latent_image=limited["LATENT"], title="KSampler, inside the mask")
    decoded_inpainted = node("VAEDecode", samples=inpainted["LATENT"], vae=chains.vae)
    pasted_inpainted = chains.paste(face, decoded_inpainted["IMAGE"], carry)
    preview_inpainted = node("PreviewImage", images=pasted_inpainted["image"], title="Only the unseen repainted")

    after = node("DiffFAEEncodeSlots", difffae=chains.difffae, image=pasted["crop"], title="Regions of the result")
    blurred = node("ImageBlur", image=pasted["crop"], blur_radius=12, sigma=5.0)
    portrait = node(
        "ImageCompositeMasked", destination=pasted["crop"], source=blurred["IMAGE"], mask=after["background"], x=0, y=0, resize_source=False
    )
    preview_portrait = node("PreviewImage", images=portrait["IMAGE"], title="Blurred background")
    note = read_me(graph, "native_ksampler")
    graph.group("Read me", GREY, [note])
    graph.group("1  Pictures", BLUE, [chains.loader, source, reference])
    graph.group("2  What is in them", GREEN, face.nodes, [wanted])
    graph.group("3  What is wanted", AMBER, [compose, render, carry], [told])
    graph.group("4  KSampler", RED, [sampler, decoded], [pasted, save])
    graph.row(under=1)
    graph.group("Custom sampling", RED, parts, [custom, decoded_custom, preview_custom])
    graph.group(
        "Noise mask: only the unseen is repainted",
        VIOLET,
        [hidden, grown, limited],
        [inpainted, decoded_inpainted],
        [pasted_inpainted, preview_inpainted],
    )
    graph.group("Masks with stock nodes", GREEN, [after, blurred], [portrait, preview_portrait])
    return Picture([["astronaut", "naval officer", "Result"], "Blurred background"])


def video_frames(graph: Graph) -> Picture:
    chains = Chains(graph)
    node = graph.node
    actor, source = chains.example("naval officer", "Actor"), chains.example("astronaut", "Source")
    load = node("LoadVideo", file="", muted=True, title="Load Video (muted)")
    frames = node("GetVideoComponents", video=load["VIDEO"], muted=True, title="Get Video Components (muted)")
    actor_crop = node("DiffFAECropFace", difffae=chains.difffae, image=actor["image"], title="Crop: actor")
    actor_face = node(
        "DiffFAEEstimateAttributes", difffae=chains.difffae, image=actor_crop["crop"], crop=actor_crop["crop_info"], title="Estimate: actor"
    )
    sweep = node(
        "DiffFAESweepAttributes",
        **{"difffae": chains.difffae, "attributes": actor_face["attributes"]},
        **{"number": "yaw", "start": -16.0, "end": 16.0, "frames": 12},
    )
    played = node(
        "DiffFAECarryPhoto",
        **{"difffae": chains.difffae, "image": actor_crop["crop"], "source": actor_face["attributes"], "target": sweep["attributes"]},
        title="Frames of the actor",
    )
    followed = node(
        "DiffFAECropFace", difffae=chains.difffae, image=played["image"], missing_face="interpolate", smoothing=2.0, title="Follow the face"
    )
    read = node(
        "DiffFAEEstimateAttributes",
        difffae=chains.difffae,
        image=followed["crop"],
        crop=followed["crop_info"],
        title="Estimate: every frame",
    )
    smooth = node("DiffFAESmoothAttributes", attributes=read["attributes"], frames=1.0)
    face = chains.face(source["image"])
    compose = node("DiffFAEComposeAttributes", source=face.attributes, pose=smooth["attributes"], expression=smooth["attributes"])
    render, carry, told = chains.condition(face, compose["attributes"])
    sampler, pasted = chains.paint(face, told, carry, steps=8)
    saves = [
        node(
            "SaveAnimatedWEBP",
            images=pasted["image"],
            filename_prefix="DiffFAE/video",
            fps=10.0,
            lossless=False,
            quality=85,
            title="Result",
        ),
        node(
            "SaveAnimatedWEBP",
            images=played["image"],
            filename_prefix="DiffFAE/actor",
            fps=10.0,
            lossless=False,
            quality=85,
            title="The actor's frames",
        ),
    ]
    note = read_me(graph, "video_frames")
    graph.group("Read me", GREY, [note])
    graph.group("1  The driving frames", BLUE, [chains.loader, actor, load, frames], [actor_crop, actor_face], [sweep, played])
    graph.group("2  Read and smooth them", GREEN, [followed, read, smooth])
    graph.group("3  The portrait", BLUE, [source, *face.nodes])
    graph.group("4  What is wanted", AMBER, [compose, render, carry])
    graph.group("5  Paint", RED, [told, sampler, pasted])
    graph.group("6  Result", VIOLET, saves)
    return Picture(["The actor's frames", "Result"])


def relight_sweep(graph: Graph) -> Picture:
    chains = Chains(graph)
    node = graph.node
    source = chains.example("astronaut", "Source")
    face = chains.face(source["image"])
    lit = node(
        "DiffFAEAdjustAttributes",
        **{"difffae": chains.difffae, "attributes": face.attributes, "image": face.crop["crop"], "slots": face.slots["slots"]},
        **{"relight": True, "light_azimuth": 0.0, "light_elevation": 15.0, "light_strength": 0.75},
        title="Height and strength of the light",
    )
    sweep = node(
        "DiffFAESweepAttributes",
        **{"difffae": chains.difffae, "attributes": lit["attributes"]},
        **{"number": "light_azimuth", "start": -75.0, "end": 75.0, "frames": 8},
    )
    render, carry, told = chains.condition(face, sweep["attributes"])
    sampler, pasted = chains.paint(face, told, carry, steps=8)
    animation = node(
        "SaveAnimatedWEBP", images=pasted["image"], filename_prefix="DiffFAE/relight", fps=6.0, lossless=False, quality=85, title="Result"
    )
    single = node("RebatchImages", images=pasted["crop"], batch_size=1)
    grid = node("ImageGrid", images=single["IMAGE"], columns=4, cell_width=256, cell_height=256, padding=4)
    sheet = node("SaveImage", images=grid["images"], filename_prefix="DiffFAE/relight_grid", title="All frames")
    note = read_me(graph, "relight_sweep")
    graph.group("Read me", GREY, [note])
    graph.group("1  Picture", BLUE, [chains.loader, source])
    graph.group("2  What is in it", GREEN, face.nodes)
    graph.group("3  The lights", AMBER, [lit], [sweep, render, carry])
    graph.group("4  Paint", RED, [told, sampler, pasted])
    graph.group("5  Result", VIOLET, [animation, single, grid], [sheet])
    return Picture(["All frames"])


DEFINITIONS: tuple[Callable[[Graph], Picture], ...] = (
    full_edit,
    each_from_its_own_reference,
    edit_by_numbers,
    swap_hair_clothes_background,
    swap_and_edit,
    native_ksampler,
    video_frames,
    relight_sweep,
)


def build(nodes: Mapping[str, Any]) -> list[Workflow]:
    """All workflows. nodes: what /object_info says of every node that they use."""
    made = []
    for number, define in enumerate(DEFINITIONS, 1):
        graph = Graph(nodes, f"{number} {define.__name__.replace('_', ' ')}")
        made.append(Workflow(f"{number}_{define.__name__}", graph, define(graph)))
    return made
