"""Adjusting attributes by numbers instead of a query picture.

Shape letters: B batch, E expression coefficients, N sampled normals.
Axes: x right in the image, y up, z to the viewer. Angles of `Adjustments` are degrees; everything else in the library is radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..common.errors import ConfigError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .attributes import FaceAttributes
from .shading import sh_basis

TRANSFER = (1.0, 2 * math.pi / 3, math.pi / 4)  # what sh_basis multiplies its bands by: the clamped cosine's, but for the first
# degrees of the source's own azimuth or elevation that stay when the other is set: of a light from far above, every azimuth looks alike
MOST_KEPT = (45.0, 30.0)
DEFAULT_STRENGTH = 0.5  # of a light whose direction is given and whose strength is not
LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709
WIDEST = 70.0  # degrees from the viewer within which the source's own light is looked for
LEAST_MEAN = 0.15  # a light from behind is not made brighter than this mean asks for
DARKEST = 0.04  # linear light in a lamp's shadow, as a share of the mean: rooms reflect
CODING = 1.3  # lamps become picture values as light to the power 1 / CODING; sRGB's 2.2 looks flat: second order smooths a lamp's edge
# logarithms of the picture values that warmth 1 multiplies a light by, before its luminance is kept
WARMEST = (0.16, 0.0, -0.24)
UNSEEN, SEEN = 0.15, 1.15  # how much the back of the sphere and what is seen of it count when a lamp is fitted


@dataclass(frozen=True)
class Adjustments:
    """Numbers for the person who edits; None or 0 leaves the source as it is.

    yaw, pitch, roll    degrees added to the head's turn: yaw to image right, pitch chin up, roll clockwise in the image
    smile               -1..1 added: up is a smile, down a frown
    jaw_open, blink     -1..1 added: 1 is wide open, closed eyes
    brow_up             -1..1 added: up raises the brows, down knits them
    gaze_x, gaze_y      -1..1 added: image right, up
    light_azimuth       degrees, where the light comes from: 0 from the viewer, positive from image right
    light_elevation     degrees, positive from above; of azimuth and elevation the one that is None stays the source's
    light_strength      0..1, share of the lamp in the skin's mean light, which stays; 0 is flat
    light_fill          0..1, how far a second lamp at the viewer fills the shadows of the first; at 1 only that is left
    light_warmth        -1..1, colour of the light: up is warmer, as candles, down is colder, as shade under a blue sky
    absolute            yaw, pitch, roll and the expression numbers replace the source's values instead of being added;
                        then None leaves a value alone and 0 sets it to zero

    Raises:
        ConfigError: a number outside its range (LIMITS).

    >>> from difffae import Adjustments
    >>> Adjustments(yaw=15, smile=0.6).empty
    False
    >>> Adjustments(smile=2)
    Traceback (most recent call last):
        ...
    difffae.common.errors.ConfigError: smile: 2 is outside -1..1; choose a number in between
    """

    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    smile: float | None = None
    jaw_open: float | None = None
    blink: float | None = None
    brow_up: float | None = None
    gaze_x: float | None = None
    gaze_y: float | None = None
    light_azimuth: float | None = None
    light_elevation: float | None = None
    light_strength: float | None = None
    light_fill: float | None = None
    light_warmth: float | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        for name in NUMBERS:
            value = getattr(self, name)
            low, high = LIMITS[name]
            if value is not None and not low <= value <= high:  # false for NaN, too
                raise ConfigError(f"{name.replace('_', '-')}: {value} is outside {low:g}..{high:g}; choose a number in between")

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return all(getattr(self, name) is None for name in NUMBERS)


NUMBERS = tuple(field.name for field in fields(Adjustments) if field.name != "absolute")
_ANGLES = {
    "yaw": (-90.0, 90.0),
    "pitch": (-60.0, 60.0),
    "roll": (-90.0, 90.0),
    "light_azimuth": (-180.0, 180.0),
    "light_elevation": (-90.0, 90.0),
}
LIMITS: dict[str, tuple[float, float]] = (
    dict.fromkeys(NUMBERS, (-1.0, 1.0)) | _ANGLES | {"light_strength": (0.0, 1.0), "light_fill": (0.0, 1.0)}
)

# Each number is an axis of two directions: ARKit coefficients with the weight they take of the positive and the negative end.
_PAIR = ("Left", "Right")
EXPRESSION_AXES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "smile": (
        {f"mouthSmile{side}": 1.0 for side in _PAIR} | {f"cheekSquint{side}": 0.4 for side in _PAIR},
        {f"mouthFrown{side}": 1.0 for side in _PAIR},
    ),
    "jaw_open": ({"jawOpen": 1.0}, {}),
    "blink": ({f"eyeBlink{side}": 1.0 for side in _PAIR}, {f"eyeWide{side}": 1.0 for side in _PAIR}),
    "brow_up": (
        {"browInnerUp": 1.0} | {f"browOuterUp{side}": 1.0 for side in _PAIR},
        {f"browDown{side}": 1.0 for side in _PAIR},
    ),
    # the subject's left is image right
    "gaze_x": ({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}),
    "gaze_y": ({f"eyeLookUp{side}": 1.0 for side in _PAIR}, {f"eyeLookDown{side}": 1.0 for side in _PAIR}),
}


def adjust(attributes: FaceAttributes, change: Adjustments, expression_names: Sequence[str]) -> FaceAttributes:
    """Apply numbers to attributes.

    Args:
        attributes: B faces, which are changed alike.
        change: what to change.
        expression_names: of the E coefficients of the head model.

    Returns:
        the changed attributes; asking for nothing returns the same object.

    Raises:
        ConfigError: the head model lacks an expression that is asked for.

    >>> import torch
    >>> from difffae import Adjustments, FaceAttributes
    >>> from difffae.common.rotations import to_yaw_pitch_roll
    >>> from difffae.head.adjust import adjust
    >>> from difffae.head.morphable import HeadModel
    >>> head = HeadModel.load()
    >>> codes = {name: torch.zeros(1, n) for name, n in (("shape", 75), ("albedo", 6), ("camera", 3), ("expression", 52))}
    >>> face = FaceAttributes(head.name, pose=torch.zeros(1, 5, 3), light=torch.zeros(1, 9, 3), **codes)
    >>> turned = adjust(face, Adjustments(yaw=20), head.expression_names)
    >>> [round(angle) for angle in to_yaw_pitch_roll(turned.pose[0, 1]).tolist()]
    [20, 0, 0]
    """
    changed: dict[str, Any] = {}
    if any(value is not None for value in (change.yaw, change.pitch, change.roll)):
        changed["pose"] = _turn(attributes.pose, change)
    if any(getattr(change, name) is not None for name in EXPRESSION_AXES):
        changed["expression"] = _express(attributes.expression, change, list(expression_names), attributes.head)
    lamp = (change.light_azimuth, change.light_elevation, change.light_strength, change.light_fill or None)
    light = attributes.light if all(value is None for value in lamp) else direct_light(attributes.light, *lamp)
    light = light if not change.light_warmth else warmed(light, change.light_warmth)
    if light is not attributes.light:
        changed |= {"light": light, "lamp": torch.ones_like(attributes.camera[:, :1])}
    return replace(attributes, **changed) if changed else attributes


def _turn(pose: Tensor, change: Adjustments) -> Tensor:
    """The head's turn in the world is R_global R_neck; its angles change, and the neck (row 1) takes all of the difference."""
    whole = axis_angle_to_matrix(pose[:, 0].double())
    turn = whole @ axis_angle_to_matrix(pose[:, 1].double())
    # the angles of rotations.from_yaw_pitch_roll: R = Ry(yaw) Rx(-pitch) Rz(-roll)
    angles = torch.stack(
        [
            torch.atan2(turn[:, 0, 2], turn[:, 2, 2]),
            torch.asin(turn[:, 1, 2].clamp(-1, 1)),
            -torch.atan2(turn[:, 1, 0], turn[:, 1, 1]),
        ],
        dim=-1,
    )
    for index, value in enumerate((change.yaw, change.pitch, change.roll)):
        if value is not None:
            angles[:, index] = math.radians(value) + (0 if change.absolute else angles[:, index])
    x, y, z = torch.eye(3, dtype=angles.dtype, device=angles.device)
    ry = axis_angle_to_matrix(angles[:, :1] * y)
    rx = axis_angle_to_matrix(-angles[:, 1:2] * x)
    rz = axis_angle_to_matrix(-angles[:, 2:] * z)
    neck = matrix_to_axis_angle(whole.transpose(-1, -2) @ ry @ rx @ rz)
    return torch.cat([pose[:, :1], neck[:, None].to(pose), pose[:, 2:]], dim=1)


