"""A portrait that moves as the face in a clip, or along keyframes."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import REPAIR, STEPS
from .sockets import BundleSocket

OTHERS = ("driving_2", "driving_3", "driving_4")
TAKE = ("pose and expression", "expression", "pose")
ONLY = ("all", "eyes", "mouth")


class DiffFAEAnimatePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEAnimatePortrait",
            display_name="Animate Portrait (DiffFAE)",
            category="DiffFAE",
            description="Lets a portrait move as the face in a clip does, with the clip's times and sound, or along keyframes. Of a picture of "
            "several people each may have a clip. Frames are read and written one after the other, so that long clips need no more memory than "
            "short ones.",
            search_aliases=["liveportrait", "drive portrait", "talking head", "reenactment", "keyframes", "animate face"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="The portrait; one picture."),
                io.Video.Input(
                    "driving",
                    optional=True,
                    tooltip="The clip whose motion the portrait's largest face takes. No clip wired: keyframes alone.",
                ),
                io.Model.Input("model", optional=True, tooltip="From Load DiffFAE, with vae. Unwired: the moved photograph, much faster."),
                io.Vae.Input("vae", optional=True, tooltip="From Load DiffFAE, with model."),
                io.Combo.Input("take", options=list(TAKE), default=TAKE[0], tooltip="What is taken of the clip's face."),
                io.Combo.Input(
                    "only", options=list(ONLY), default=ONLY[0], advanced=True, tooltip="The eyes or the mouth alone, without pose."
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
                    tooltip="Numbers that change along the clip, as JSON; the node's page has an example. A list has one entry for each face of the "
                    "portrait, the largest first, and null for those without. Empty: none.",
                ),
                io.Combo.Input(
                    "loop", options=["once", "ping-pong"], default="once", advanced=True, tooltip="Forwards, or forwards and back."
                ),
                io.Float.Input("denoise", default=REPAIR, min=0.0, max=1.0, step=0.01, tooltip="How much the model paints anew."),
                io.Int.Input("steps", default=STEPS, min=1, max=1000, advanced=True, tooltip="Evaluations of the denoiser for a frame."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip="Of the noise, which all frames share."),
                io.Int.Input("face", default=0, min=0, max=63, advanced=True, tooltip="Which face of the clip: 0 is the largest."),
                *(
                    io.Video.Input(name, optional=True, tooltip=f"The same for the portrait's face {number}, by size. Unwired: it stays.")
                    for number, name in enumerate(OTHERS, 2)
                ),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="Of the portrait's size, for Save Video.")],
        )

    @classmethod
    def execute(cls, difffae, image, **values) -> io.NodeOutput:
        from .clips import animated

        return io.NodeOutput(animated(difffae, image, values))
