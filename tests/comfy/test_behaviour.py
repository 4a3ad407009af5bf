"""What a user sees: nothing asked changes nothing, seeds repeat, only what changed runs again, progress, interrupt, errors, recipes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from client import ROOT, Comfy
from graphs import BUNDLE, QUERY, SOURCE, edited, link, node, saved
from inprocess import Pack
from pictures import NO_FACE, batch_of, portrait, raises
from PIL import Image
from server import find
from torch import Tensor

ZERO = {
    **dict.fromkeys(("yaw", "pitch", "roll", "smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"), 0.0),
    **{"relight": False, "light_azimuth": 45.0, "light_elevation": 20.0, "light_strength": 0.6, "absolute": False, "pasted": ""},
}


def array(picture: Image.Image) -> np.ndarray:
    return np.array(picture)


# nothing asked


@pytest.mark.parametrize("asked", ["nothing wired", "strengths 0", "sliders 0"])
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_taking_nothing_returns_the_source(comfy: Comfy, asked: str, alpha: bool) -> None:
    graph = edited(comfy)
    if asked == "nothing wired":
        for name in ("pose", "expression", "light"):
            del graph["target"]["inputs"][name]
    elif asked == "strengths 0":
        graph["target"]["inputs"] |= {"pose_strength": 0.0, "expression_strength": 0.0, "light_strength": 0.0}
    else:
        graph["target"] = node("DiffFAEAdjustAttributes", difffae=BUNDLE, attributes=link("own"), **ZERO)
    if alpha:
        picture = Image.open(SOURCE).convert("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        graph["file"] = node("LoadImage", image=comfy.upload(picture))
        # LoadImage gives the colours and 1 - alpha; this node joins them again
        graph["source"] = node("JoinImageWithAlpha", image=link("file"), alpha=link("file", 1))
    result = comfy.run(graph)
    (out,) = result.images("save")
    expected = array(picture if alpha else Image.open(SOURCE).convert("RGB"))
    assert out.mode == ("RGBA" if alpha else "RGB")
    assert np.array_equal(array(out), expected)


def test_zero_sliders_return_the_same_object(pack: Pack) -> None:
    (own,) = pack.run("DiffFAEEstimateAttributes", image=portrait("source.png"))
    assert pack.run("DiffFAEAdjustAttributes", attributes=own, **ZERO)[0] is own
    assert pack.run("DiffFAEComposeAttributes", source=own)[0] is own


# repeating


def test_the_same_seed_gives_the_same_file(comfy_each: Comfy) -> None:
    comfy_each.free()
    first = comfy_each.run(edited(comfy_each, seed=5)).images("save")[0]
    comfy_each.free()
    second = comfy_each.run(edited(comfy_each, seed=5)).images("save")[0]
    other = comfy_each.run(edited(comfy_each, seed=6)).images("save")[0]
    assert np.array_equal(array(first), array(second))
    assert not np.array_equal(array(first), array(other))


def test_only_what_changed_runs_again(comfy_each: Comfy) -> None:
    graph = edited(comfy_each, seed=1)
    comfy_each.free()
    everything = comfy_each.run(graph)
    assert set(everything.executed) == set(graph)
    assert comfy_each.run(graph).executed == []
    reseeded = comfy_each.run(edited(comfy_each, seed=2))
    assert set(reseeded.executed) == {"sample", "paste", "save"}
    assert set(reseeded.cached) == set(graph) - {"sample", "paste", "save"}
    renamed = edited(comfy_each, seed=2)
    renamed["save"]["inputs"]["filename_prefix"] = "renamed"
    assert comfy_each.run(renamed).executed == ["save"]
    stronger = edited(comfy_each, seed=2)
    stronger["target"]["inputs"]["light_strength"] = 0.5
    assert set(comfy_each.run(stronger).executed) == {"target", "render", "carry", "conditioning", "sample", "paste", "save"}


def test_stock_nodes_save_our_pictures(comfy: Comfy) -> None:
    graph = edited(comfy, seed=1)
    result = comfy.run(
        {
            **graph,
            **saved("paste", "render", hair=link("mask"), square=link("paste", 1)),
            "mask": node("MaskToImage", mask=link("slots", 2)),
        }
    )
    whole, render, hair, square = (result.images(f"save {name}")[0] for name in ("paste", "render", "hair", "square"))
    assert [picture.size for picture in (whole, render, hair, square)] == [(384, 384), (256, 256), (256, 256), (256, 256)]
    # core truncates where we round
    assert np.abs(array(whole).astype(int) - array(result.images("save")[0]).astype(int)).max() <= 1


# frames


def frames_of(names: list[str]) -> dict:
    """LoadImage nodes and one batch of them, "frames"."""
    graph = {f"file {number}": node("LoadImage", image=name) for number, name in enumerate(names)}
    last = "file 0"
    for number in range(1, len(names)):
        joined = "frames" if number == len(names) - 1 else f"batch {number}"
        graph[joined] = node("ImageBatch", image1=link(last), image2=link(f"file {number}"))
        last = joined
    return graph


def cropped(image: list, **settings) -> dict:
    given = {"face": 0, "missing_face": "error", "smoothing": 0.0}
    return {
        "load": node("DiffFAELoader", checkpoint="open-256"),
        "crop": node("DiffFAECropFace", **{"difffae": BUNDLE, "image": image} | given | settings),
    }


def test_progress_of_twelve_frames(comfy: Comfy) -> None:
    graph = {
        **frames_of([comfy.upload(SOURCE)]),
        "frames": node("RepeatImageBatch", image=link("file 0"), amount=12),
        **cropped(link("frames")),
        "own": node("DiffFAEEstimateAttributes", difffae=BUNDLE, image=link("crop"), crop=link("crop", 2)),
        "carry": node("DiffFAECarryPhoto", difffae=BUNDLE, image=link("crop"), source=link("own"), target=link("own")),
        "paste": node(
            "DiffFAEPasteBack",
            **{"original": link("frames"), "edited": link("carry"), "crop": link("crop", 2), "carry": link("carry", 2), "feather": 0.05},
        ),
        **saved("paste"),
    }
    result = comfy.run(graph)
    assert len(result.images("save paste")) == 12
    for name in ("crop", "own", "carry", "paste"):
        steps = [step for step in result.progress if step.node == name]
        assert {step.max for step in steps} == {12}, name
        values = [step.value for step in steps]
        assert values == sorted(values), name
        assert values[-1] == 12, name


def test_interrupt_stops_and_the_next_run_works(comfy_each: Comfy) -> None:
    graph = edited(comfy_each, steps=400, seed=9)
    asked: list[float] = []

    def stop(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == "sample" and data["value"] >= 3 and not asked:
            asked.append(time.perf_counter())
            comfy_each.interrupt()

    result = comfy_each.run(graph, expect_error=True, on_event=stop)
    assert time.perf_counter() - asked[0] < 1.5
    assert (result.status, result.error.node_id) == ("interrupted", "sample")
    assert max(step.value for step in result.progress if step.node == "sample") < 40
    assert comfy_each.run(edited(comfy_each, steps=2, seed=9)).status == "success"


def test_a_frame_without_a_face_is_named(comfy: Comfy) -> None:
    grey = Image.new("RGB", (384, 384), (120, 120, 120))
    names = [comfy.upload(SOURCE), comfy.upload(SOURCE), comfy.upload(grey), comfy.upload(SOURCE)]
    graph = {**frames_of(names), **cropped(link("frames")), **saved("crop")}
    error = comfy.run(graph, expect_error=True).error
    hint = "use a picture in which a face is at least about 40 pixels high and not in profile, or let missing faces be interpolated"
    assert error.exception_message == f"image: no face found in frame 2 of 4; {hint}"
    assert (error.node_id, error.exception_type.split(".")[-1]) == ("crop", "NoFaceError")
    graph["crop"]["inputs"]["missing_face"] = "interpolate"
    pictures = comfy.run(graph).images("save crop")
    assert len(pictures) == 4
    assert np.array_equal(array(pictures[0]), array(pictures[3]))
    assert np.ptp(array(pictures[2])) <= 1  # the square is there, and shows the grey frame


def test_a_picture_without_a_face(comfy_each: Comfy) -> None:
    grey = comfy_each.upload(Image.new("RGB", (300, 200), (120, 130, 140)))
    graph = {**frames_of([grey]), **cropped(link("file 0")), **saved("crop")}
    error = comfy_each.run(graph, expect_error=True).error
    assert error.exception_message == NO_FACE.format("image")


# which face


def test_faces_are_chosen_by_size(comfy: Comfy) -> None:
    group = (batch_of("900x600", "rgb", "three", 1)[0] * 255).round().byte().numpy()
    graph = {**frames_of([comfy.upload(Image.fromarray(group))]), **cropped(link("file 0"))}
    for number in range(3):
        graph |= {f"crop {number}": node("DiffFAECropFace", **graph["crop"]["inputs"] | {"face": number}), **saved(f"crop {number}")}
    result = comfy.run(graph)
    officer, large, small = (array(result.images(f"save crop {number}")[0]).astype(int) for number in range(3))
    assert np.abs(large - small).mean() < 8 < 40 < np.abs(large - officer).mean()  # 1 and 2 show the same portrait
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in (large, small)]
    assert detail[0] > detail[1]
    graph["crop"]["inputs"]["face"] = 5
    error = comfy.run({name: graph[name] for name in ("file 0", "load", "crop")} | saved("crop"), expect_error=True).error
    assert error.exception_message == "image: face 5 was asked for, but it shows 3; choose 0 to 2, largest first"


def box_around(pack: Pack, image: Tensor, index: int = 0) -> dict:
    face = pack.bundle.landmarker.detect(image.movedim(-1, 1))[0][index]
    x0, y0, x1, y1 = face.box.tolist()
    return {"x": round(x0), "y": round(y0), "width": round(x1 - x0), "height": round(y1 - y0)}


def test_boxes_choose_the_face(pack: Pack) -> None:
    """In all the shapes in which core hands them on."""
    image = batch_of("900x600", "rgb", "three", 1)
    wanted = pack.run("DiffFAECropFace", image=image, face=2)[2].squares[0]
    box = box_around(pack, image, 2)
    for boxes in (box, [box], [[box]], [{**box, "label": "face", "score": 0.9}]):
        (square,) = pack.run("DiffFAECropFace", image=image, bboxes=boxes)[2].squares
        assert abs(square.centre[0] - wanted.centre[0]) < 0.02 * wanted.side
        assert abs(square.side - wanted.side) < 0.04 * wanted.side
    twice = pack.run("DiffFAECropFace", image=torch.cat([image, image]), bboxes=[box])[2].squares
    assert len(twice) == 2
    with raises(pack, "ImageError", "bboxes: has 3 frames, but image has 2; give 1, or as many"):
        pack.run("DiffFAECropFace", image=torch.cat([image, image]), bboxes=[[box], [box], [box]])
    for nowhere in ([], [[]], [{"x": 400, "y": 10, "width": 60, "height": 60}], [{"x": 5000, "y": 10, "width": 0, "height": 0}]):
        with raises(pack, "NoFaceError", NO_FACE.format("image")):
            pack.run("DiffFAECropFace", image=image, bboxes=nowhere)


def test_boxes_of_the_core_node(comfy: Comfy, pack: Pack) -> None:
    group = batch_of("900x600", "rgb", "three", 1)
    box = box_around(pack, group, 1)
    graph = {
        **frames_of([comfy.upload(Image.fromarray((group[0] * 255).round().byte().numpy()))]),
        **cropped(link("file 0"), bboxes=link("boxes", 1)),
        "boxes": node("CreateBoundingBoxes", width=900, height=600, bboxes=json.dumps([box]), editor_state={"__value__": []}),
        "chosen": node("DiffFAECropFace", difffae=BUNDLE, image=link("file 0"), face=1, missing_face="error", smoothing=0.0),
        **saved("crop", "chosen"),
    }
    result = comfy.run(graph)
    ours, theirs = (array(result.images(f"save {name}")[0]).astype(int) for name in ("chosen", "crop"))
    assert np.abs(ours - theirs).mean() < 12


def mediapipe(pack: Pack, image: Tensor) -> dict:
    """FACE_LANDMARKS as ComfyUI's node makes it, of what our landmarker finds."""
    names = pack.library("faces.blendshapes").BLENDSHAPE_NAMES
    frames = []
    for faces in pack.bundle.landmarker.detect(image.movedim(-1, 1)):
        frames.append([])
        for face in faces:
            side = float((face.box[2:] - face.box[:2]).max()) * 1.5
            solid = face.landmarks * 192 / side
            frames[-1].append(
                {
                    "bbox_xyxy": face.box.numpy(),
                    "landmarks_xy": face.landmarks[:, :2].numpy(),
                    "landmarks_3d": (solid - solid.mean(0) + 96).numpy(),
                    "blendshapes": dict(zip(names, face.blendshapes.tolist(), strict=True)),
                    "presence": 4.2,
                    "score": face.score,
                }
            )
    return {"frames": frames, "image_size": (image.shape[1], image.shape[2]), "connection_sets": {}}