def _express(expression: Tensor, change: Adjustments, names: list[str], head: str) -> Tensor:
    """(B,E) -> (B,E). Moving along an axis first takes back what the opposite end has, then raises the near end; coefficients
    stay within 0..1, or where the source has them outside."""
    expression = expression.clone()

    def columns(end: dict[str, float], axis: str) -> list[int]:
        for name in end:
            if name not in names:
                option = axis.replace("_", "-")
                raise ConfigError(f"{option}: head model '{head}' has no expression {name}; take the expression from a picture instead")
        return [names.index(name) for name in end]

    for axis, (positive, negative) in EXPRESSION_AXES.items():
        value = getattr(change, axis)
        if value is None:
            continue
        near, far = (positive, negative) if value >= 0 else (negative, positive)
        near_columns, far_columns = columns(near, axis), columns(far, axis)
        step = abs(value)
        if change.absolute:
            expression[:, far_columns] = 0
            expression[:, near_columns] = step * expression.new_tensor(list(near.values()))
            continue
        left = torch.full_like(expression[:, :1], step)
        if far:
            old = expression[:, far_columns]
            leading = [index for index, weight in enumerate(far.values()) if weight == 1]  # cheeks only accompany a smile
            left = (step - old[:, leading].clamp_min(0).mean(1, keepdim=True)).clamp_min(0)
            expression[:, far_columns] = torch.minimum(old, (old - step * expression.new_tensor(list(far.values()))).clamp_min(0))
        if near:
            old = expression[:, near_columns]
            expression[:, near_columns] = torch.minimum(old + left * expression.new_tensor(list(near.values())), old.clamp_min(1))
    return expression


