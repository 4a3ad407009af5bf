"""Which videos there are: folders person/video/clip.mp4, the clips that FOMM's scripts cut from VoxCeleb, or its list of what to cut.

FOMM's video-preprocessing names its clips PERSON#VIDEO#START#END.mp4 and puts them into folders train and test; its list,
vox-metadata.csv, has the columns video_id, start, end, bbox (left-top-right-bottom), fps, width, height, partition and person_id.
"""

from __future__ import annotations

import csv
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

from ...common.errors import ConfigError
from ...video.reading import SUFFIXES
from .clips import Chunk

log = logging.getLogger(__name__)
FOMM_NAME = re.compile(r"([^#]+)#([^#]+)#(\d+)#(\d+)")
COLUMNS = ("video_id", "start", "end", "bbox", "fps", "width", "height", "partition", "person_id")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Stretch:
    """A row of the list: frames start (inclusive) to end (exclusive) of `rate` frames a second, and a box in pixels of width x height."""

    start: int
    end: int
    box: tuple[int, int, int, int]
    rate: Fraction
    width: int
    height: int

    def chunk(self, width: int, height: int, rate: Fraction) -> Chunk:
        """The stretch in a video of another size and rate, with FOMM's rounding. Its box is made square, which FOMM does not do: it
        squeezes what it cut to a square. Where the square leaves the frame it is pushed inside."""
        scales = (width / self.width, height / self.height) * 2
        left, top, right, bottom = (int(value * scale) for value, scale in zip(self.box, scales, strict=True))
        side = min(max(right - left, bottom - top), width, height)
        x, y = ((low + high - side) // 2 for low, high in ((left, right), (top, bottom)))
        x, y = min(max(x, 0), width - side), min(max(y, 0), height - side)
        start, end = (ceil(frame * rate / self.rate) for frame in (self.start, self.end))
        return Chunk(start, end, (x, y, x + side, y + side))


@dataclass(frozen=True)
class Source:
    """A video to prepare.

    clip       its name, which begins with the person: person/video/clip.mp4
    file       where it lies below the root
    split      "train" or "test" where that is published, or None
    stretches  what is to be cut from it; without any, that is looked for
    """

    clip: str
    file: str
    split: str | None = None
    stretches: tuple[Stretch, ...] = ()


def find_videos(root: Path, metadata: Path | None = None) -> list[Source]:
    """All videos below a folder, by name.

    Args:
        root: The folder.
        metadata: FOMM's list: of its videos those that are there are prepared, in the parts it names; clips that were cut by it already
            get their split from it.

    Raises:
        ConfigError: For another layout, a list that cannot be read, or no videos.
    """
    found = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    files = sorted(path.relative_to(root).as_posix() for path in found)
    if not files:
        raise ConfigError(f"{root}: no videos here ({', '.join(SUFFIXES)}); give the folder that holds person/video/clip.mp4")
    listed = read_metadata(metadata) if metadata is not None else {}
    sources = [one for file in files if (one := _source(root, file, listed, metadata is not None)) is not None]
    if not sources:
        raise ConfigError(f"{root}: none of its videos is in {metadata}; they are named VIDEO_ID.mp4 there")
    if metadata is not None:
        here = {one.clip.split("/")[1] for one in sources}
        log.warning("%d of %d videos of %s are here", len(here & listed.keys()), len(listed), metadata)
    names: dict[str, str] = {}
    for one in sources:
        other = names.setdefault(one.clip.rpartition(".")[0], one.file)
        if other != one.file:
            raise ConfigError(f"{root / one.file}: has the name of {other}; rename one of them")
    return sorted(sources, key=lambda one: one.clip)


def _source(root: Path, file: str, listed: dict[str, Source], from_list: bool) -> Source | None:
    """One file; None for a video that a list leaves out."""
    folder, _, name = file.rpartition("/")
    stem, _, suffix = name.rpartition(".")
    if cut := FOMM_NAME.fullmatch(stem):
        person, video, start, end = cut.groups()
        split = listed[video].split if video in listed else next((part for part in folder.split("/") if part in SPLITS), None)
        return Source(f"{person}/{video}/{start}-{end}.{suffix}", file, split)
    if from_list:
        return Source(listed[stem].clip, file, listed[stem].split, listed[stem].stretches) if stem in listed else None
    if not folder:
        raise ConfigError(f"{root / file}: lies in no person's folder; the layout is person/video/clip.mp4")
    return Source(file, file)


def read_metadata(path: Path) -> dict[str, Source]:
    """FOMM's list: video_id -> a source whose file is unknown. Raises ConfigError."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"--metadata {path}: has no column '{missing[0]}'; give FOMM's vox-metadata.csv")
            for row in reader:
                rows[row["video_id"]].append(row)
        return {video: _listed(video, parts) for video, parts in rows.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--metadata {path}: cannot be read ({error}); give FOMM's vox-metadata.csv") from error
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"--metadata {path}: a row is damaged ({error}); download it again") from error


def _listed(video: str, rows: Sequence[dict[str, str]]) -> Source:
    stretches = []
    for row in rows:
        left, top, right, bottom = map(int, row["bbox"].split("-"))
        width, height = int(row["width"]), int(row["height"])
        if not (left < right and top < bottom and min(width, height) > 0):
            raise ValueError(f"{video}: {row['bbox']} of {width}x{height}")
        stretches.append(Stretch(int(row["start"]), int(row["end"]), (left, top, right, bottom), Fraction(row["fps"]), width, height))
    if rows[0]["partition"] not in SPLITS:
        raise ValueError(f"{video}: partition '{rows[0]['partition']}'")
    stretches.sort(key=lambda one: (one.start, one.end, one.box))
    return Source(f"{rows[0]['person_id']}/{video}/all.mp4", "", rows[0]["partition"], tuple(stretches))
