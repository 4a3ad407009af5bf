"""Composing and adjusting attributes of batches: what Compose, Adjust and the live preview share. B frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..difffae.head.attributes import FaceAttributes, compose
from .frames import common_batch


def compose_each(
    source: FaceAttributes, givers: Mapping[str, tuple[FaceAttributes | None, float]], keep_camera: bool = True
) -> FaceAttributes:
    """Groups (pose, expression, light, identity) from other faces, each with its own strength; nothing taken returns `source` itself.
    Raises ImageError that names inputs whose frames do not match."""
    taken = {name: (giver, strength) for name, (giver, strength) in givers.items() if giver is not None and strength > 0}
    common_batch({"source": len(source), **{name: len(giver) for name, (giver, _) in taken.items()}})
    result = source
    for name, (giver, strength) in taken.items():
        result = compose(result, strength=strength, **{name: giver.to(source.shape.device)})
    if keep_camera and result is not source:
        result = replace(result, camera=source.camera.expand(len(result), -1))
    return result