def lamp_light(direction: Tensor, strength: float) -> Tensor:
    """SH light of a room with one lamp, as picture values see it.

    A lamp's light adds to the room's as linear light, but shading multiplies picture values (sRGB), which are about its square
    root. So both are mixed first, coded like a picture, and then fitted. The fit is symmetric around the lamp, which keeps the
    brightest normal where the lamp is.

    Args:
        direction: (B,3) unit vectors towards the lamp.
        strength: 0..1, the lamp's share in the mean linear light on the normals that are seen.

    Returns:
        (B,9) coefficients, of mean shading about 1.
    """
    normals = sphere_normals(direction)
    cosine = direction @ normals.T  # (B,N)
    mean = (direction @ visible_normals(direction).T).clamp_min(0).mean(1, keepdim=True).clamp_min(LEAST_MEAN)
    linear = 1 - strength + strength * cosine.clamp_min(0) / mean
    coded = linear.clamp_min(DARKEST) ** (1 / CODING)
    weight = torch.where(normals[:, 2] > -0.2, SEEN, UNSEEN)
    legendre = torch.stack([torch.ones_like(cosine), cosine, 1.5 * cosine.square() - 0.5], dim=-1)  # (B,N,3)
    weighted = (legendre * weight[:, None]).transpose(1, 2)
    bands = torch.linalg.solve(weighted @ legendre, weighted @ coded[..., None])[..., 0]  # (B,3)
    # addition theorem: Legendre polynomial l of n . d is 4 pi / (2 l + 1) times the sum of Y_lm(n) Y_lm(d)
    scale = [4 * math.pi / ((2 * band + 1) * TRANSFER[band] ** 2) for band in range(3)]
    bands = bands * bands.new_tensor(scale)
    return sh_basis(direction) * bands[:, [0, 1, 1, 1, 2, 2, 2, 2, 2]]


def sphere_normals(like: Tensor, count: int = 2000) -> Tensor:
    """(N,3) normals spread evenly over the whole sphere (a Fibonacci lattice)."""
    step = torch.arange(count, device=like.device, dtype=like.dtype) + 0.5
    z, angle = 1 - 2 * step / count, step * (math.pi * (1 + math.sqrt(5)))
    radius = (1 - z.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)


def warmed(light: Tensor, warmth: float) -> Tensor:
    """Light (B,9,3) in a warmer (up to 1) or colder (to -1) colour, of the same luminance on average."""
    gain = (warmth * light.new_tensor(WARMEST)).exp()
    luminance = light.new_tensor(LUMINANCE)
    flat = light[:, :1] * luminance
    return light * gain * (flat.sum(-1, keepdim=True) / (flat * gain).sum(-1, keepdim=True).clamp_min(1e-6))


