"""A portrait that moves as the face in a clip, or along keyframes."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import DENOISE, STEPS
from .sockets import BundleSocket

TAKE = {"pose and expression": ("pose", "expression"), "expression": ("expression",), "pose": ("pose",)}
ONLY = ("all", "eyes", "mouth")


class DiffFAEAnimatePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEAnimatePortrait",
            display_name="Animate Portrait (DiffFAE)",
            category="DiffFAE/video",
            description="Lets a portrait move as the face in a clip does, with the clip's times and sound, or along keyframes. Frames are read and "
            "written one after the other, so that long clips need no more memory than short ones.",
            search_aliases=["liveportrait", "drive portrait", "talking head", "reenactment", "keyframes", "animate face"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="The portrait; one picture."),
                io.Video.Input("driving", optional=True, tooltip="The clip whose motion is taken. Unwired: keyframes alone."),
                io.Model.Input("model", optional=True, tooltip="From Load DiffFAE, with vae. Unwired: the moved photograph, much faster."),
                io.Vae.Input("vae", optional=True, tooltip="From Load DiffFAE, with model."),
                io.Combo.Input("take", options=list(TAKE), default="pose and expression", tooltip="What is taken of the clip's face."),
                io.Combo.Input(
                    "only", options=list(ONLY), default="all", advanced=True, tooltip="The eyes or the mouth alone, without pose."
                ),
                io.Boolean.Input(
                    "relative",
                    default=False,
                    tooltip="On: add how far the driver goes from the reference frame to what the portrait has. Off: set the driver's numbers.",
                ),
                io.Int.Input(
                    "reference_frame",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    advanced=True,
                    tooltip="The frame that counts as rest for relative motion; -1 is the first that shows the face.",
                ),
                io.Float.Input(
                    "pose_factor", default=1.0, min=0.0, max=3.0, step=0.05, tooltip="Makes the head's turns larger or smaller."
                ),
                io.Float.Input(
                    "expression_factor", default=1.0, min=0.0, max=3.0, step=0.05, tooltip="Makes expressions stronger or weaker."
                ),
                io.String.Input(
                    "keyframes",
                    default="",
                    multiline=True,
                    tooltip='Numbers along the clip as JSON, such as {"keys": [{"time": 0, "yaw": -15}, {"time": 1, "yaw": 15, "smile": 0.6}]}.',
                ),
                io.Combo.Input(
                    "loop", options=["once", "ping-pong"], default="once", advanced=True, tooltip="Forwards, or forwards and back."
                ),
                io.Float.Input("denoise", default=DENOISE, min=0.0, max=1.0, step=0.01, tooltip="How much the model paints anew."),
                io.Int.Input("steps", default=STEPS, min=1, max=1000, advanced=True, tooltip="Evaluations of the denoiser for a frame."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip="Of the noise, which all frames share."),
                io.Int.Input("face", default=0, min=0, max=63, advanced=True, tooltip="Which face of the clip: 0 is the largest."),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="Of the portrait's size, for Save Video.")],
        )

    @classmethod
    def execute(cls, difffae, image, take, only, relative, reference_frame, driving=None, model=None, vae=None, **values) -> io.NodeOutput:
        from ..difffae.common.errors import ConfigError
        from ..difffae.edit.analysing import analyse
        from ..difffae.edit.description import Sampling
        from ..difffae.video.driving import Motion
        from ..difffae.video.making import RATE, Change, Order, along_keyframes, animate
        from ..difffae.video.reading import Clip
        from .clips import Painter, as_video, clip_of, keyframes_of, new_file, progress
        from .frames import to_pictures

        if len(image) != 1:
            raise ConfigError(f"image: has {len(image)} frames; a portrait is one picture")
        painter, output = Painter(difffae, model, vae), new_file()
        source = analyse(difffae, to_pictures(image)).portrait(0)
        common: dict[str, Any] = {
            "sampling": Sampling(values["denoise"], values["steps"], seed=values["seed"]),
            "order": Order(ping_pong=values["loop"] == "ping-pong"),
            "progress": progress(),
        }
        if driving is None:
            keyframes = keyframes_of(values["keyframes"], float(RATE))
            if keyframes is None:
                raise ConfigError("driving: nothing moves the portrait; wire a clip, or write keyframes")
            along_keyframes(painter, source, output, keyframes, **common)
            return io.NodeOutput(as_video(output))
        factors = {"pose": values["pose_factor"], "expression": values["expression_factor"]}
        factors = {name: factor for name, factor in factors.items() if factor != 1}
        motion = Motion(TAKE[take], relative=relative, factors=factors, only=None if only == ONLY[0] else only)
        rest = None if reference_frame < 0 else reference_frame
        with clip_of(driving) as clip:
            change = Change(None, keyframes_of(values["keyframes"], float(Clip.read(clip).rate)))
            animate(painter, source, clip, output, motion=motion, change=change, face=values["face"], rest=rest, **common)
        return io.NodeOutput(as_video(output))