def test_landmarks_of_core_are_taken(pack: Pack) -> None:
    image = torch.cat([portrait("source.png"), portrait("source.png").roll(9, 2)])
    own_crop, theirs_crop = (
        pack.run("DiffFAECropFace", image=image, **given) for given in ({}, {"face_landmarks": mediapipe(pack, image)})
    )
    for own, theirs in zip(own_crop[2].squares, theirs_crop[2].squares, strict=True):
        assert max(abs(own.left - theirs.left), abs(own.top - theirs.top), abs(own.side - theirs.side)) <= 1
    own, theirs = (pack.run("DiffFAEEstimateAttributes", image=crop[0], crop=crop[2])[0] for crop in (own_crop, theirs_crop))
    assert (own.pose - theirs.pose).abs().max() < 0.01  # radians
    assert (own.expression - theirs.expression).abs().max() < 0.02
    assert (own.camera - theirs.camera).abs().max() < 0.02 * own.camera.abs().max()
    wrong = mediapipe(pack, image) | {"image_size": (100, 200)}
    with raises(pack, "ImageError", "face_landmarks: found in a 200x100 picture, but image is 384x384"):
        pack.run("DiffFAECropFace", image=image, face_landmarks=wrong)
    with raises(pack, "ImageError", "face_landmarks: has 2 frames, but image has 3; give 1, or as many"):
        pack.run("DiffFAECropFace", image=torch.cat([image, image[:1]]), face_landmarks=mediapipe(pack, image))
    nobody = mediapipe(pack, image)
    nobody["frames"][1] = []
    message = NO_FACE.format("image").replace("found;", "found in frame 1 of 2;") + ", or let missing faces be interpolated"
    with raises(pack, "NoFaceError", message):
        pack.run("DiffFAECropFace", image=image, face_landmarks=nobody)


