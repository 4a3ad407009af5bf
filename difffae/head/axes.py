"""What can be set by number: one table, from which Python, the command line, the nodes and the documents take names and ranges.

Imports nothing heavy, so that a command's help is instant.
Left and right in a name are the subject's own. Signed sideways numbers (yaw, gaze_x, jaw_side) are positive to image right,
which is the left of a subject who faces the camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from ..common.errors import ConfigError

GROUPS = ("pose", "eyes", "brows", "mouth", "light")
TURN_LIMIT = 45.0  # degrees: how far from the photograph a head may turn, and how far from facing the viewer, unless asked for
NO_PRESET = "none"
SIDES = ("Left", "Right")
# ARKit's, the finest numbers of an expression; Python, the command line and JSON take them by these names
_SIDED = (
    "browDown browOuterUp cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide jaw mouth mouthDimple "
    "mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch mouthUpperUp noseSneer"
)
_MIDDLE = (
    "browInnerUp cheekPuff jawForward jawOpen mouthClose mouthFunnel mouthPucker mouthRollLower mouthRollUpper mouthShrugLower "
    "mouthShrugUpper tongueOut"
)
COEFFICIENTS: tuple[str, ...] = tuple(sorted([*_MIDDLE.split(), *(name + side for name in _SIDED.split() for side in SIDES)]))


@dataclass(frozen=True)
class Axis:
    """One number.

    name        the same in Python, in nodes, in JSON and, with hyphens, on the command line
    group       one of GROUPS
    text        what it does, in one line or two
    low, high   its range: degrees, or shares of a strong natural expression
    degrees     whether it is an angle
    positive    the ARKit coefficients that 1 raises, with their weights; empty for what is no expression
    negative    those that -1 raises; without any, -1 only takes back what `positive` names
    default     what the node shows at first
    """

    name: str
    group: str
    text: str
    low: float = -1.0
    high: float = 1.0
    degrees: bool = False
    positive: Mapping[str, float] = field(default_factory=dict)
    negative: Mapping[str, float] = field(default_factory=dict)
    default: float = 0.0

    @property
    def option(self) -> str:
        """Its name on the command line, without the dashes before it."""
        return self.name.replace("_", "-")


def leading(weights: Mapping[str, float]) -> list[str]:
    """The coefficients that an end of an axis is about; the others only accompany them, as cheeks do a smile."""
    return [name for name, weight in weights.items() if weight == max(weights.values())]


def _both(**weights: float) -> dict[str, float]:
    """Weights of coefficients of both sides."""
    return {name + side: weight for name, weight in weights.items() for side in SIDES}


def _each(name: str, group: str, text: str, positive: Mapping[str, float], negative: Mapping[str, float]) -> list[Axis]:
    """An axis for the subject's left and one for the right; {} in texts and in names of coefficients is the side."""

    def of(weights: Mapping[str, float], side: str) -> dict[str, float]:
        return {coefficient.format(side): weight for coefficient, weight in weights.items()}

    return [
        Axis(f"{name}_{side.lower()}", group, text.format(side.lower()), positive=of(positive, side), negative=of(negative, side))
        for side in SIDES
    ]


