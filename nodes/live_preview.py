"""The preview inside DiffFAE Adjust Attributes: a server route that answers slider values with a picture.

Shape letters: C crop side in pixels.

POST /difffae/preview    {"key", "style": "photo" or "clay", "frame": 0, "draft": false, "values": {widget: value}} -> image/jpeg, smaller
                         and sooner for a draft; its header
                         X-DiffFAE-Message says which turns were limited, X-DiffFAE-Light where a pasted light comes from (degrees:
                         azimuth and elevation)
POST /difffae/attributes {"key", "frame", "values"} -> the adjusted attributes as JSON, for the clipboard
POST /difffae/again      -> nodes run again for their preview's sake although nothing has changed: a page that was opened anew knows no key
Both answer 410 if the key is no longer known (queue the node again), 400 with {"error"} for values that cannot work.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from aiohttp import web
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..difffae.common.batches import expanded
from ..difffae.common.errors import DiffFAEError
from ..difffae.common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..difffae.edit.description import Faces
from ..difffae.edit.native import resize
from ..difffae.head.adjust import TURNS, light_direction, turn_bounds
from ..difffae.head.attributes import FaceAttributes
from ..difffae.head.axes import AXES, leading
from ..difffae.head.morphable import HeadModel
from ..difffae.head.render import render
from ..difffae.person.prepared import Prepared, prepare
from ..difffae.source.regions import Layers
from .adjusting import adjusted
from .frames import to_pictures

MEMORY = 512 * 2**20  # bytes of pictures kept for previews; the node used longest ago is forgotten first
SIDE = 256
DRAFT = 128  # side of the pictures while a hand drags, which take two fifths of the time


@dataclass(frozen=True, eq=False)
class Scene:
    """What one node's preview shows, on the CPU: the card may be busy.

    Attributes:
        head: the head model.
        attributes: B faces or one, the numbers before the sliders.
        photo: (B,3,C,C) 8 bits, or None without a picture.
        layers: of the photo, or None.
        dragged: the frame that was moved last, ready to be moved again, by its number and side: a hand drags one frame at a time.
        own: the numbers of the photo, where something was taken from others before the sliders count; None: they are `attributes`.
    """

    head: HeadModel
    attributes: FaceAttributes
    photo: Tensor | None
    layers: Layers | None
    dragged: dict[tuple[int, int], Prepared] = field(default_factory=dict)
    own: FaceAttributes | None = None

    @property
    def bytes(self) -> int:
        """Of what grows with the number of frames."""
        shown = [] if self.layers is None else [self.layers.light, self.layers.person, self.layers.loose, self.layers.hair]
        photo = [] if self.photo is None else [self.photo]
        return sum(part.nbytes for part in (*photo, *shown, *self.attributes.tensors().values()))

    def prepared(self, frame: int, draft: bool) -> Prepared:
        """One frame of the photo, or of a small copy, ready to be moved from its own numbers; kept until another frame is asked for."""
        assert self.photo is not None
        side = min(DRAFT, self.photo.shape[-1]) if draft else self.photo.shape[-1]
        found = self.dragged.get((frame, side))
        if found is None:
            index = slice(frame % len(self.photo), frame % len(self.photo) + 1)
            photo, layers = self.photo[index].float() / 255, None if self.layers is None else self.layers[index]
            if side < photo.shape[-1]:
                photo = resize(photo, side).clamp(0, 1)
                layers = None if layers is None else layers.map(lambda layer: resize(layer, side, "bilinear"))
            given = self.attributes if self.own is None else self.own
            own = given[frame % len(given)]
            found = prepare(photo, own, self.head, layers=layers)
            for other in [key for key in self.dragged if key[0] != frame]:
                del self.dragged[other]
            self.dragged[frame, side] = found
        return found


@dataclass
class Scenes:
    """Scenes by key, and how often one that had been forgotten was asked for: then nodes must run again although nothing has changed."""

    kept: OrderedDict[str, Scene] = field(default_factory=OrderedDict)
    forgotten: set[str] = field(default_factory=set)
    missed: int = 0

    def add(self, key: str, scene: Scene) -> None:
        self.kept[key] = scene
        self.forgotten.discard(key)
        while len(self.kept) > 1 and sum(kept.bytes for kept in self.kept.values()) > MEMORY:
            self.forgotten.add(self.kept.popitem(last=False)[0])

    def get(self, key: str) -> Scene | None:
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        if key in self.forgotten:
            self.forgotten.remove(key)
            self.missed += 1
        return None


STORE: web.AppKey[Scenes] = web.AppKey("difffae_previews", Scenes)


def remember(
    head: HeadModel, attributes: FaceAttributes, image: Tensor | None, slots: Faces | None, own: FaceAttributes | None = None
) -> dict[str, Any]:
    """Keep a scene for the preview route.

    Args:
        own: the numbers of the image, if `attributes` are others.

    Returns:
        what the node's front end needs: its key, its number of frames, whether there is a photo, and of the first frame the head's angles,
        how far it may be turned, the light's direction (all in degrees) and the expression along the sliders' axes.
    """
    from ..difffae.edit.analysing import layers_of

    attributes = attributes.to("cpu")
    own = None if own is None else own.to("cpu")
    photo = layers = None
    tokens = None if slots is None else slots.slots
    if image is not None:
        photo = (to_pictures(image).cpu().clamp(0, 1) * 255).round().byte()
        photo = expanded(photo, max(len(image), len(attributes)))
        if tokens is not None:
            layers = layers_of(tokens, photo.float() / 255, len(photo))
    scenes = PromptServer.instance.app.get(STORE)
    told = () if tokens is None else (tokens.masks, tokens.matte, tokens.hair)
    key = _key([attributes] if own is None else [attributes, own], photo, *(None if part is None else part.cpu() for part in told))
    if scenes is not None and key not in scenes.kept:
        scenes.add(key, Scene(copy.deepcopy(head).cpu() if head.faces.device.type != "cpu" else head, attributes, photo, layers, own=own))
    turns = axis_angle_to_matrix(attributes.pose[0, :2])
    angles = to_yaw_pitch_roll(matrix_to_axis_angle(turns[0] @ turns[1])).tolist()
    light = light_direction(attributes.light[:1])[0].tolist()
    low, high = turn_bounds(torch.tensor(angles).deg2rad())
    bounds = torch.stack([low, high], -1).rad2deg()
    names = ("yaw", "pitch", "roll", "light_azimuth", "light_elevation")
    return {
        **{"key": key, "frames": len(attributes), "photo": photo is not None},
        **dict(zip(names, [*angles, *light], strict=True)),
        "bounds": dict(zip(TURNS, bounds.tolist(), strict=True)),
        "expression": own_expression(attributes.expression[0], head.expression_names),
    }


def _key(attributes: Sequence[FaceAttributes], *pictures: Tensor | None) -> str:
    """Of the content: a node that runs again with the same face keeps one scene, not one per run."""
    digest = hashlib.sha256(attributes[0].head.encode())
    numbers = [values for one in attributes for values in one.tensors().values()]
    for part in (*numbers, *pictures):
        digest.update(b"none" if part is None else f"{tuple(part.shape)}".encode())
        if part is not None:
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def own_expression(expression: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Where a face (E,) stands on the axis of each slider, -1..1; the opposite number takes it back."""

    def mean(end: Mapping[str, float]) -> float:
        found = [float(expression[list(names).index(name)]) / end[name] for name in leading(end) if name in names]
        return sum(found) / len(found) if found else 0.0

    return {axis.name: max(-1.0, min(1.0, mean(axis.positive) - mean(axis.negative))) for axis in AXES if axis.positive}


