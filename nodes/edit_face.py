"""A whole edit in one node: what Load DiffFAE, Crop Face, Adjust Face Attributes, Carry Photo and Paste Back do together."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import BUNDLED_MODELS, SWAPPABLE, TAKEABLE
from .adjust_attributes import DiffFAEAdjustAttributes
from .loader import DiffFAELoader
from .sockets import AttributesSocket, BundleSocket

GIVERS = {
    "pose": "A portrait: the head turns like this one's.",
    "expression": "A portrait: mouth, brows, lids and gaze move like this one's.",
    "light": "A portrait: the light falls as on this one.",
    "hair": "A portrait whose hair, or hat, is taken.",
    "clothes": "A portrait whose clothes are taken, as far as the body is seen.",
    "background": "A portrait whose background is taken.",
}
FOLDED = ("brow_up", "gaze_x", "gaze_y", "relight", "light_azimuth", "light_elevation", "light_strength")  # the preview sets the light
WIRED = ("difffae", "attributes", "image", "slots")  # what Adjust Face Attributes gets from other nodes, and this one works out itself


def _checkpoint() -> list[io.Input]:
    """The widget of Load DiffFAE."""
    found = DiffFAELoader.define_schema().inputs
    for own in found:
        own.advanced = True
    return found


def _numbers() -> list[io.Input]:
    """The widgets of Adjust Face Attributes; fewer of them are in sight at first."""
    found = [own for own in DiffFAEAdjustAttributes.define_schema().inputs if own.id not in WIRED]
    for own in found:
        own.advanced = own.advanced or own.id in FOLDED
    return found


class DiffFAEEditFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEEditFace",
            display_name="Edit Face (DiffFAE)",
            category="DiffFAE",
            description="Edits the face of a photograph, all in one node: turn the head, change the expression, move the light, by sliders or by "
            "dragging on the preview, or take them, hair, clothes or background from other portraits. All at rest, nothing changes, bit for bit.",
            search_aliases=[
                "face editor",
                "expression editor",
                "portrait edit",
                "head pose",
                "relight",
                "smile",
                "face sliders",
                "hair swap",
            ],
            is_output_node=True,
            enable_expand=True,
            inputs=[
                io.Image.Input("image", tooltip="Your photograph, or the frames of a video."),
                io.Boolean.Input(
                    "diffusion",
                    default=False,
                    tooltip="Off: the photograph itself, moved and relit, at once. On: the model paints what the photograph could not show, which "
                    "takes longer and with open-256 is softer.",
                ),
                io.Int.Input(
                    "face", default=0, min=0, max=63, tooltip="Which face, if there are several: 0 is the largest, 1 the next ..."
                ),
                io.Boolean.Input("all_faces", default=False, advanced=True, tooltip="On: all faces of the picture are changed alike."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    advanced=True,
                    tooltip="How much of the other portraits is taken: 0 nothing, 1 all.",
                ),
                io.Int.Input(
                    "diffusion_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    advanced=True,
                    tooltip="Of the noise; counts with diffusion only.",
                ),
                *_checkpoint(),
                *_numbers(),
                *(io.Image.Input(name, optional=True, tooltip=GIVERS[name]) for name in (*TAKEABLE, *SWAPPABLE)),
                io.Mask.Input("mask", optional=True, tooltip="Of a cut-out: Load Image's mask, 1 where it is transparent."),
            ],
            outputs=[
                io.Image.Output("edited", display_name="image", tooltip="The whole picture with the edit."),
                io.Mask.Output(
                    "unseen",
                    display_name="unseen",
                    tooltip="1 where the result shows what no photograph showed: what a model for inpainting may paint.",
                ),
                AttributesSocket.Output(
                    "target", display_name="attributes", tooltip="The numbers of the result, for Save Image with Recipe."
                ),
                BundleSocket.Output("networks", display_name="difffae", tooltip="For Save Image with Recipe, Report and all other nodes."),
                io.Mask.Output("cut_out", display_name="mask", tooltip="Of a cut-out: 1 where it is transparent now; else 0."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint=BUNDLED_MODELS[0], **_) -> str:
        from .live_preview import missed

        return f"{missed()} {DiffFAELoader.fingerprint_inputs(checkpoint)}"

    @classmethod
    def execute(cls, image, checkpoint, difffae=None, model=None, vae=None, **values) -> io.NodeOutput:
        from .whole_edit import edited, with_loader

        if difffae is None:
            # Load DiffFAE runs as a node of its own, so that ComfyUI keeps and frees what it loads; then this one again, with its outputs
            graph, outputs = with_loader(cls.SCHEMA, checkpoint, image=image, **values)
            return io.NodeOutput(*outputs, expand=graph)
        result, scene = edited(difffae, model, vae, image, values)
        return io.NodeOutput(*result, ui={"difffae_preview": [scene]})