AXES: tuple[Axis, ...] = (
    Axis("yaw", "pose", "Degrees the head turns, positive to the right of the image. Beyond 30 much must be invented.", -90, 90, True),
    Axis("pitch", "pose", "Degrees, positive lifts the chin.", -90, 90, True),
    Axis("roll", "pose", "Degrees, positive tilts the head clockwise in the image.", -90, 90, True),
    Axis("blink", "eyes", "Up closes the eyes, down opens them wide.", positive=_both(eyeBlink=1), negative=_both(eyeWide=1)),
    *_each(
        "wink",
        "eyes",
        "Up winks with the subject's own {} eye, down opens it wide.",
        {"eyeBlink{}": 1, "cheekSquint{}": 0.4, "eyeSquint{}": 0.5, "mouthSmile{}": 0.25},
        {"eyeWide{}": 1},
    ),
    Axis("squint", "eyes", "Up narrows the eyes, down takes that back.", positive=_both(eyeSquint=1, cheekSquint=0.35, eyeBlink=0.14)),
    Axis(
        "gaze_x",
        "eyes",
        "Positive turns the eyes to the right of the image, negative to the left.",
        positive={"eyeLookOutLeft": 1, "eyeLookInRight": 1},
        negative={"eyeLookInLeft": 1, "eyeLookOutRight": 1},
    ),
    Axis("gaze_y", "eyes", "Positive turns the eyes up, negative down.", positive=_both(eyeLookUp=1), negative=_both(eyeLookDown=1)),
    Axis(
        "brow_up",
        "brows",
        "Up raises the brows, down knits them.",
        positive={"browInnerUp": 1} | _both(browOuterUp=1),
        negative=_both(browDown=1),
    ),
    *_each(
        "brow",
        "brows",
        "Up raises the subject's own {} brow, down lowers it.",
        {"browOuterUp{}": 1, "browInnerUp": 0.4},
        {"browDown{}": 1},
    ),
    # what comes along with a smile that is meant: cheeks, lower lids, the upper lip
    Axis(
        "smile",
        "mouth",
        "Up is a smile, down a frown.",
        positive=_both(mouthSmile=1, mouthDimple=0.5, cheekSquint=0.4, eyeSquint=0.25, mouthUpperUp=0.15),
        negative=_both(mouthFrown=1),
    ),
    *_each(
        "smile",
        "mouth",
        "Up raises the corner of the mouth on the subject's own {}, down lowers it.",
        {"mouthSmile{}": 1, "cheekSquint{}": 0.4},
        {"mouthFrown{}": 1},
    ),
    Axis(
        "grin",
        "mouth",
        "Up is a smile that shows teeth, down takes that back. Teeth that the photograph does not show are invented.",
        positive=_both(mouthSmile=1, mouthUpperUp=0.8, mouthLowerDown=0.7, cheekSquint=0.4),
    ),
    Axis("jaw_open", "mouth", "Up opens the mouth. What is inside is invented.", positive={"jawOpen": 1}),
    Axis(
        "jaw_side",
        "mouth",
        "Positive moves the jaw to the right of the image, negative to the left.",
        positive={"jawLeft": 0.8, "mouthLeft": 0.3},
        negative={"jawRight": 0.8, "mouthRight": 0.3},
    ),
    Axis("pout", "mouth", "Up purses the lips as for a kiss, down takes that back.", positive={"mouthPucker": 1, "mouthShrugLower": 0.3}),
    Axis(
        "funnel",
        "mouth",
        "Up rounds and opens the lips as for oh, down takes that back.",
        positive={"mouthFunnel": 0.8, "mouthPucker": 0.3},
    ),
    Axis(
        "wide",
        "mouth",
        "Up draws the lips apart to the sides as for ee, down takes that back.",
        positive=_both(mouthStretch=0.8, mouthLowerDown=0.5, mouthUpperUp=0.3, mouthSmile=0.25),
    ),
    Axis("cheek_puff", "mouth", "Up fills the cheeks with air, down takes that back.", positive={"cheekPuff": 1}),
    Axis("light_azimuth", "light", "Degrees: 0 from the viewer, positive from the right of the image.", -180, 180, True, default=45),
    Axis("light_elevation", "light", "Degrees, positive from above.", -90, 90, True, default=20),
    Axis("light_strength", "light", "0 is flat, 1 comes from one side only. Brightness and colour stay.", 0, default=0.6),
    Axis("light_fill", "light", "How far a second lamp at the viewer fills the shadows of the first; at 1 only that is left.", 0),
    Axis("light_warmth", "light", "Up is warmer, as candles, down is colder, as shade under a blue sky."),
)
AXIS: Mapping[str, Axis] = {axis.name: axis for axis in AXES}
EXPRESSION_AXES: Mapping[str, Axis] = {axis.name: axis for axis in AXES if axis.positive} | {
    name: Axis(name, "advanced", f"ARKit's {name}.", positive={name: 1.0}) for name in COEFFICIENTS
}

# Expressions by name. What a preset names is set, whatever the face's own expression; what it does not name is left alone. A smile
# or grin of 0 takes the face's own smile and parted lips away.
PRESETS: Mapping[str, Mapping[str, float]] = {
    "neutral": {axis.name: 0.0 for axis in AXES if axis.positive},
    "smile": {"smile": 0.6, "jaw_open": 0},
    "grin": {"grin": 0.9, "jaw_open": 0.05, "eyeSquintLeft": 0.4, "eyeSquintRight": 0.4},
    "laugh": {"grin": 0.8, "jaw_open": 0.5, "blink": 0.25, "brow_up": 0.2},
    "surprised": {"smile": 0, "grin": 0, "jaw_open": 0.5, "blink": -0.8, "brow_up": 1},
    "sad": {"smile": -0.7, "grin": 0, "jaw_open": 0, "brow_up": 0, "browInnerUp": 0.8, "gaze_y": -0.35},
    "angry": {"smile": -0.4, "grin": 0, "jaw_open": 0, "blink": -0.2, "brow_up": -1, "noseSneerLeft": 0.4, "noseSneerRight": 0.4},
    "wink": {"smile": 0.4, "grin": 0, "jaw_open": 0, "wink_left": 1},
    "kiss": {"smile": 0, "grin": 0, "jaw_open": 0, "pout": 1, "blink": 0.3},
    "closed": {"blink": 1},
    "sleepy": {"blink": 0.4, "brow_up": 0.3, "gaze_y": -0.3, "jaw_open": 0.05},
}


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ConfigError that says which names are unknown, and what may have been meant.

    Args:
        what: what the message calls the place where the names stood.
        names: those to check.
        known: all that there are.
    """
    known = list(known)
    for name in names:
        if name not in known:
            lower = {other.lower().replace("-", "_"): other for other in known}
            near = [lower[match] for match in get_close_matches(str(name).lower().replace("-", "_"), lower, 4, 0.55)]
            meant = f"did you mean {', '.join(near)}?" if near else f"choose from {', '.join(known)}"
            raise ConfigError(f"{what}: '{name}' is unknown; {meant}")
