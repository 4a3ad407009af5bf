"""ComfyUI's VIDEO for the library's clips, and a model that paints with ComfyUI's sampler.

Shape letters: B frames, S side of the squares.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
from comfy_api.v0_0_2 import InputImpl
from torch import Tensor

from ..difffae.common.errors import ConfigError
from ..difffae.edit.analysing import Choice, analyse, identity_tokens
from ..difffae.edit.description import Edit, Sampling, possible
from ..difffae.edit.moved_photo import MovedPhoto
from ..difffae.video.analysing import count_faces
from ..difffae.video.driving import REGIONS, Motion
from ..difffae.video.keyframes import Keyframes, by_face
from ..difffae.video.making import RATE, Change, Driven, Order, along_keyframes, animate, edit_clip
from ..difffae.video.reading import Clip
from .animate_portrait import OTHERS
from .bundle import Bundle
from .conditions import make_conditions
from .drawing import draw_heads
from .frames import to_image, to_pictures


@dataclass(frozen=True, eq=False)
class Painter:
    """difffae's Painter: the bundle's networks, with a MODEL and its VAE, or without them, which moves photographs alone."""

    bundle: Bundle
    model: Any = None
    vae: Any = None
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if (self.model is None) != (self.vae is None):
            raise ConfigError("model and vae go together; wire both from Load DiffFAE, or neither for the moved photograph alone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bundle, name)

    def chunks(self, count: int, size: int) -> Iterator[slice]:
        """As the bundle's, without its progress bar: whole clips have their own."""
        mm.throw_exception_if_processing_interrupted()
        return (slice(first, min(first + size, count)) for first in range(0, count, size))

    def sampling(self, asked: Sampling) -> Sampling:
        """Without a model nothing is painted. Raises ConfigError for a model that can do nothing else, or not so."""
        if self.model is not None:
            return possible(asked, self.bundle.carries, self.bundle.name)
        if not self.bundle.carries:
            raise ConfigError(
                f"difffae: {self.bundle.name} carries no photograph that could be moved alone; turn diffusion on, or wire model and vae"
            )
        return replace(asked, denoise=0.0)

    def painted(self, edit: Edit, moved: MovedPhoto) -> Tensor:
        """(B,3,S,S) what the model paints, or the moved photographs' squares."""
        if edit.denoise == 0:
            return moved.square(moved.image)
        with self.one_at_a_time:  # frames are worked on by several threads; ComfyUI's models are for one
            return self._sampled(edit, moved)

    def _sampled(self, edit: Edit, moved: MovedPhoto) -> Tensor:
        from nodes import common_ksampler

        faces, how = edit.faces, edit.sampling
        estimator = self.bundle.estimator
        heads, _ = draw_heads(estimator.head, edit.target, self.bundle.image_size, surface=estimator.surface)
        positive, _, latent = make_conditions(
            self.vae, faces, identity_tokens(self, faces), to_image(heads.image), moved if self.bundle.carries else None
        )
        options = (how.seed, how.steps, 1.0, how.sampler, "normal", positive, positive, latent)
        (sampled,) = common_ksampler(self.model, *options, denoise=edit.denoise)
        return to_pictures(self.vae.decode(sampled["samples"]))


