"""Chains with other nodes: core's face landmarks and masks, boxes and SEGS of several faces, lists of unequal pictures."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import torch
from client import Comfy
from graphs import conditioned, edited, link, node, saved
from inprocess import Pack
from pictures import batch_of, portrait, raises
from PIL import Image
from torch import Tensor

# the fields of Impact Pack's segments, by its documentation
Segment = namedtuple("Segment", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper")


def detected(pack: Pack, pictures: list[np.ndarray], num_faces: int) -> list[list[dict]]:
    """What core's face network gives its node: the same fields, of the faces that ours finds; points in 3D are of a 192-pixel crop."""
    names = pack.library("faces.blendshapes").BLENDSHAPE_NAMES
    batch = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 255
    frames: list[list[dict]] = []
    for faces in pack.bundle.landmarker.detect(batch):
        frames.append([])
        for face in faces[: num_faces or None]:
            side = 1.5 * float((face.box[2:] - face.box[:2]).max())
            solid = face.landmarks * 192 / side
            points = face.landmarks[:, :2].numpy()
            one = {"bbox_xyxy": np.concatenate([points.min(0), points.max(0)]), "landmarks_xy": points}
            one |= {"landmarks_3d": (solid - solid.mean(0) + 96).numpy(), "presence": 4.2, "score": face.score}
            frames[-1].append(one | {"blendshapes": dict(zip(names, face.blendshapes.tolist(), strict=True))})
    return frames


def core_landmarks(pack: Pack, image: Tensor) -> tuple[dict, list]:
    """FACE_LANDMARKS and boxes that core's own node makes (its weights are a download, so the network under it is ours)."""
    from comfy_extras.nodes_mediapipe import MediaPipeFaceLandmarker

    points = detected(pack, [np.asarray(image[0] * 255).round().astype(np.uint8)], 1)[0][0]["landmarks_3d"][:468]
    solid = (points - points.mean(0)) * [1, -1, -1] / 10  # centimetres, y up
    canonical = {"canonical_vertices": solid, "procrustes_indices": np.arange(0, 468, 9), "procrustes_weights": np.ones(52)}
    model = SimpleNamespace(
        canonical_data={
            name: np.asarray(value, np.float32 if name != "procrustes_indices" else np.int64) for name, value in canonical.items()
        },
        connection_sets={"face_oval": frozenset({(10, 338), (338, 10)})},
        detect_batch=lambda pictures, num_faces, score_thresh, variant: detected(pack, pictures, num_faces),
    )
    return MediaPipeFaceLandmarker.execute(model, image, "short", 0, 0.5, "empty").result


def places(crop) -> list[tuple[int, int, int]]:
    return [(square.left, square.top, square.side) for square in crop.squares]


def near(a: list[tuple[int, int, int]], b: list[tuple[int, int, int]], tolerance: int) -> bool:
    return len(a) == len(b) and bool((np.abs(np.subtract(a, b)) <= tolerance).all())


def test_the_core_node_of_landmarks(pack: Pack) -> None:
    """Crop Face cuts the same squares by what core's node hands on as by its own detector, of one face and of all."""
    group = batch_of("900x600", "rgb", "three", 1)
    landmarks, boxes = core_landmarks(pack, group)
    assert {"transformation_matrix", "presence", "bbox_xyxy"} < set(landmarks["frames"][0][0])
    for options in ({"face": 0}, {"face": 2}, {"all_faces": True}):
        own = pack.run("DiffFAECropFace", image=group, **options)[2]
        theirs = pack.run("DiffFAECropFace", image=group, face_landmarks=landmarks, **options)[2]
        assert near(places(own), places(theirs), 1)
    picture, _, crop = pack.run("DiffFAECropFace", image=group, face_landmarks=landmarks, face=1)
    ours, _, own = pack.run("DiffFAECropFace", image=group, face=1)
    a, b = (pack.run("DiffFAEEstimateAttributes", image=image, crop=one)[0] for image, one in ((picture, crop), (ours, own)))
    assert (a.pose - b.pose).abs().max() < 0.01  # radians
    in_boxes = pack.run("DiffFAECropFace", image=group, bboxes=boxes, all_faces=True)[2]
    assert len(in_boxes.squares) == 3


def segs(boxes: list[list[float]], height: int, width: int) -> tuple:
    return (height, width), [Segment(None, None, 0.9, [0, 0, width, height], np.array(box), "face", None) for box in boxes]


