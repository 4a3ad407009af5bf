"""Groups of portraits that a table is split by: how people look, labelled by eye; of rendered people, exactly."""

from __future__ import annotations

import csv
import math
from importlib import resources
from pathlib import Path

from ...common.errors import ConfigError

BUNDLED = "portraits-dev-groups.csv"
TONE = "skin tone"
# Of rendered skin: individual typology angle in degrees (Chardon et al. 1991), its six classes in three bands: very light and light;
# intermediate and tan; brown and dark
TONES = (("light", 41.0), ("medium", 10.0), ("dark", -math.inf))


def read_groups(path: Path | None = None) -> dict[str, dict[str, str]]:
    """File name -> column -> label, of a CSV with a column `file` and any others; lines that begin with # are comments. None reads the
    labels of the dev portraits. Raises ConfigError."""
    try:
        text = resources.files("difffae.lab").joinpath(BUNDLED).read_text() if path is None else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a CSV with a column 'file'") from error
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    if "file" not in (reader.fieldnames or ()):
        raise ConfigError(f"{path or BUNDLED}: no column 'file'; the first line must name the columns, such as file,presented,age")
    return {row["file"]: {name.replace("_", " "): value for name, value in row.items() if name != "file"} for row in reader}


def tone_band(angle: float) -> str:
    """Name of the band of TONES that a typology angle in degrees lies in."""
    return next(name for name, least in TONES if angle > least)