@contextmanager
def clip_of(video: Any) -> Iterator[Path]:
    """A VIDEO as a file; one that lies in memory or is trimmed is written for the time of the block."""
    source = video.get_stream_source()
    if isinstance(source, str) and tuple(video.get_active_trim_window()) == (0.0, 0.0):
        yield Path(source)
        return
    path = new_file()
    video.save_to(str(path))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def new_file() -> Path:
    """A name for a clip in ComfyUI's folder of temporary files."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"difffae_{uuid.uuid4().hex[:12]}.mp4"


def as_video(path: Path) -> Any:
    """A clip as VIDEO."""
    return InputImpl.VideoFromFile(str(path))


def progress() -> Callable[[int, int], None]:
    """Shows how far the work is, and ends it when ComfyUI is told to stop."""
    bar = comfy.utils.ProgressBar(1)

    def told(done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return told


def animated(bundle: Bundle, image: Tensor, values: Mapping[str, Any]) -> Any:
    """The VIDEO of Animate Portrait, from its portrait (1,H,W,C) and its other inputs.

    Raises:
        ConfigError: several portraits, or nothing that moves them. NoFaceError, FaceChoiceError, VideoError: as `making.animate`.
    """
    if len(image) != 1:
        raise ConfigError(f"image: has {len(image)} frames; a portrait is one picture")
    painter, output, pictures = Painter(bundle, values.get("model"), values.get("vae")), new_file(), to_pictures(image)
    common: dict[str, Any] = {
        "sampling": Sampling(values["denoise"], values["steps"], seed=values["seed"]),
        "order": Order(ping_pong=values["loop"] == "ping-pong"),
        "progress": progress(),
    }
    wired = {face: video for face, name in enumerate(("driving", *OTHERS)) if (video := values.get(name)) is not None}
    if not wired:
        each = by_face(keyframes_of(values["keyframes"], float(RATE)))
        if not each:
            raise ConfigError("driving: nothing moves the portrait; wire a clip, or write keyframes")
        moved = [(analyse(bundle, pictures, Choice(face)).portrait(0), Change(None, keys)) for face, keys in each.items()]
        along_keyframes(painter, moved, output, **common)
        return as_video(output)
    portraits = {face: analyse(bundle, pictures, Choice(face)).portrait(0) for face in wired}
    factors = {"pose": values["pose_factor"], "expression": values["expression_factor"]}
    motion = Motion(
        tuple(values["take"].split(" and ")),
        relative=values["relative"],
        factors={name: factor for name, factor in factors.items() if factor != 1},
        only=values["only"] if values["only"] in REGIONS else None,
    )
    rest = None if values["reference_frame"] < 0 else values["reference_frame"]
    with ExitStack() as stack:
        files = {id(video): stack.enter_context(clip_of(video)) for video in {id(one): one for one in wired.values()}.values()}
        clips = {face: files[id(video)] for face, video in wired.items()}
        each = by_face(keyframes_of(values["keyframes"], float(Clip.read(next(iter(clips.values()))).rate)), list(wired))
        cast = [Driven(portraits[face], clip, motion, Change(None, each[face]), values["face"], rest) for face, clip in clips.items()]
        animate(painter, cast, output, **common)
    return as_video(output)


def edited(bundle: Bundle, video: Any, values: Mapping[str, Any]) -> Any:
    """The VIDEO of Edit Video, from its clip and its other inputs.

    Raises:
        ConfigError, NoFaceError, FaceChoiceError, VideoError: as `making.edit_clip`.
    """
    painter, output, light = Painter(bundle, values.get("model"), values.get("vae")), new_file(), values.get("light")
    with clip_of(video) as clip:
        edit_clip(
            painter,
            clip,
            output,
            changes=_changes(painter, Clip.read(clip), values),
            givers={} if light is None else {"light": (light.to("cpu"), 1.0)},
            sampling=Sampling(values["denoise"], values["steps"], seed=values["seed"]),
            progress=progress(),
        )
    return as_video(output)


def _changes(painter: Painter, clip: Clip, values: Mapping[str, Any]) -> dict[int, Change]:
    """What Edit Video changes, by face: a list of keyframes names the faces itself."""
    told = keyframes_of(values["keyframes"], float(clip.rate))
    named = range(count_faces(painter, clip)) if values.get("all_faces") else [values["face"]]
    return {face: Change(None, keys) for face, keys in by_face(told, named if isinstance(told, Keyframes) or not told else None).items()}


def keyframes_of(text: str, rate: float) -> Keyframes | tuple[Keyframes | None, ...]:
    """The widget's JSON as Keyframes, for all faces or for each; an empty one has none. Raises ConfigError."""
    if not text.strip():
        return ()
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"keyframes: is not JSON ({error})") from error
    return () if told is None else Keyframes.told(told, rate)