def visible_normals(like: Tensor, rings: int = 16, spokes: int = 32) -> Tensor:
    """(N,3) normals of a sphere seen from the front, evenly spread over the image."""
    radius = ((torch.arange(rings, device=like.device, dtype=like.dtype) + 0.5) / rings).sqrt()[:, None]
    angle = torch.arange(spokes, device=like.device, dtype=like.dtype)[None] * (2 * math.pi / spokes)
    x, y = radius * angle.cos(), radius * angle.sin()
    return torch.stack([x, y, (1 - radius.square()).sqrt().expand_as(x)], dim=-1).reshape(-1, 3)


def light_direction(light: Tensor) -> Tensor:
    """Where SH light comes from, to about one degree.

    That is the normal with the most luminance within WIDEST degrees of the viewer, from the viewer for a
    flat light. The linear band alone will not do: what a photograph does not show (the back of the head)
    is free in a fit and can turn it around.

    Args:
        light: (B,9,3).

    Returns:
        (B,2) azimuth (positive to image right) and elevation (positive upwards) in degrees.
    """
    reach = math.sin(math.radians(WIDEST))
    line = torch.linspace(-reach, reach, 161, dtype=torch.float64, device=light.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = x.square() + y.square() <= reach**2
    x, y = x[inside], y[inside]
    normals = torch.stack([x, y, (1 - x.square() - y.square()).sqrt()], dim=-1)
    shading = (light.double() * light.new_tensor(LUMINANCE).double()).sum(-1) @ sh_basis(normals).T  # (B,N)
    shading = shading + 1e-3 * shading.abs().mean(-1, keepdim=True) * normals[:, 2]  # decides for the front where all is equal
    best = normals[shading.argmax(-1)]
    angles = [torch.atan2(best[:, 0], best[:, 2]), torch.atan2(best[:, 1], torch.hypot(best[:, 0], best[:, 2]))]
    return torch.rad2deg(torch.stack(angles, dim=-1)).to(light)


def direct_light(
    light: Tensor, azimuth: float | None, elevation: float | None, strength: float | None, fill: float | None = None
) -> Tensor:
    """Light of a new direction and strength, of the same colour and mean shading on a frontal sphere.

    The luminance becomes a flat part and one lamp, mixed by `strength` (`lamp_light`), in the source's mean colour over the
    visible normals. The source's deviations from that colour stay: they tell of coloured surroundings, and taking them away
    would tint the photograph with their complements.

    Args:
        light: (B,9,3) spherical harmonics.
        azimuth, elevation: degrees; None is the source's own, at most MOST_KEPT if the other one is set.
        strength: 0..1; None is DEFAULT_STRENGTH.
        fill: 0..1, how far a lamp at the viewer takes the place of this one; None is 0.

    Returns:
        (B,9,3).
    """
    own = light_direction(light).double()
    if (azimuth is None) != (elevation is None):
        most = own.new_tensor(MOST_KEPT)
        own = own.clamp(-most, most)
    if azimuth is not None:
        own[:, 0] = azimuth
    if elevation is not None:
        own[:, 1] = elevation
    a, e = torch.deg2rad(own).unbind(-1)
    direction = torch.stack([a.sin() * e.cos(), e.sin(), a.cos() * e.cos()], dim=-1)
    seen = sh_basis(visible_normals(direction)).mean(0)  # (9,) mean shading of each coefficient
    weights = seen.new_tensor(LUMINANCE)
    source = light.double()
    brightness = ((source * seen[:, None]).sum(1) * weights).sum(-1).clamp_min(1e-6)  # (B,)
    colour = (source * seen[:, None]).sum(1).clamp_min(0) / brightness[:, None]  # (B,3)
    deviation = source - (source * weights).sum(-1, keepdim=True) * colour[:, None]
    strength = DEFAULT_STRENGTH if strength is None else float(strength)
    lamp = lamp_light(direction, strength)  # (B,9)
    if fill:
        lamp = torch.lerp(lamp, lamp_light(torch.eye(3).to(direction)[2:].expand_as(direction), strength), float(fill))
    lamp = lamp / (lamp * seen).sum(-1, keepdim=True).clamp_min(LEAST_MEAN ** (1 / CODING))
    return (lamp[..., None] * brightness[:, None, None] * colour[:, None] + deviation).to(light)