def test_segs_of_several_faces(pack: Pack) -> None:
    """In their order; all of them at once are edited and pasted one after another."""
    group = batch_of("900x600", "rgb", "three", 1)
    boxes = [face.box.tolist() for face in pack.bundle.landmarker.detect(group.movedim(-1, 1))[0]]
    assert len(boxes) == 3
    backwards = segs(boxes[::-1], 600, 900)
    for index in range(3):
        wanted = places(pack.run("DiffFAECropFace", image=group, face=2 - index)[2])
        assert near(places(pack.run("DiffFAECropFace", image=group, segs=backwards, face=index)[2]), wanted, 8)
    two = segs(boxes[1:], 600, 900)
    picture, _, crop = pack.run("DiffFAECropFace", image=group, segs=two, all_faces=True)
    assert len(picture) == 2
    pasted = pack.run("DiffFAEPasteBack", original=group, edited=picture * 0.5, crop=crop)[0]
    changed = (pasted - group).abs().amax(-1)[0]
    for square in crop.squares:
        assert changed[int(square.centre[1]), int(square.centre[0])] > 0.1
    with raises(pack, "ImageError", "segs: found in a 90x60 picture, but image is 900x600"):
        pack.run("DiffFAECropFace", image=group, segs=segs(boxes, 60, 90))
    with raises(pack, "ConfigError", "segs: are not SEGS of a detector, which hold a size and segments with a bbox"):
        pack.run("DiffFAECropFace", image=group, segs="something")


def test_a_report_of_one_of_several(pack: Pack) -> None:
    """The crop says whose edit is measured, and the words say what the number is."""
    group = batch_of("900x600", "rgb", "three", 1)
    picture, _, crop = pack.run("DiffFAECropFace", image=group, face=1)
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    (target,) = pack.run("DiffFAEAdjustAttributes", attributes=own, yaw=12.0)
    moved, _, carry, *_ = pack.run("DiffFAECarryPhoto", image=picture, source=own, target=target, crop=crop)
    result = pack.run("DiffFAEPasteBack", original=group, edited=moved, crop=crop, carry=carry)[0]
    text, identity, *_ = pack.run("DiffFAEReport", source=group, result=result, crop=crop)
    assert 0.03 < identity < 0.43
    assert text.endswith(f"{identity:.3f} (the same person, up to 0.43)")
    assert pack.run("DiffFAEReport", source=group, result=result)[1] < 0.03  # the largest face, which nobody edited


def test_lists_of_unequal_pictures(comfy: Comfy, pack: Pack) -> None:
    """Core runs a chain once for every picture of a list: each comes back at its own size, with its own edit."""
    pictures = [portrait("source.png")[0], portrait("query.png")[0, :480, 20:440]]
    names = [comfy.upload(Image.fromarray((picture * 255).round().byte().numpy())) for picture in pictures]
    graph = edited(comfy, denoise=0.0)
    graph |= {f"file {number}": node("LoadImage", image=name) for number, name in enumerate(names)}
    graph["source"] = node("CreateList", **{f"inputs.input{number}": link(f"file {number}") for number in range(2)})
    result = comfy.run(graph | saved("paste"))
    assert [image.size for image in result.images("save paste")] == [(384, 384), (420, 480)]
    for image, picture in zip(result.images("save paste"), pictures, strict=True):
        apart = np.abs(np.asarray(image.convert("RGB")) / 255 - picture.numpy()).mean(-1)
        assert 0.005 < apart.mean() < 0.2
        assert (apart < 0.003).mean() > 0.2  # what lies outside the square stays


def test_masks_in_stock_nodes(comfy_each: Comfy) -> None:
    """A mask of Encode Slots through core's mask nodes into Paste Back: only there the picture changes."""
    graph = {
        **conditioned(comfy_each),
        "hair": node("GrowMask", mask=link("slots", 2), expand=4, tapered_corners=True),
        "soft": node("FeatherMask", mask=link("hair"), left=2, top=2, right=2, bottom=2),
        "hard": node("ThresholdMask", mask=link("soft"), value=0.5),
        "dark": node("ImageInvert", image=link("crop")),
        "paste": node(
            "DiffFAEPasteBack", original=link("source"), edited=link("dark"), crop=link("crop", 2), mask=link("hard"), feather=0.012
        ),
        "whole": node("DiffFAEPasteBack", original=link("source"), edited=link("dark"), crop=link("crop", 2), feather=0.012),
        "shown": node("MaskToImage", mask=link("hard")),
        **saved("paste", "whole", "shown", "source", crop_image=link("paste", 1)),
    }
    result = comfy_each.run(graph)
    images = {name: np.asarray(result.images(f"save {name}")[0].convert("RGB"), np.float32) / 255 for name in ("paste", "whole", "source")}
    part, all_ = (np.abs(images[name] - images["source"]).mean(-1) > 0.05 for name in ("paste", "whole"))
    mask = np.asarray(result.images("save shown")[0].convert("L")) > 127
    assert 0.05 < mask.mean() < 0.6
    assert 0.5 * mask.mean() < part.sum() / all_.sum() < 1.5 * mask.mean() + 0.1
    assert (part & ~all_).sum() == 0