# recipes


def test_recipes_are_saved_and_read_back(comfy_each: Comfy, pack: Pack) -> None:
    graph = edited(comfy_each, seed=123456789012345)
    graph["report"] = node("DiffFAEReport", difffae=BUNDLE, source=link("source"), result=link("paste"), reference=link("query"))
    graph["save"]["inputs"]["report"] = link("report", 5)
    result = comfy_each.run(graph, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}}})
    (entry,) = result.outputs["save"]["images"]
    path = comfy_each.base / "output" / entry["subfolder"] / entry["filename"]
    with Image.open(path) as picture:
        assert json.loads(picture.info["workflow"]) == {"nodes": []}
        prompt = json.loads(picture.info["prompt"])
    assert {name: {key: made[key] for key in ("class_type", "inputs")} for name, made in prompt.items()} == graph
    recipe = pack.library("edit.recipe").read_recipe(path)
    assert recipe.checkpoint["name"] == "open-256"
    assert recipe.checkpoint["sha256"] == pack.library("edit.recipe").file_sha256(ROOT / "difffae/assets/open-256.safetensors")
    assert recipe.software["comfyui"] == comfy_each.get("/system_stats")["system"]["comfyui_version"]
    steps = {step["node"]: step for step in recipe.steps}
    assert (steps["DiffFAESampler"]["seed"], steps["DiffFAESampler"]["sampler_name"]) == (123456789012345, "dpmpp_2m")
    assert steps["LoadImage"]["image"] in (graph["source"]["inputs"]["image"], graph["query"]["inputs"]["image"])
    text = next(line for line in result.text("report")[0].splitlines() if "dentity" in line)
    (distance,) = recipe.identity_distance
    assert f"{distance:.3f}" in text
    # and back, on this server
    name = comfy_each.upload(path)
    again = {
        **graph,
        "recipe": node("DiffFAELoadRecipe", image=name),
        "drawn again": node("DiffFAERenderFace", difffae=BUNDLE, attributes=link("recipe", 1), shading="textured", size=256),
        **saved("render", "drawn again"),
    }
    loaded = comfy_each.run(again)
    assert json.loads(loaded.text("recipe")[0]) == json.loads(recipe.to_json())
    before, after = (array(loaded.images(f"save {name}")[0]) for name in ("render", "drawn again"))
    assert np.array_equal(before, after)
    target = recipe.face_attributes()
    picture = portrait("source.png")
    crop_picture, _, crop = pack.run("DiffFAECropFace", image=picture)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=crop_picture, crop=crop)
    (wanted,) = pack.run("DiffFAEEstimateAttributes", image=portrait("query.png"))
    (composed,) = pack.run("DiffFAEComposeAttributes", source=own, pose=wanted, expression=wanted, light=wanted)
    for field, values in composed.tensors().items():
        torch.testing.assert_close(target.tensors()[field], values, atol=5e-3, rtol=1e-3)