def missed() -> int:
    """Changes when a node must run again for its preview's sake."""
    scenes = PromptServer.instance.app.get(STORE)
    return 0 if scenes is None else scenes.missed


@torch.inference_mode()
def draw(scene: Scene, values: dict[str, Any], frame: int, style: str, draft: bool) -> tuple[bytes, dict[str, str]]:
    """JPEG of one frame with the slider values, the carried photograph or the head in clay, and what is to be said of it, by header."""
    from .drawing import clay_picture

    own = scene.attributes[frame % len(scene.attributes)]
    told: list[str] = []
    wanted = adjusted(own, values, scene.head.expression_names, told.append)
    wanted = wanted[frame % len(wanted)]  # the pasted attributes may have several frames
    if scene.photo is None or style == "clay":
        picture = clay_picture(render(scene.head, wanted, SIDE), wanted.light)
    else:
        picture = scene.prepared(frame, draft).move(wanted).image
    pixels = (picture[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling=0)
    headers = {"X-DiffFAE-Message": " ".join(told)} if told else {}
    if str(values.get("pasted") or "").strip():
        headers["X-DiffFAE-Light"] = " ".join(f"{angle:.1f}" for angle in light_direction(wanted.light)[0].tolist())
    return buffer.getvalue(), headers


def as_json(scene: Scene, values: dict[str, Any], frame: int) -> str:
    own = scene.attributes[frame % len(scene.attributes)]
    return adjusted(own, values, scene.head.expression_names, lambda told: None).to_json()  # the preview has told it


def add_routes() -> None:
    """Called once, when ComfyUI loads the pack."""
    server = PromptServer.instance
    server.app[STORE] = Scenes()

    async def answer(request: web.Request, work: Callable[[Scene, dict, int, str, bool], Any]) -> Any:
        try:
            data = await request.json()
            key, values, frame, style = data["key"], dict(data["values"]), int(data.get("frame", 0)), str(data.get("style", "photo"))
            draft = bool(data.get("draft", False))
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=f"preview: the request is not understood ({error})") from error
        scene = request.app[STORE].get(str(key))
        if scene is None:
            raise web.HTTPGone(text="preview: this node's preview is no longer in memory; queue it again")
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work, scene, values, frame, style, draft)
        except (DiffFAEError, ValueError, TypeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    @server.routes.post("/difffae/preview")
    async def preview(request: web.Request) -> web.Response:
        picture, headers = await answer(request, draw)
        return web.Response(body=picture, content_type="image/jpeg", headers={"Cache-Control": "no-store"} | headers)

    @server.routes.post("/difffae/attributes")
    async def attributes(request: web.Request) -> web.Response:
        text = await answer(request, lambda scene, values, frame, *_: as_json(scene, values, frame))
        return web.Response(text=text, content_type="application/json")

    @server.routes.post("/difffae/again")
    async def again(request: web.Request) -> web.Response:
        request.app[STORE].missed += 1
        return web.Response()
