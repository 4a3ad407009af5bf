"""People in a clip with other numbers."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import REPAIR, STEPS
from .sockets import AttributesSocket, BundleSocket


class DiffFAEEditVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEEditVideo",
            display_name="Edit Video (DiffFAE)",
            category="DiffFAE",
            description="Changes the numbers of one person in a clip, or of several: turns heads, changes expressions, relights. Times, size and "
            "sound stay, and frames that show none of them stay as they are. Long clips need no more memory than short ones.",
            search_aliases=["relight video", "video expression", "edit clip", "video retouch", "keyframes"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Video.Input("video", tooltip="The clip to edit; its size, times and sound stay."),
                AttributesSocket.Input("light", optional=True, tooltip="Whose light the person gets; one frame."),
                io.Model.Input("model", optional=True, tooltip="From Load DiffFAE, with vae. Unwired: the moved photograph, much faster."),
                io.Vae.Input("vae", optional=True, tooltip="From Load DiffFAE, with model."),
                io.String.Input(
                    "keyframes",
                    default='{"keys": [{"time": 0, "smile": 0.5}]}',
                    multiline=True,
                    tooltip="What changes, as JSON; one key is a change of the whole clip. Names are those of Adjust Face Attributes. A list has "
                    "one entry for each face, the largest first, and null for those that stay.",
                ),
                io.Float.Input("denoise", default=REPAIR, min=0.0, max=1.0, step=0.01, tooltip="How much the model paints anew."),
                io.Int.Input("steps", default=STEPS, min=1, max=1000, advanced=True, tooltip="Evaluations of the denoiser for a frame."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip="Of the noise, which all frames share."),
                io.Int.Input("face", default=0, min=0, max=63, advanced=True, tooltip="Which face of the first frame: 0 is the largest."),
                io.Boolean.Input(
                    "all_faces", default=False, optional=True, advanced=True, tooltip="On: all faces of the clip are changed alike."
                ),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="Of the clip's size, for Save Video.")],
        )

    @classmethod
    def execute(cls, difffae, video, **values) -> io.NodeOutput:
        from .clips import edited

        return io.NodeOutput(edited(difffae, video, values))
