"""Groups of portraits that a table is split by: how people look (labelled by eye), and their skin's tone (measured)."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor

from ..errors import ConfigError
from ..fields import gaussian_blur
from .skin_points import LEFT, RIGHT

BUNDLED = "portraits-dev-groups.csv"
TONE = "skin tone"
# Individual typology angle in degrees (Chardon et al. 1991), six classes in three bands: very light and light; intermediate and tan;
# brown and dark
TONES = (("light", 41.0), ("medium", 10.0), ("dark", -math.inf))
LEAST_CHROMA = 4.0  # of the skin's median in Lab: below, a picture has no colour and no angle


def read_groups(path: Path | None = None) -> dict[str, dict[str, str]]:
    """File name -> column -> label, of a CSV with a column `file` and any others; lines that begin with # are comments. None reads the
    labels of the dev portraits. Raises ConfigError."""
    try:
        text = resources.files("difffae.data").joinpath(BUNDLED).read_text() if path is None else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a CSV with a column 'file'") from error
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    if "file" not in (reader.fieldnames or ()):
        raise ConfigError(f"{path or BUNDLED}: no column 'file'; the first line must name the columns, such as file,presented,age")
    return {row["file"]: {name.replace("_", " "): value for name, value in row.items() if name != "file"} for row in reader}


def typology_angle(picture: Tensor, landmarks: Tensor) -> float | None:
    """ITA = atan((L* - 50) / b*) in degrees of the median colour at the landmarks on bare skin: about 60 for the lightest, -60 for the
    darkest skin. It sees the photograph, so dim or coloured light moves it. None for a picture without colour.

    picture (1,3,H,W) in 0..1, landmarks (1,478,>=2) in its pixels.
    """
    height, width = picture.shape[-2:]
    points = landmarks[:, [*LEFT, *RIGHT], :2] / landmarks.new_tensor([width, height]) * 2 - 1
    smooth = gaussian_blur(picture, max(0.5, 0.005 * height))
    colours = F.grid_sample(smooth, points[:, None].to(smooth.dtype), padding_mode="border", align_corners=False)
    light, a, b = rgb_to_lab(colours)[0, :, 0].median(dim=-1).values.tolist()
    return math.degrees(math.atan2(light - 50, b)) if math.hypot(a, b) > LEAST_CHROMA else None


def tone_band(angle: float | None) -> str:
    """Name of the band of TONES that an angle lies in."""
    return "no colour" if angle is None else next(name for name, least in TONES if angle > least)


def count(groups: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many of these pictures every label has: column -> label -> count, labels in alphabetical order."""
    found: dict[str, dict[str, int]] = {}
    for labels in groups.values():
        for column, label in labels.items():
            column_counts = found.setdefault(column, {})
            column_counts[label] = column_counts.get(label, 0) + 1
    return {column: dict(sorted(counts.items())) for column, counts in found.items()}