def test_pictures_without_a_recipe(comfy: Comfy) -> None:
    error = comfy.run({"recipe": node("DiffFAELoadRecipe", image=comfy.upload(QUERY))}, expect_error=True).error
    assert error.node_id == "recipe"
    assert "recipe" in error.exception_message
    assert len(error.exception_message.splitlines()) == 1
    gone = comfy.run({"recipe": node("DiffFAELoadRecipe", image="gone.png")}, expect_error=True)
    assert gone.status == "rejected"
    assert "gone.png" in gone.error.exception_message
    # a recipe without attributes: the text is there, what needs the attributes says why it cannot run
    save = node("DiffFAESaveImage", images=link("file"), filename_prefix="plain")
    plain = comfy.run({"file": node("LoadImage", image=comfy.upload(QUERY)), "save": save})
    name = comfy.upload(comfy.base / "output" / plain.outputs["save"]["images"][0]["filename"])
    load = node("DiffFAELoader", checkpoint="open-256")
    graph = {"load": load, "recipe": node("DiffFAELoadRecipe", image=name)}
    assert json.loads(comfy.run(graph).text("recipe")[0])["attributes"] is None
    draw = node("DiffFAERenderFace", difffae=BUNDLE, attributes=link("recipe", 1), shading="clay", size=64)
    error = comfy.run({**graph, "draw": draw, **saved("draw")}, expect_error=True).error
    assert f"{name}: its recipe holds no face attributes; use Estimate Attributes on the picture instead" in error.exception_message


