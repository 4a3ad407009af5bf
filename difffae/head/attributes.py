"""FaceAttributes: the numbers that describe a face, and composing them from several faces (paper section 4.1, SPC).

Shape letters: B batch, S shape, E expression, A albedo coefficients.
Axes: x right in the image, y up, z to the viewer. Rotations are axis-angle in radians.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..common.batches import common_batch
from ..common.errors import AttributeShapeError, ConfigError, HeadModelMismatchError
from ..common.rotations import slerp
from .mouth_patch import MouthPatch

JSON_FORMAT = "difffae-attributes/1"


@dataclass(frozen=True, eq=False)
class FaceAttributes:
    """One face per batch row, in the code of one head model: what Eq. 3 of the paper renders.

    head        name of the head model; attributes of two heads never mix
    shape       (B,S) identity geometry (beta)
    albedo      (B,A) skin colour (alpha)
    pose        (B,5,3) axis-angle of global, neck, jaw, left eye, right eye (rho); rows 0-1 are pose, rows 2-4 expression
    camera      (B,3) scale, tx, ty of the weak perspective p = s (x + tx, y + ty), -1..1 over the crop, y up (c)
    expression  (B,E) (psi)
    light       (B,9,3) second-order spherical harmonics, band-major, RGB, DECA's constants (l)
    detail      (B,128) DECA's detail code, or None
    lamp        (B,1) 0..1, how far the light was set by numbers (`adjust`), which leave the face's brightness alone and burn no
                skin where a photograph is lit; None: not at all
    mouth       what the photograph shows inside the mouth, which goes along with the expression; None: unknown. It is no number:
                `tensors` and JSON leave it out

    Raises:
        AttributeShapeError: a field has another shape, or another number of faces.
    """

    head: str
    shape: Tensor
    albedo: Tensor
    pose: Tensor
    camera: Tensor
    expression: Tensor
    light: Tensor
    detail: Tensor | None = None
    lamp: Tensor | None = None
    mouth: MouthPatch | None = None

    def __post_init__(self) -> None:
        batch = self.shape.shape[0]
        expected = {"shape": (batch, None), "albedo": (batch, None), "pose": (batch, 5, 3), "camera": (batch, 3)}
        expected |= {"expression": (batch, None), "light": (batch, 9, 3)}
        if self.detail is not None:
            expected["detail"] = (batch, None)
        if self.lamp is not None:
            expected["lamp"] = (batch, 1)
        if self.mouth is not None and len(self.mouth) != batch:
            raise AttributeShapeError(f"attributes.mouth: {len(self.mouth)} mouths for {batch} faces; all fields must have one batch size")
        for name, want in expected.items():
            got = tuple(getattr(self, name).shape)
            if len(got) != len(want) or any(w is not None and g != w for g, w in zip(got, want, strict=True)):
                shown = "x".join("N" if w is None else str(w) for w in want)
                raise AttributeShapeError(f"attributes.{name}: shape {got}, expected {shown}; all fields must have one batch size")

    def __len__(self) -> int:
        return self.shape.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are numbers, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    @property
    def lamplight(self) -> Tensor:
        """(B,1): `lamp`, or zeros."""
        return torch.zeros_like(self.camera[:, :1]) if self.lamp is None else self.lamp

    def map(self, function: Callable[[Tensor], Tensor]) -> FaceAttributes:
        """Apply a function to every tensor."""
        changed: dict[str, Any] = {name: function(value) for name, value in self.tensors().items()}
        return replace(self, **changed, mouth=None if self.mouth is None else self.mouth.map(function))

    def to(self, *args: Any, **kwargs: Any) -> FaceAttributes:
        """Every tensor on a device or of a type, as `Tensor.to`."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> FaceAttributes:
        """Every tensor without its history of gradients."""
        return self.map(Tensor.detach)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> FaceAttributes:
        """Rows of the batch; an integer keeps the batch axis."""
        if isinstance(index, int):
            index = [index]
        return self.map(lambda tensor: tensor[index])

    def expand(self, batch: int) -> FaceAttributes:
        """Repeat a single face.

        Args:
            batch: the number of rows to have.

        Returns:
            attributes of `batch` rows, without a copy.

        Raises:
            AttributeShapeError: there are several faces, but not `batch` of them.
        """
        if len(self) == batch:
            return self
        if len(self) != 1:
            raise AttributeShapeError(f"attributes: {len(self)} faces cannot serve {batch} frames; give 1 or {batch}")
        return self.map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    @staticmethod
    def cat(items: Iterable[FaceAttributes]) -> FaceAttributes:
        """Join faces of one head model along the batch. Raises HeadModelMismatchError for faces of two."""
        items = list(items)
        for item in items[1:]:
            _same_head(items[0], item)
        if any(item.lamp is not None for item in items):
            items = [replace(item, lamp=item.lamplight) for item in items]
        joined: dict[str, Any] = {name: torch.cat([getattr(item, name) for item in items]) for name in items[0].tensors()}
        if any(item.mouth is not None for item in items):
            mouths = [MouthPatch.closed(len(item), item.shape) if item.mouth is None else item.mouth for item in items]
            joined["mouth"] = MouthPatch.cat(mouths)
        return replace(items[0], **joined)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back bit for bit (float32)."""
        return json.dumps({"format": JSON_FORMAT, "head": self.head, **{name: t.tolist() for name, t in self.tensors().items()}})

    @staticmethod
    def from_json(text: str) -> FaceAttributes:
        """Raises ConfigError if the text is not what `to_json` wrote."""
        try:
            data = json.loads(text)
            if data.pop("format") != JSON_FORMAT:
                raise KeyError("format")
            head = data.pop("head")
            numbers: dict[str, Any] = {name: torch.tensor(value, dtype=torch.float32) for name, value in data.items()}
            return FaceAttributes(head=head, **numbers)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"attributes JSON: cannot be read ({error}); paste text that DiffFAE wrote") from error


def _same_head(a: FaceAttributes, b: FaceAttributes) -> None:
    if a.head != b.head:
        raise HeadModelMismatchError(
            f"attributes: '{b.head}' codes cannot join '{a.head}' codes; estimate both faces with the same head model"
        )


def compose(
    source: FaceAttributes,
    *,
    pose: FaceAttributes | None = None,
    expression: FaceAttributes | None = None,
    light: FaceAttributes | None = None,
    identity: FaceAttributes | None = None,
    strength: float = 1.0,
) -> FaceAttributes:
    """Take whole groups of attributes from other faces; with strength 1 this is the paper's swap (section 4.1).

    Args:
        source: whose face it is; one face serves as many rows as the others have.
        pose: gives pose rows 0-1 and the camera.
        expression: gives the expression, pose rows 2-4 and, at any strength, the inside of its mouth.
        light: gives the SH light, and whether it was set by numbers.
        identity: gives shape, albedo and detail.
        strength: 0..1 from the source's values to the taken ones; rotations go along the shortest arc.

    Returns:
        the composed attributes; nothing taken, or strength 0, returns the source object itself.

    Raises:
        ConfigError: a strength outside 0..1.
        HeadModelMismatchError: attributes of two head models.
        AttributeShapeError: numbers of faces that do not go together.

    >>> import torch
    >>> from difffae import FaceAttributes, compose
    >>> codes = {name: torch.zeros(1, n) for name, n in (("shape", 75), ("albedo", 6), ("camera", 3), ("expression", 52))}
    >>> source = FaceAttributes("open", pose=torch.zeros(1, 5, 3), light=torch.zeros(1, 9, 3), **codes)
    >>> query = FaceAttributes("open", pose=torch.full((1, 5, 3), 0.2), light=torch.ones(1, 9, 3), **codes)
    >>> compose(source, pose=query, strength=0.5).pose[0, :, 1]  # global and neck; jaw and eyes are expression
    tensor([0.1000, 0.1000, 0.0000, 0.0000, 0.0000])
    """
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"strength: {strength} is outside 0..1; choose a value in between")
    givers = [giver for giver in (pose, expression, light, identity) if giver is not None]
    if not givers or strength == 0.0:
        return source
    for giver in givers:
        _same_head(source, giver)
    batch = max(len(face) for face in [source, *givers])
    source = source.expand(batch)
    pose, expression, light, identity = (g.expand(batch) if g is not None else None for g in (pose, expression, light, identity))

    def blend(a: Tensor, b: Tensor) -> Tensor:
        return b if strength == 1.0 else torch.lerp(a, b, strength)

    def turn(a: Tensor, b: Tensor) -> Tensor:
        return b if strength == 1.0 else slerp(a, b, strength)

    changed: dict[str, Any] = {}
    rows = list(source.pose.unbind(1))
    if pose is not None:
        rows[:2] = [turn(rows[i], pose.pose[:, i]) for i in range(2)]
        changed["camera"] = blend(source.camera, pose.camera)
    if expression is not None:
        rows[2:] = [turn(rows[i], expression.pose[:, i]) for i in range(2, 5)]
        changed["expression"] = blend(source.expression, expression.expression)
        changed["mouth"] = expression.mouth
    if pose is not None or expression is not None:
        changed["pose"] = torch.stack(rows, dim=1)
    if light is not None:
        changed["light"] = blend(source.light, light.light)
        if source.lamp is not None or light.lamp is not None:
            changed["lamp"] = blend(source.lamplight, light.lamplight)
    if identity is not None:
        changed["shape"] = blend(source.shape, identity.shape)
        changed["albedo"] = blend(source.albedo, identity.albedo)
        both = source.detail is not None and identity.detail is not None
        changed["detail"] = blend(source.detail, identity.detail) if both else identity.detail  # type: ignore[arg-type]
    return replace(source, **changed)


def compose_each(
    source: FaceAttributes, givers: Mapping[str, tuple[FaceAttributes | None, float]], keep_camera: bool = True
) -> FaceAttributes:
    """Groups from other faces, each with its own strength.

    Args:
        source: whose face it is.
        givers: group (pose, expression, light, identity) -> whose it shall be, or None, and the strength 0..1.
        keep_camera: keep the source's place and size in the frame although the pose is another's.

    Returns:
        the composed attributes; nothing taken returns `source` itself.

    Raises:
        ImageError: batches that do not go together.
        ConfigError: a strength outside 0..1.
    """
    taken = {name: (giver, strength) for name, (giver, strength) in givers.items() if giver is not None and strength != 0}
    common_batch({"source": len(source), **{name: len(giver) for name, (giver, _) in taken.items()}})
    result = source
    for name, (giver, strength) in taken.items():
        result = compose(result, strength=strength, **{name: giver.to(source.shape.device)})
    if keep_camera and result is not source:
        result = replace(result, camera=source.camera.expand(len(result), -1))
    return result
