"""Folders of clips: every clip is a piece of work by itself, in local processes or on a Ray cluster, which give the same files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..common.errors import ConfigError, DiffFAEError, VideoError
from ..common.files import atomic_write
from ..edit.recipe import file_sha256
from .pool import CRASHED, run_tasks
from .reading import is_video
from .work import Work
from .writing import CODECS

log = logging.getLogger(__name__)

Job = Callable[[str, str], None]  # makes a video (second name) of a clip (first name); must pickle
Task = tuple[str, str, int]  # clip, video, and threads


def clips_in(folder: str | Path) -> list[Path]:
    """The clips of a folder by name, without those of folders in it. Raises ConfigError where there is none."""
    found = sorted(path for path in Path(folder).iterdir() if path.is_file() and is_video(path))
    if not found:
        raise ConfigError(f"{folder}: holds no clip; give a folder with files such as .mp4 or .mov")
    return found


def videos_of(clips: Sequence[Path], output: str | Path) -> list[Path]:
    """What the videos that are made of clips are called: as the clips, in another folder.

    Raises:
        ConfigError: two would have one name, or the folder is the clips' own or none.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; give a folder for the clips of {clips[0].parent}")
    if output.exists() and any(output.samefile(clip.parent) for clip in clips):
        raise ConfigError(f"{output}: holds the clips themselves, which would be overwritten; choose another folder")
    names = [clip.name if clip.suffix.lower() in CODECS else f"{clip.stem}.mp4" for clip in clips]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{output / name}: two clips of {clips[0].parent} would give this file; rename one")
    return [output / name for name in names]


def for_each_clip(
    job: Job,
    folder: str | Path,
    output: str | Path,
    description: dict[str, Any],
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make a video of every clip in a folder. What is finished is kept in mind until all are, so that a run that was killed goes on where
    it was; clips that cannot be done are told of and left out.

    Args:
        job: makes one.
        folder: of the clips.
        output: folder of the videos; made if it is missing.
        description: everything that the videos depend on beside the clips, as plain JSON values.
        workers: local processes; None is one per core.
        ray_address: as for ray.init, in their place; clips and videos must have the same names on all of its machines.
        progress: told how many clips are done.

    Returns:
        the videos.

    Raises:
        VideoError: some could not be made, after all others were. ConfigError: as `clips_in`, `videos_of`, `run_tasks`.
    """
    clips = clips_in(folder)
    videos = videos_of(clips, output)
    Path(output).mkdir(parents=True, exist_ok=True)
    work = Work(Path(output).resolve() / "clips", description)
    hashes = {str(clip.resolve()): file_sha256(clip) for clip in clips}
    whole = {str(clip.resolve()): video.resolve() for clip, video in zip(clips, videos, strict=True)}
    rest = [clip for clip, video in whole.items() if not (video.is_file() and _told(work, video) == hashes[clip])]
    cores = os.cpu_count() or 1
    count = max(1, min(workers or cores, len(rest)))
    # a few clips have several cores each: videos do not depend on it
    tasks: list[Task] = [(clip, str(whole[clip]), 1 if ray_address else max(1, cores // count)) for clip in rest]
    failed = 0
    for done, (task, record) in enumerate(run_tasks(partial(_make, job), tasks, count, ray_address), len(clips) - len(rest) + 1):
        error = CRASHED if record is None else record.get("error")
        if error is None:
            with atomic_write(_note(work, Path(task[1]))) as temporary:
                temporary.write_text(hashes[task[0]], encoding="utf-8")
        else:
            failed += 1
            log.warning("%s", error if task[0] in error else f"{task[0]}: {error}")
        if progress is not None:
            progress(done, len(clips))
    if failed:
        raise VideoError(f"{folder}: {failed} of {len(clips)} clips could not be done; the others are in {output}")
    work.remove()
    return videos


def _make(job: Job, task: Task) -> dict[str, Any]:
    """Do one clip, in a process of its own or this one; what is wrong with it becomes a record."""
    clip, video, threads = task
    torch.set_num_threads(threads)
    try:
        job(clip, video)
    except DiffFAEError as error:
        return {"error": str(error)}
    return {}


def _note(work: Work, video: Path) -> Path:
    return work.folder / f"{video.name}.done"


def _told(work: Work, video: Path) -> str | None:
    """The hash of the clip of which a finished video was made."""
    note = _note(work, video)
    return note.read_text(encoding="utf-8") if note.is_file() else None
