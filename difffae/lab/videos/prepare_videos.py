"""A folder of talking-head videos -> WebDataset shards of frames, split by identity (paper section 5.1).

Files of the output folder:

    dataset.json         what the data set was made with; a run with other options is refused
    manifest.jsonl       one line per finished video; errors.jsonl: one per broken video
    train/, test/        shards NNNNNN.tar; shards.jsonl: one line per shard with its videos
    parts/               one tar per finished video while the run lasts

A video is finished when its part is complete and its line is in the manifest. When no video is left, the parts of each split are joined
into shards in the order of their names. So the result depends on the videos and the options alone, not on the number of workers, where
they ran, or how often they were killed. Videos that are added later come into further shards.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tqdm import tqdm

from ...common.files import remove_leftovers
from ...video.pool import CRASHED, import_ray, run_tasks
from ...video.reading import import_av
from ..prepare.json_lines import Journal, claim
from .prepare_video import VideoOptions, prepare_video
from .sources import SPLITS, find_videos
from .tar_samples import Sample, read_tar, write_tar

Clip = TypeVar("Clip")


@dataclass(frozen=True)
class Split:
    """Which identities are tested on: those of a list, or that share of all which the hash of their names chooses. Single clips may have
    a split that somebody published."""

    share: float = 0.2
    listed: frozenset[str] | None = None
    published: Mapping[str, str] = field(default_factory=dict)

    def of_clip(self, clip: str) -> str:
        """The split of a clip, whose name begins with the person's."""
        return self.published.get(clip) or self.of(clip.split("/")[0])

    def of(self, identity: str) -> str:
        """The split of a person, "train" or "test"."""
        if self.listed is not None:
            return "test" if identity in self.listed else "train"
        place = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
        return "test" if place < self.share else "train"

    def describe(self) -> dict[str, Any]:
        return {"share": self.share} if self.listed is None else {"listed": sorted(self.listed)}


def prepare_videos(
    root: Path,
    output: Path,
    options: VideoOptions | None = None,
    split: Split | None = None,
    metadata: Path | None = None,
    *,
    workers: int = 1,
    ray_address: str | None = None,
    shard_samples: int = 1000,
) -> None:
    """Prepare all videos below `root` that are not finished yet, then write the shards. Call it again to go on after a kill.

    Args:
        root: Folders person/video/clip.mp4, or what FOMM's scripts cut or are to cut (`sources`).
        output: Folder of the data set.
        options: What the frames are to be.
        split: Which persons are tested on.
        metadata: FOMM's list of what to cut from which video, vox-metadata.csv.
        workers: Local processes.
        ray_address: A Ray cluster in their place, all of whose machines see both folders under the same paths.
        shard_samples: A shard is closed at the first video that brings it to so many frames.

    Raises:
        ConfigError: For another layout, an output that was begun with other options, or a missing PyAV or Ray.
        CheckpointError: For networks that cannot be read.
    """
    import_av()
    options, split = options or VideoOptions(), split or Split()
    root, output = root.resolve(), output.resolve()
    sources = {source.clip: source for source in find_videos(root, metadata)}
    published = {} if split.listed is not None else {clip: source.split for clip, source in sources.items() if source.split is not None}
    split = replace(split, published=published)
    described = {"format": "difffae-videos/2"} | options.describe() | ({"metadata": metadata.name} if metadata is not None else {})
    work = partial(prepare_video, root, options=options)
    prepare_all(sources, work, output, described, split, workers=workers, ray_address=ray_address, shard_samples=shard_samples)


def prepare_all(
    clips: Mapping[str, Clip],
    work: Callable[[Clip, Path], dict[str, Any]],
    output: Path,
    described: dict[str, Any],
    split: Split,
    *,
    workers: int = 1,
    ray_address: str | None = None,
    shard_samples: int = 1000,
) -> None:
    """Do `work` for every clip that is not finished yet, then write the shards of both splits.

    Args:
        clips: Names that begin with the person's folder -> what `work` is told of each.
        work: That and the tar to write -> its line of the manifest, with "samples" or with "error".
        output: Folder of the data set.
        described: What the data set is made with.
        split: Which persons are tested on.
        workers: As for `prepare_videos`, like the rest.
        ray_address: A Ray cluster in their place.
        shard_samples: About how many frames a shard holds.

    Raises:
        ConfigError: For an output that was begun with other options, or a missing Ray.
    """
    if ray_address is not None:
        import_ray()
    claim(output, described | {"split": split.describe(), "shard_samples": shard_samples})
    manifest, errors = Journal(output / "manifest.jsonl", "clip"), Journal(output / "errors.jsonl", "clip")
    remove_leftovers(output)
    tasks = [item for item in clips.items() if item[0] not in manifest.rows and item[0] not in errors.rows]
    with tqdm(total=len(clips), initial=len(clips) - len(tasks), desc="clips", unit="clip") as bar:
        for (clip, _), result in run_tasks(partial(_prepare, work=work, output=output), tasks, workers, ray_address):
            record = {"clip": clip, "error": CRASHED} if result is None else result
            if "error" in record:
                errors.append(record)
            else:
                manifest.append({"clip": clip, "split": split.of_clip(clip)} | record)
            bar.set_postfix(broken=len(errors.rows), refresh=False)
            bar.update()
    manifest.sort()
    errors.sort()
    for name in SPLITS:
        _join(output, name, [row for row in manifest.rows.values() if row["split"] == name and row["samples"]], shard_samples)
    shutil.rmtree(output / "parts", ignore_errors=True)


def _prepare(task: tuple[str, Clip], work: Callable[[Clip, Path], dict[str, Any]], output: Path) -> dict[str, Any]:
    return work(task[1], _part(output, task[0]))


def _part(output: Path, clip: str) -> Path:
    # rendered clips are no files, so their names have no suffix
    return output / "parts" / f"{PurePosixPath(clip).with_suffix('')}.tar"


def _join(output: Path, split: str, rows: list[dict[str, Any]], shard_samples: int) -> None:
    """Join the parts of all videos that are in no shard yet."""
    folder = output / split
    folder.mkdir(exist_ok=True)
    shards = Journal(folder / "shards.jsonl", "shard")
    joined = {clip for row in shards.rows.values() for clip in row["clips"]}
    waiting = []
    for row in rows:
        if row["clip"] in joined:
            # killed after the shard was noted and before its parts were removed
            _part(output, row["clip"]).unlink(missing_ok=True)
        else:
            waiting.append(row)
    for group in _groups(waiting, shard_samples):
        name = f"{len(shards.rows):06d}.tar"
        clips = [row["clip"] for row in group]
        count = write_tar(folder / name, _samples(output, clips))
        shards.append({"shard": name, "samples": count, "clips": clips})
        for clip in clips:
            _part(output, clip).unlink()


def _groups(rows: Iterable[dict[str, Any]], samples: int) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if sum(row["samples"] for row in group) >= samples:
            yield group
            group = []
    if group:
        yield group


def _samples(output: Path, clips: Iterable[str]) -> Iterator[Sample]:
    for clip in clips:
        yield from read_tar(_part(output, clip))
