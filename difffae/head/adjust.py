"""Adjusting attributes by numbers instead of a query picture.

Shape letters: B batch, E expression coefficients, N sampled normals.
Axes: x right in the image, y up, z to the viewer. Angles of `Adjustments` are degrees; everything else in the library is radians.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..common.errors import ConfigError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .attributes import FaceAttributes
from .axes import AXIS, COEFFICIENTS, EXPRESSION_AXES, PRESETS, TURN_LIMIT, check_names, leading
from .shading import sh_basis

TURNS = ("yaw", "pitch", "roll")
LAMP = ("light_azimuth", "light_elevation", "light_strength", "light_fill")
log = logging.getLogger(__name__)
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


@dataclass(frozen=True, init=False)
class Adjustments:
    """Numbers for the person who edits; what is not named leaves the source as it is.

    Names, ranges and meanings are those of `axes.AXES` (yaw, pitch, roll, smile, jaw_open, blink, wink_left, light_azimuth ...; listed
    in docs/numbers.md), and the ARKit coefficients of `axes.COEFFICIENTS` (mouthSmileLeft ...), -1..1. Each can be read as an
    attribute, None if it was not asked for. Left and right are the subject's own.

    Pose and expression are added to the source's. Light replaces it: of azimuth and elevation the one that is None stays the source's.

    Args:
        preset: an expression of `axes.PRESETS` that is set first, whatever the source's own.
        absolute: pose and expression replace the source's values instead of being added; then 0 sets a value to zero.
        beyond_limit: turn the head as far as asked for, even beyond `axes.TURN_LIMIT`.
        numbers: name -> value; None is as good as not named.

    Raises:
        ConfigError: an unknown name, or a number outside its range.

    >>> from difffae import Adjustments
    >>> Adjustments(yaw=15, smile=0.6).empty
    False
    >>> Adjustments(preset="wink", mouthDimpleLeft=0.3).record()
    {'preset': 'wink', 'mouthDimpleLeft': 0.3}
    >>> Adjustments(smile=2)
    Traceback (most recent call last):
        ...
    difffae.common.errors.ConfigError: smile: 2 is outside -1..1; choose a number in between
    >>> Adjustments(smile_lft=0.5)
    Traceback (most recent call last):
        ...
    difffae.common.errors.ConfigError: adjustments: 'smile_lft' is unknown; did you mean smile_left, smile, smile_right, mouthSmileLeft?
    """

    preset: str | None
    absolute: bool
    beyond_limit: bool
    numbers: Mapping[str, float]

    def __init__(self, *, preset: str | None = None, absolute: bool = False, beyond_limit: bool = False, **numbers: float | None) -> None:
        check_names("adjustments", numbers, NAMES)
        if preset is not None:
            check_names("preset", [preset], PRESETS)
        asked = {name: float(value) for name, value in numbers.items() if value is not None}
        for name, value in asked.items():
            low, high = (AXIS[name].low, AXIS[name].high) if name in AXIS else (-1.0, 1.0)
            if not low <= value <= high:  # false for NaN, too
                option = AXIS[name].option if name in AXIS else name
                raise ConfigError(f"{option}: {value:g} is outside {low:g}..{high:g}; choose a number in between")
        for name, own in (("preset", preset), ("absolute", bool(absolute)), ("beyond_limit", bool(beyond_limit)), ("numbers", asked)):
            object.__setattr__(self, name, own)

    def __getattr__(self, name: str) -> float | None:
        # only called for what is no field; copies ask for others before there are any
        if name in NAMES and "numbers" in self.__dict__:
            return self.numbers.get(name)
        raise AttributeError(f"Adjustments has no '{name}'")

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return self.preset is None and not self.numbers

    def record(self) -> dict[str, Any]:
        """What was asked for as plain JSON values, as recipes store it."""
        named = {} if self.preset is None else {"preset": self.preset}
        flags = {name: True for name in ("absolute", "beyond_limit") if getattr(self, name)}
        return {**named, **self.numbers, **flags}

    @staticmethod
    def from_record(values: Mapping[str, Any]) -> Adjustments:
        """What `record` gave, or a person wrote. Raises ConfigError, as the class does."""
        numbers = {name: value for name, value in values.items() if name not in ("preset", "absolute", "beyond_limit")}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ConfigError(f"{name}: {value!r} is no number; write one such as 0.5")
        return Adjustments(**values)


NAMES = (*AXIS, *COEFFICIENTS)


def adjust(
    attributes: FaceAttributes, change: Adjustments, expression_names: Sequence[str], tell: Callable[[str], None] = log.warning
) -> FaceAttributes:
    """Apply numbers to attributes.

    Args:
        attributes: B faces, which are changed alike.
        change: what to change.
        expression_names: of the E coefficients of the head model.
        tell: called with one line for every turn that was limited.

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
    if any(name in change.numbers for name in TURNS):
        changed["pose"] = _turn(attributes.pose, change, tell)
    names, expression = list(expression_names), attributes.expression
    if change.preset is not None:
        expression = _express(expression, PRESETS[change.preset], True, names, attributes.head)
    expression = _express(expression, change.numbers, change.absolute, names, attributes.head)
    if expression is not attributes.expression:
        changed["expression"] = expression
    azimuth, elevation, strength, fill = (change.numbers.get(name) for name in LAMP)
    lamp = (azimuth, elevation, strength, fill or None)
    light = attributes.light if all(value is None for value in lamp) else direct_light(attributes.light, *lamp)
    light = light if not change.light_warmth else warmed(light, change.light_warmth)
    if light is not attributes.light:
        changed |= {"light": light, "lamp": torch.ones_like(attributes.camera[:, :1])}
    return replace(attributes, **changed) if changed else attributes


