"""One video of a talking face -> one tar of frames, renders and numbers; the work of every worker of `prepare videos`.

Shape letters: B frames of one pass, N landmarks (478), H and W frame height and width, S crop side.

The video is decoded twice: once to find the face in every frame, once to cut the frames of its chunks out. So memory holds a few frames
only, however long it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from ...common.errors import ConfigError, VideoError
from ...estimation.choose import estimate
from ...faces.landmarker import FaceLandmarker
from ...head.render import render
from ...video.reading import Clip, read_frames
from ..prepare.networks import Networks, load_networks
from ..prepare.pairs import to_bytes
from ..prepare.portraits import read_picture
from .clips import Box, Chunk, ClipRules, find_chunks, nearest_box
from .resizing import resize
from .sources import Source, Stretch
from .tar_samples import Sample, write_tar

BATCH = 8  # frames per pass; part of the result, since sums of another batch end in other last bits
PICTURES: dict[str, dict[str, Any]] = {"jpg": {"format": "JPEG", "quality": 95, "subsampling": 0}, "png": {"format": "PNG"}}


@dataclass(frozen=True)
class VideoOptions:
    """What the result depends on. Raises ConfigError for values that cannot work."""

    size: int = 256  # side of the pictures
    every: int = 1  # of how many frames of a chunk one is kept
    picture: str = "jpg"  # of quality 95, or "png"
    rules: ClipRules = field(default_factory=ClipRules)
    head: str | None = None  # files as for `load_estimator` and `load_identity`, None for the open ones
    deca: str | None = None
    identity: str | None = None

    def __post_init__(self) -> None:
        if self.picture not in PICTURES:
            raise ConfigError(f"picture: '{self.picture}' is unknown; choose from {', '.join(PICTURES)}")
        if self.size < 32 or self.every < 1 or not 1 <= self.rules.min_frames <= self.rules.max_frames:
            raise ConfigError("videos: size must be at least 32, every at least 1, and min-frames between 1 and max-frames")

    def describe(self) -> dict[str, Any]:
        """Everything that must not change within one data set, as JSON; networks by their names and contents, since files may move."""
        networks = self.networks()
        values = asdict(self) | {"head": networks.estimator.head.name, "identity": networks.identity.name}
        values["fingerprints"] = networks.fingerprints()
        return values | {"deca": self.deca is not None, "detail": networks.estimator.surface is not None}

    def networks(self) -> Networks:
        return load_networks(self.head, self.deca, self.identity)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: workers share the cores, and sums of another number of threads end in other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def prepare_video(root: Path, source: Source, part: Path, options: VideoOptions) -> dict[str, Any]:
    """Prepare the video of a source below `root` into the tar `part`; returns its line of the manifest, or {"clip", "error"} for a broken
    video.

    A video without a chunk gives no tar and zero samples.
    """
    path, clip = root / source.file, source.clip
    with torch.no_grad(), one_thread():
        try:
            landmarker, dropped = options.networks().landmarker, dict[str, int]()
            if source.stretches:
                chunks, tracks = follow_stretches(path, source.stretches, landmarker)
            else:
                track = follow_face(path, landmarker)
                chunks, dropped = find_chunks(track.boxes, track.height, track.width, options.rules)
                tracks = [track] * len(chunks)
            count = 0
            if chunks:
                part.parent.mkdir(parents=True, exist_ok=True)
                count = write_tar(part, chunk_samples(path, clip, tracks, chunks, options))
        except VideoError as error:
            return {"clip": clip, "error": str(error).removeprefix(f"{path}: ")}
    places = [{"start": chunk.start, "end": chunk.end, "box": list(chunk.box)} for chunk in chunks]
    frames = sum(chunk.end - chunk.start for chunk in chunks) if source.stretches else len(track.boxes)
    return {"clip": clip, "frames": frames, "samples": count, "chunks": places, "dropped": dropped}


@dataclass(frozen=True)
class FaceTrack:
    """The face of every frame of a video."""

    height: int
    width: int
    boxes: list[Box | None]  # None where there is none
    landmarks: dict[int, Tensor]  # frame -> (N,3) in its pixels
    blendshapes: dict[int, Tensor]  # frame -> (52,)


def follow_face(path: Path, landmarker: FaceLandmarker) -> FaceTrack:
    """The largest face of the first frame that has one, then the one whose box overlaps the previous box most."""
    boxes: list[Box | None] = []
    landmarks, blendshapes = {}, {}
    last: Box | None = None
    height = width = 0
    frames = _frames(path)
    while batch := list(islice(frames, BATCH)):
        height, width = batch[0].shape[:2]
        for faces in landmarker.detect(_images(batch)):
            # as in FOMM, a box that leaves the frame ends at its left and top edge
            found: list[Box] = [tuple(face.box.clamp_min(0).tolist()) for face in faces]  # type: ignore[misc]
            if found:
                chosen = nearest_box(found, last)
                last = found[chosen]
                landmarks[len(boxes)], blendshapes[len(boxes)] = faces[chosen].landmarks, faces[chosen].blendshapes
            boxes.append(last if found else None)
    return FaceTrack(height, width, boxes, landmarks, blendshapes)


def follow_stretches(path: Path, stretches: Sequence[Stretch], landmarker: FaceLandmarker) -> tuple[list[Chunk], list[FaceTrack]]:
    """The chunks that a list names, those that begin after the video's end left out, and for each the largest face of its squares."""
    video = Clip.read(path)
    chunks = [stretch.chunk(video.width, video.height, video.rate) for stretch in stretches]
    tracks = [FaceTrack(video.height, video.width, [], {}, {}) for _ in chunks]
    begun = set()
    for number, indices, frames in chunk_frames(path, chunks):
        begun.add(number)
        left, top, right, bottom = chunks[number].box
        found = landmarker.detect(_images([frame[top:bottom, left:right] for frame in frames]))
        for index, faces in zip(indices, found, strict=True):
            if faces:
                tracks[number].landmarks[index] = faces[0].landmarks + torch.tensor([left, top, 0])
                tracks[number].blendshapes[index] = faces[0].blendshapes
    kept = sorted(begun)
    return [chunks[number] for number in kept], [tracks[number] for number in kept]


