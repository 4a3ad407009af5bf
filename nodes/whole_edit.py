"""A whole edit with the library's four steps, for the node that does all of it.

Shape letters: B faces, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import GraphBuilder
from torch import Tensor

from ..difffae.edit.analysing import Choice, analyse, with_attributes, with_slots
from ..difffae.edit.description import Edit, Faces, Sampling, swaps_from
from ..difffae.edit.moving import framed, move
from ..difffae.head.attributes import compose_each
from ..difffae.vocabulary import FEATHER, REPAIR, SWAPPABLE, TAKEABLE
from .adjusting import adjusted
from .analysis import chosen_faces
from .bundle import Bundle
from .clips import Painter
from .frames import to_image, to_pictures
from .live_preview import remember
from .pasting import pasted_back

LOADED = ("model", "vae", "difffae")  # the outputs of Load DiffFAE, by the names of inputs


def with_loader(schema: io.Schema, checkpoint: str, **inputs: Any) -> tuple[dict[str, Any], tuple]:
    """The graph of Load DiffFAE and a node of one kind that gets its outputs, and the links to that node's own."""
    graph = GraphBuilder()
    loaded = graph.node("DiffFAELoader", checkpoint=checkpoint)
    wires = {name: loaded.out(index) for index, name in enumerate(LOADED)}
    edit = graph.node(schema.node_id, checkpoint=checkpoint, **inputs, **wires)
    return graph.finalize(), tuple(edit.out(index) for index in range(len(schema.outputs)))


def edited(bundle: Bundle, model: Any, vae: Any, image: Tensor, values: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The outputs of Edit Face, and what its preview shows.

    Args:
        bundle, model, vae: of Load DiffFAE.
        image: IMAGE (B,H,W,C).
        values: the node's other inputs by name.

    Raises:
        ConfigError, NoFaceError, ImageError: as the library's steps.
    """
    painter = Painter(bundle, model, vae) if values["diffusion"] else Painter(bundle)
    crop = chosen_faces(bundle, image, values.get("mask"), Choice(values["face"]), values["all_faces"])
    faces = with_slots(bundle, with_attributes(bundle, crop))
    assert faces.attributes is not None
    givers, share = _givers(bundle, values), values["strength"]
    taken = {name: (givers[name].attributes, share) for name in TAKEABLE if name in givers}
    before = compose_each(faces.attributes, taken, keep_camera=True)
    target = adjusted(before, values, bundle.head.expression_names)
    swaps = swaps_from({name: givers[name] for name in SWAPPABLE if name in givers}, dict.fromkeys(SWAPPABLE, share), photo=bundle.carries)
    # a model that is shown no photograph paints everything
    denoise = REPAIR if values["diffusion"] and bundle.carries else None
    edit = Edit(faces, target, swaps, painter.sampling(Sampling(denoise, seed=values["diffusion_seed"])))
    edit = replace(edit, target=framed(bundle, edit))
    moved = move(bundle, edit)
    picture, _, cut_out, unseen = pasted_back(edit.faces, painter.painted(edit, moved), moved, None, FEATHER, image.shape[-1])
    scene = remember(bundle.head, before, to_image(faces.picture), faces, faces.attributes)
    return (picture, unseen, edit.target, bundle, cut_out), scene


def _givers(bundle: Bundle, values: Mapping[str, Any]) -> dict[str, Faces]:
    """The portraits that something is taken of, analysed, by the names of inputs; a picture that gives several things is one portrait."""
    known: dict[int, Faces] = {}
    found = {}
    for name in (*TAKEABLE, *SWAPPABLE):
        picture = values.get(name)
        if picture is None:
            continue
        face = known.get(id(picture)) or analyse(bundle, to_pictures(picture, name), name=name)
        found[name] = known[id(picture)] = with_slots(bundle, face) if name in SWAPPABLE else face
    return found