def _turn(pose: Tensor, change: Adjustments, tell: Callable[[str], None]) -> Tensor:
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
    for index, name in enumerate(TURNS):
        if name in change.numbers:
            wanted = math.radians(change.numbers[name]) + (0 if change.absolute else angles[:, index])
            angles[:, index] = wanted if change.beyond_limit else _limited(name, angles[:, index], wanted, tell)
    x, y, z = torch.eye(3, dtype=angles.dtype, device=angles.device)
    ry = axis_angle_to_matrix(angles[:, :1] * y)
    rx = axis_angle_to_matrix(-angles[:, 1:2] * x)
    rz = axis_angle_to_matrix(-angles[:, 2:] * z)
    neck = matrix_to_axis_angle(whole.transpose(-1, -2) @ ry @ rx @ rz)
    return torch.cat([pose[:, :1], neck[:, None].to(pose), pose[:, 2:]], dim=1)


def turn_bounds(own: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest angle to which photographs that show a head at their own angles (B,) bear turning it, in radians."""
    limit = math.radians(TURN_LIMIT)
    farthest = own.abs().clamp_min(limit)
    return (own - limit).maximum(-farthest), (own + limit).minimum(farthest)


def _limited(name: str, own: Tensor, wanted: Tensor | float, tell: Callable[[str], None]) -> Tensor:
    """(B,) radians: the wanted angle, as far as a photograph at its own angle can bear it. Turning back towards the viewer is
    limited by the way alone, so a head that stands beyond the limit may stay where it is."""
    wanted = torch.as_tensor(wanted, dtype=own.dtype, device=own.device).expand_as(own)
    borne = wanted.clamp(*turn_bounds(own))
    worst = int((borne - wanted).abs().argmax())
    if (borne - wanted).abs().max() > math.radians(0.05):
        asked, given, now = (math.degrees(float(angle[worst])) for angle in (wanted - own, borne - own, own))
        where = f" in frame {worst}" if len(own) > 1 else ""
        tell(
            f"{name}: turned by {given:.0f} instead of {asked:.0f} degrees{where}: the photograph shows the head at {now:.0f} and bears "
            f"{TURN_LIMIT:g} from there and from facing the viewer; ask for all of it with --beyond-limit (beyond_limit)"
        )
    return borne


def _express(expression: Tensor, numbers: Mapping[str, float], absolute: bool, names: list[str], head: str) -> Tensor:
    """(B,E) -> (B,E), the same object if no number is an expression's. Moving along an axis first takes back what the opposite end
    has, then raises the near end; coefficients stay within 0..1, or where the source has them outside."""
    wanted = {name: value for name, value in numbers.items() if name in EXPRESSION_AXES}
    if not wanted:
        return expression
    expression = expression.clone()

    def columns(end: Mapping[str, float], axis: str) -> list[int]:
        for name in end:
            if name not in names:
                option = EXPRESSION_AXES[axis].option
                raise ConfigError(f"{option}: head model '{head}' has no expression {name}; take the expression from a picture instead")
        return [names.index(name) for name in end]

    if absolute:  # coefficients may belong to several axes, so all are emptied before any is filled
        for name in wanted:
            axis = EXPRESSION_AXES[name]
            expression[:, columns({**axis.positive, **axis.negative}, name)] = 0
    for name, axis in EXPRESSION_AXES.items():
        if name not in wanted:
            continue
        step = abs(wanted[name])
        near, far = (axis.positive, axis.negative) if wanted[name] >= 0 else (axis.negative, axis.positive)
        near_columns, far_columns = columns(near, name), columns(far, name)
        left = torch.full_like(expression[:, :1], step)
        if far and not absolute:
            old = expression[:, far_columns]
            leads = [list(far).index(own) for own in leading(far)]
            left = (step - old[:, leads].clamp_min(0).mean(1, keepdim=True)).clamp_min(0)
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