def chunk_frames(path: Path, chunks: Sequence[Chunk], every: int = 1) -> Iterator[tuple[int, list[int], list[np.ndarray]]]:
    """Every Nth frame of every chunk, at most BATCH at a time: the chunk's number, those of the frames in the video, the frames (H,W,3).
    The video is read once, and again for chunks that overlap others."""
    rest = sorted(range(len(chunks)), key=lambda number: chunks[number].start)
    while rest:
        frames, end, later = enumerate(_frames(path)), 0, []
        for number in rest:
            chunk = chunks[number]
            if chunk.start < end:
                later.append(number)
                continue
            end = chunk.end
            before = list(islice((item for item in frames if item[0] >= chunk.start), 1))
            inside = chain(before, islice(frames, chunk.end - chunk.start - 1))
            wanted = ((index, frame) for index, frame in inside if (index - chunk.start) % every == 0)
            while batch := list(islice(wanted, BATCH)):
                yield number, [index for index, _ in batch], [frame for _, frame in batch]
        rest = later


def chunk_samples(path: Path, clip: str, tracks: Sequence[FaceTrack], chunks: list[Chunk], options: VideoOptions) -> Iterator[Sample]:
    """The samples of every chunk, keyed clip/chunk/frame, where the clip is named without its suffix; frames without a face have none."""
    stem = clip.rpartition(".")[0]
    for number, indices, frames in chunk_frames(path, chunks, options.every):
        seen = [place for place, index in enumerate(indices) if index in tracks[number].landmarks]
        if not seen:
            continue
        kept = [indices[place] for place in seen]
        files = frame_files([frames[place] for place in seen], kept, chunks[number], tracks[number], options)
        for index, values in zip(kept, files, strict=True):
            yield f"{stem}/{number:03d}/{index:06d}", values


def frame_files(
    frames: list[np.ndarray], indices: list[int], chunk: Chunk, track: FaceTrack, options: VideoOptions
) -> Iterator[dict[str, bytes]]:
    """The files of some frames of a chunk: picture, render.png and numbers.safetensors.

    The numbers are the attributes without their batch axis, landmarks (N,3) in pixels of the picture, blendshapes (52,), identity (I,).

    Args:
        frames: Each (H,W,3) uint8.
        indices: Their numbers in the video.
        chunk: What they belong to.
        track: The face in them.
        options: What the files are to be.
    """
    networks = options.networks()
    left, top, right, bottom = chunk.box
    pictures = resize(_images([frame[top:bottom, left:right] for frame in frames]), options.size)
    # truncation may leave the box a pixel off square, so both axes have their own scale
    scale = torch.tensor([options.size / (right - left), options.size / (bottom - top), options.size / (right - left)])
    landmarks = torch.stack([(track.landmarks[index] - torch.tensor([left, top, 0])) * scale for index in indices])
    blendshapes = torch.stack([track.blendshapes[index] for index in indices])
    faces = estimate(networks.estimator, pictures, landmarks, blendshapes)
    renders = render(networks.estimator.head, faces, options.size, networks.estimator.surface).image
    identities = networks.identity.embed(pictures, landmarks)
    numbers = faces.tensors() | {"landmarks": landmarks, "blendshapes": blendshapes, "identity": identities}
    for row in range(len(frames)):
        yield {
            options.picture: encode_picture(to_bytes(pictures[row]), **PICTURES[options.picture]),
            "render.png": encode_picture(to_bytes(renders[row]), format="PNG"),
            "numbers.safetensors": save({name: values[row].contiguous().float() for name, values in numbers.items()}),
        }


def decode_frame(files: dict[str, bytes]) -> dict[str, Tensor]:
    """The files of one sample -> picture and render (3,S,S) uint8, its numbers by name, and labels (S,S) uint8 of a rendered one."""
    picture = next(files[suffix] for suffix in PICTURES if suffix in files)
    pictures = {"picture": picture, "render": files["render.png"]}
    frame = {name: read_picture(io.BytesIO(data)) for name, data in pictures.items()} | load(files["numbers.safetensors"])
    return frame | ({"labels": read_picture(io.BytesIO(files["labels.png"]))[0]} if "labels.png" in files else {})


def _frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, each (H,W,3) uint8 or, of more than 8 bits, cut to them. Videos are decoded side by side in processes of their
    own, so each takes one thread."""
    for frame in read_frames(path, threads=1):
        pixels = frame.array()
        yield pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _images(frames: list[np.ndarray]) -> Tensor:
    """Frames (H,W,3) uint8 -> (B,3,H,W) in 0..1."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


def encode_picture(pixels: Tensor, **options: Any) -> bytes:
    """(3,H,W) or, for grey, (1,H,W) uint8 -> a picture file."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).contiguous().numpy()).save(file, **options)
    return file.getvalue()
