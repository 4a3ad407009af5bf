"""Rendered people -> the WebDataset shards that `prepare videos` writes, with exact codes in place of estimated ones.

Every person is one clip: the same face, outfit, hair and background in a few poses, expressions and lights. So the steps after it
(`prepare pairs`, `prepare frames`) serve rendered people and videos alike. Person N is the one of seed N, named rendered-N.

Shape letters: B frames, N landmarks (478), S picture side, I identity size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ...common.errors import ConfigError
from ...head.render import render
from ..people.behaviour import load_expressions
from ..prepare.networks import Networks, load_networks
from ..prepare.pairs import exact_landmarks, to_bytes
from ..studio.synthetic import SyntheticPeople
from .prepare_video import PICTURES, encode_picture, one_thread
from .prepare_videos import Split, prepare_all
from .tar_samples import Sample, write_tar

NAME = "rendered-{:06d}/0"  # person/clip; the tar's keys add the chunk and the frame, as those of videos do


@dataclass(frozen=True)
class ClipOptions:
    """What the result depends on. Raises ConfigError for values that cannot work."""

    makehuman: str  # folder of the CC0 assets
    expressions: str | None = None  # .npz with scores of real faces, None draws them all
    photographs: str | None = None  # folder of pictures for backgrounds, None paints them
    size: int = 256  # side of the pictures
    frames: int = 2  # of every person
    picture: str = "png"  # as in VideoOptions
    identity: str | None = None  # a file as for `load_identity`, None for the open network

    def __post_init__(self) -> None:
        if self.picture not in PICTURES:
            raise ConfigError(f"picture: '{self.picture}' is unknown; choose from {', '.join(PICTURES)}")
        if self.size < 32 or self.frames < 2:
            raise ConfigError("clips: size must be at least 32, and frames at least 2, since a pair is two frames of one person")
        if not Path(self.makehuman).is_dir():
            raise ConfigError(f"{self.makehuman}: no such folder; give the one with MakeHuman's assets")

    def describe(self) -> dict[str, Any]:
        """As VideoOptions.describe: files by whether they are used, since they may move."""
        networks = self.networks()
        used = {name: bool(getattr(self, name)) for name in ("expressions", "photographs")}
        values = {name: value for name, value in asdict(self).items() if name != "makehuman"}
        known = {"head": networks.head.name, "identity": networks.identity.name, "fingerprints": networks.fingerprints()}
        return values | used | known | {"codes": "exact"}

    def networks(self) -> Networks:
        return load_networks(identity=self.identity)


@lru_cache(maxsize=1)
def load_people(options: ClipOptions) -> SyntheticPeople:
    """Who is rendered, loaded once per process."""
    head = options.networks().head
    table = load_expressions(options.expressions, head.expression_names) if options.expressions else None
    return SyntheticPeople(options.makehuman, head, expressions=table, photographs=options.photographs)


def prepare_clips(
    output: Path,
    options: ClipOptions,
    split: Split | None = None,
    *,
    people: int = 500,
    seed: int = 0,
    workers: int = 1,
    ray_address: str | None = None,
    shard_samples: int = 1000,
) -> None:
    """Render the people that are not finished yet, then write the shards. Call it again to go on after a kill.

    Args:
        output: Folder of the data set.
        options: What the frames are to be.
        split: Which people are tested on.
        people: How many; more of them in a later call come into further shards.
        seed: Of the first one; the others have the seeds after it.
        workers: As for `prepare_videos`, like the rest.
        ray_address: A Ray cluster in their place.
        shard_samples: About how many frames a shard holds.

    Raises:
        ConfigError: For an output that was begun with other options, missing assets, or a missing Ray.
        CheckpointError: For networks that cannot be read.
    """
    clips = {name: name for number in range(seed, seed + people) if (name := NAME.format(number))}
    described = {"format": "difffae-clips/1"} | options.describe()
    work = partial(prepare_clip, options=options)
    prepare_all(
        clips, work, output.resolve(), described, split or Split(), workers=workers, ray_address=ray_address, shard_samples=shard_samples
    )


def prepare_clip(clip: str, part: Path, options: ClipOptions) -> dict[str, Any]:
    """Render one person.

    Args:
        clip: Its name, as in NAME.
        part: The tar to write.
        options: What the frames are to be.

    Returns:
        Its line of the manifest.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), one_thread():
        count = write_tar(part, clip_samples(clip, options))
    return {"clip": clip, "samples": count}


def clip_samples(clip: str, options: ClipOptions) -> Iterator[Sample]:
    """The frames of a person, keyed clip/chunk/frame, with the files of `prepare_video.frame_files` but for blendshape scores: the
    expression's numbers are exact, and so are landmarks and render. labels.png (grey, 0 face, 1 hair, 2 clothes, 3 background) comes on
    top: which slot became which region is measured on it."""
    networks, people = options.networks(), load_people(options)
    made = people.clip(int(clip.split("/")[0].rpartition("-")[2]), options.frames, options.size)
    face = made.attributes
    landmarks = exact_landmarks(networks.head, face, options.size)
    renders = render(networks.head, face, options.size).image
    numbers = face.tensors() | {"landmarks": landmarks, "identity": networks.identity.embed(made.image, landmarks)}
    for row in range(options.frames):
        yield (
            f"{clip}/000/{row:06d}",
            {
                options.picture: encode_picture(to_bytes(made.image[row]), **PICTURES[options.picture]),
                "render.png": encode_picture(to_bytes(renders[row]), format="PNG"),
                "labels.png": encode_picture(made.labels[row : row + 1], format="PNG"),
                "numbers.safetensors": save({name: values[row].contiguous().float() for name, values in numbers.items()}),
            },
        )
