"""The preview inside DiffFAE Adjust Attributes: a server route that answers slider values with a picture.

Shape letters: C crop side in pixels.

POST /difffae/preview    {"key", "style": "photo" or "clay", "frame": 0, "values": {widget: value}} -> image/jpeg
POST /difffae/attributes {"key", "frame", "values"} -> the adjusted attributes as JSON, for the clipboard
Both answer 410 if the key is no longer known (queue the node again), 400 with {"error"} for values that cannot work.
"""

from __future__ import annotations

import asyncio
import copy
import io
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from aiohttp import web
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..difffae.adjust import light_direction
from ..difffae.attributes import FaceAttributes
from ..difffae.carry import carry
from ..difffae.errors import DiffFAEError
from ..difffae.head import HeadModel
from ..difffae.regions import light_matte
from ..difffae.render import render
from ..difffae.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from .adjusting import adjusted
from .frames import frames, to_pictures
from .sockets import Tokens

REMEMBERED = 16  # nodes whose preview stays alive; each holds a few megabytes
SIDE = 256
STORE: web.AppKey[OrderedDict] = web.AppKey("difffae_previews", OrderedDict)


@dataclass(frozen=True, eq=False)
class Scene:
    """What one node's preview shows, on the CPU: the card may be busy. photo (B,3,C,C) and matte (B,1,C,C), or None without a picture."""

    head: HeadModel
    attributes: FaceAttributes
    photo: Tensor | None
    matte: Tensor | None


def remember(head: HeadModel, attributes: FaceAttributes, image: Tensor | None, slots: Tokens | None) -> dict[str, Any]:
    """Keep a scene for the preview route; returns what the node's front end needs: the key and the face's own angles, in degrees."""
    if head.faces.device.type != "cpu":
        head = copy.deepcopy(head).cpu()
    attributes = attributes.to("cpu")
    photo = matte = None
    if image is not None:
        photo = frames(to_pictures(image).cpu(), max(len(image), len(attributes)))
        if slots is not None:
            matte = light_matte(frames(slots.masks.cpu(), len(photo)), slots.order, (photo.shape[-2], photo.shape[-1]))
    scenes = PromptServer.instance.app.get(STORE)
    key = secrets.token_hex(8)
    if scenes is not None:
        scenes[key] = Scene(head, attributes, photo, matte)
        while len(scenes) > REMEMBERED:
            scenes.popitem(last=False)
    turns = axis_angle_to_matrix(attributes.pose[0, :2])
    angles = to_yaw_pitch_roll(matrix_to_axis_angle(turns[0] @ turns[1])).tolist()
    light = light_direction(attributes.light[:1])[0].tolist()
    names = ("yaw", "pitch", "roll", "light_azimuth", "light_elevation")
    return {"key": key, "frames": len(attributes), "photo": photo is not None} | dict(zip(names, [*angles, *light], strict=True))


@torch.inference_mode()
def draw(scene: Scene, values: dict[str, Any], frame: int, style: str) -> bytes:
    """JPEG of one frame with the slider values: the carried photograph, or the head in clay."""
    from .drawing import clay_picture

    own = scene.attributes[frame % len(scene.attributes)]
    wanted = adjusted(own, values, scene.head.expression_names)
    if scene.photo is None or style == "clay":
        picture = clay_picture(render(scene.head, wanted, SIDE), wanted.light)
    else:
        index = slice(frame % len(scene.photo), frame % len(scene.photo) + 1)
        matte = None if scene.matte is None else scene.matte[index]
        picture = carry(scene.photo[index], own, wanted, scene.head, matte=matte).image
    pixels = (picture[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def as_json(scene: Scene, values: dict[str, Any], frame: int) -> str:
    return adjusted(scene.attributes[frame % len(scene.attributes)], values, scene.head.expression_names).to_json()


def add_routes() -> None:
    """Called once, when ComfyUI loads the pack."""
    server = PromptServer.instance
    server.app[STORE] = OrderedDict()

    async def answer(request: web.Request, work: Callable[[Scene, dict, int, str], Any]) -> Any:
        try:
            data = await request.json()
            key, values, frame, style = data["key"], dict(data["values"]), int(data.get("frame", 0)), str(data.get("style", "photo"))
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=f"preview: the request is not understood ({error})") from error
        scenes = request.app[STORE]
        if key not in scenes:
            raise web.HTTPGone(text="preview: this node's preview is no longer in memory; queue it again")
        scenes.move_to_end(key)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work, scenes[key], values, frame, style)
        except (DiffFAEError, ValueError, TypeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    @server.routes.post("/difffae/preview")
    async def preview(request: web.Request) -> web.Response:
        picture = await answer(request, lambda scene, values, frame, style: draw(scene, values, frame, style))
        return web.Response(body=picture, content_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @server.routes.post("/difffae/attributes")
    async def attributes(request: web.Request) -> web.Response:
        text = await answer(request, lambda scene, values, frame, style: as_json(scene, values, frame))
        return web.Response(text=text, content_type="application/json")