# by itself


def test_no_other_host_is_asked(comfy: Comfy, tmp_path: Path) -> None:
    """A whole edit in a process that may connect to nothing but itself."""
    installation = find()
    script = f"""
import socket, sys
sys.path[:0] = [{str(ROOT / "tests/comfy")!r}, {str(ROOT / "scripts")!r}]
def refuse(self, address, *rest):
    raise AssertionError(f"a connection to {{address}}")
socket.socket.connect = socket.socket.connect_ex = refuse
def unknown(*arguments, **options):
    raise AssertionError(f"a look-up of {{arguments}}")
socket.getaddrinfo = unknown
from pathlib import Path
from inprocess import Pack
from pictures import portrait
from server import Installation
pack = Pack(Installation(Path({str(installation.tree)!r}), Path(sys.executable)), Path({str(tmp_path)!r}))
picture, _, crop = pack.run("DiffFAECropFace", image=portrait("source.png"))
(own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
slots = pack.run("DiffFAEEncodeSlots", image=picture)[0]
(identity,) = pack.run("DiffFAEIdentityToken", image=picture, crop=crop)
render = pack.run("DiffFAERenderFace", attributes=own)[0]
positive, _, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render)
drawn, _ = pack.run("DiffFAESampler", positive=positive, latent=latent, steps=1)
pasted, *_ = pack.run("DiffFAEPasteBack", original=portrait("source.png"), edited=drawn, crop=crop)
pack.run("DiffFAEReport", source=portrait("source.png"), result=pasted)
print("done", tuple(pasted.shape))
"""
    done = subprocess.run([str(installation.python), "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done (1, 384, 384, 3)" in done.stdout


def test_the_pack_loads_in_no_time(pack: Pack, tmp_path: Path) -> None:
    """Beyond what ComfyUI has imported anyway: entry point, on_load, the list of nodes and their schemas."""
    installation = find()
    script = f"""
import asyncio, importlib.util, sys, time
from types import SimpleNamespace
sys.argv = ["main.py", "--cpu", "--base-directory", {str(tmp_path)!r}]
sys.path.insert(0, {str(installation.tree)!r})
import comfy.options
comfy.options.enable_args_parsing()
import nodes
import server
server.PromptServer.instance = SimpleNamespace(app={{}}, routes=SimpleNamespace(post=lambda path: lambda work: work))
before = set(sys.modules)
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}])
module = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
async def load():
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    return [node.define_schema().node_id for node in await extension.get_node_list()]
print(len(asyncio.run(load())), time.perf_counter() - start)
print(sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
"""
    done = subprocess.run([str(installation.python), "-c", script], capture_output=True, text=True, timeout=120, check=True)
    first, second = done.stdout.strip().splitlines()[-2:]
    count, seconds = first.split()
    assert int(count) == len(pack.nodes)
    assert float(seconds) < 0.5
    assert not re.search(r"'(diffusers|kornia|transformers|matplotlib|scipy)'", second)
