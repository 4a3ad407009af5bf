"""Random poses, glances, speech and emotions of synthetic people.

Shape letters: B faces, E expressions, N rows of a table of expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...common.rotations import from_yaw_pitch_roll

MAX_TURN = (60.0, 25.0, 20.0)  # degrees of yaw, pitch, roll
TURN_SPREAD = (17.0, 8.0, 6.0)
FAR_TURNS = 0.35  # share of faces whose yaw is uniform up to MAX_TURN
BOTH = ("Left", "Right")
OFTEN = (0.25, 0.2, 0.15, 0.1, 0.08, 0.12, 0.1)  # of EMOTIONS, in their order
# mouth shapes of speech and the action units of emotions (Ekman) as ARKit weights; a name without a side means both sides
SPEECH: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.5, "mouthLowerDown": 0.3, "mouthUpperUp": 0.35},  # ah
    {"jawOpen": 0.3, "mouthStretch": 0.3, "mouthLowerDown": 0.35, "mouthUpperUp": 0.35},  # eh
    {"jawOpen": 0.14, "mouthSmile": 0.35, "mouthStretch": 0.3, "mouthLowerDown": 0.5, "mouthUpperUp": 0.4},  # ee, s: teeth
    {"jawOpen": 0.35, "mouthFunnel": 0.6},  # oh
    {"jawOpen": 0.12, "mouthPucker": 0.75, "mouthFunnel": 0.25},  # oo
    {"mouthRollLower": 0.45, "mouthUpperUp": 0.35, "jawOpen": 0.06},  # f, v
    {"mouthPress": 0.4, "mouthRollLower": 0.25, "mouthRollUpper": 0.25},  # m, b, p
    {"jawOpen": 0.22, "mouthUpperUp": 0.25, "mouthLowerDown": 0.35, "tongueOut": 0.12},  # th, l
)
EMOTIONS: tuple[dict[str, float], ...] = (
    {"mouthSmile": 0.85, "cheekSquint": 0.5, "eyeSquint": 0.4, "mouthUpperUp": 0.55, "mouthLowerDown": 0.25, "jawOpen": 0.12},  # joy
    {"mouthSmile": 0.9, "cheekSquint": 0.6, "eyeSquint": 0.6, "jawOpen": 0.45, "mouthUpperUp": 0.6, "mouthLowerDown": 0.35},  # laughter
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.8, "jawOpen": 0.5},  # surprise
    {"browDown": 0.9, "eyeSquint": 0.3, "noseSneer": 0.3, "mouthPress": 0.5, "mouthFrown": 0.3},  # anger
    {"browDown": 0.6, "noseSneer": 0.7, "mouthUpperUp": 0.5, "mouthFrown": 0.4, "cheekSquint": 0.4, "eyeSquint": 0.4},  # disgust
    {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.5, "eyeLookDown": 0.3},  # sadness
    {"browInnerUp": 0.8, "browOuterUp": 0.4, "eyeWide": 0.8, "mouthStretch": 0.7, "jawOpen": 0.25, "mouthLowerDown": 0.4},  # fear
)


def poses(rng: np.random.Generator, count: int) -> Tensor:
    """(B,5,3): the head turns at the neck joint (row 1), as the open estimator reports it; shoulders stay."""
    out = torch.zeros(count, 5, 3)
    for row in out:
        yaw, pitch, roll = (float(np.clip(rng.normal(0, s), -m, m)) for s, m in zip(TURN_SPREAD, MAX_TURN, strict=True))
        if rng.random() < FAR_TURNS:
            yaw = float(rng.uniform(-MAX_TURN[0], MAX_TURN[0]))
        row[1] = from_yaw_pitch_roll(yaw, pitch, roll)
    return out


def load_expressions(path: str | Path, names: Sequence[str]) -> Tensor:
    """Scores of real faces from an .npz with blendshapes (N,52) and blendshape_names, in the order of `names` -> (N,E)."""
    table = np.load(path)
    column = {str(name): k for k, name in enumerate(table["blendshape_names"])}
    scores = table["blendshapes"].astype(np.float32)
    return torch.from_numpy(np.stack([scores[:, column[n]] if n in column else np.zeros(len(scores), np.float32) for n in names], 1))


def weights(shape: dict[str, float], names: Sequence[str], rng: np.random.Generator, strength: float) -> Tensor:
    """(E,) of one mouth shape or emotion, its parts jittered by 15 % and its sides by 8 %."""
    place = {name: k for k, name in enumerate(names)}
    out = torch.zeros(len(names))
    for stem, value in shape.items():
        value *= strength * rng.uniform(0.85, 1.15)
        for name in (stem, *(stem + side for side in BOTH)):
            if name in place:
                out[place[name]] = value * rng.uniform(0.92, 1.08)
    return out


def gaze(rng: np.random.Generator, names: Sequence[str]) -> Tensor:
    """(E,): both eyes look one way, the lids with them."""
    place = {name: k for k, name in enumerate(names)}
    out = torch.zeros(len(names))
    x, y = np.clip(rng.normal(0, 0.4), -0.9, 0.9), np.clip(rng.normal(0, 0.25), -0.6, 0.6)
    sideways = ("eyeLookOutLeft", "eyeLookInRight") if x > 0 else ("eyeLookInLeft", "eyeLookOutRight")
    up = [f"eyeLook{'Up' if y > 0 else 'Down'}{side}" for side in BOTH]
    for name, value in (*((n, abs(x)) for n in sideways), *((n, abs(y)) for n in up)):
        if name in place:
            out[place[name]] = float(value)
    return out


def expressions(rng: np.random.Generator, count: int, names: Sequence[str], table: Tensor | None) -> Tensor:
    """(B,E) in 0..1: a row of a table (N,E) of real scores, somewhat exaggerated, and now and then speech, an emotion, a glance, a blink.

    Without a table the first part is left out. A part replaces what the row says of the same units where it says less."""
    gazes = torch.tensor([name.startswith("eyeLook") for name in names])
    blinks = torch.tensor([name.startswith("eyeBlink") for name in names])
    # a landmarker sees some squint and frown in every calm face: half of what the median face shows is taken off
    upper = torch.tensor([name.startswith(("eyeSquint", "brow", "eyeBlink")) for name in names])
    calm = torch.zeros(len(names)) if table is None else table.median(0).values * 0.5 * upper
    mouth = torch.tensor([name.startswith(("mouth", "jaw")) for name in names])
    out = torch.zeros(count, len(names))
    for row in out:
        if table is not None:
            row += (table[rng.integers(len(table))] - calm).clamp_min(0) * float(rng.uniform(0.8, 1.3))
        often = 1.0 if table is not None else 2.0
        if rng.random() < 0.25 * often:
            spoken = weights(SPEECH[rng.integers(len(SPEECH))], names, rng, float(rng.uniform(0.5, 1.1)))
            row[mouth] = torch.maximum(row * 0.5, spoken)[mouth]
        if rng.random() < 0.3 * often:
            felt = weights(EMOTIONS[rng.choice(len(EMOTIONS), p=OFTEN)], names, rng, float(rng.uniform(0.4, 1.1)))
            row.copy_(torch.maximum(row * 0.6, felt))
        if rng.random() < 0.3:
            row[gazes] = gaze(rng, names)[gazes]
        if rng.random() < 0.08:
            row[blinks] = float(rng.uniform(0.4, 1.0))
        row += torch.from_numpy(rng.normal(0, 0.015, len(names)).clip(0)).float()
    return out.clamp(0, 1)
