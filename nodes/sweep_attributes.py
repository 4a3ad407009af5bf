"""One face, many frames: a number that runs from one value to another."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.head.axes import AXES, TURN_LIMIT
from .sockets import AttributesSocket, BundleSocket

NUMBERS = [axis.name for group in ("light", "pose", "eyes", "brows", "mouth") for axis in AXES if axis.group == group]


class DiffFAESweepAttributes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAESweepAttributes",
            display_name="Sweep Face Attribute (DiffFAE)",
            category="DiffFAE/attributes",
            description="Makes a batch from one face in which one number runs evenly from one value to another: a light that wanders around the "
            "face, a head that turns, a growing smile.",
            search_aliases=["relight sweep", "light animation", "head turn", "turntable", "animate expression"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                AttributesSocket.Input("attributes", tooltip="The face to start from; one frame."),
                io.Combo.Input(
                    "number", options=NUMBERS, default="light_azimuth", tooltip="What changes. Angles are in degrees, the others in -1..1."
                ),
                io.Float.Input("start", default=-70.0, min=-180.0, max=180.0, step=0.01, tooltip="Value in the first frame."),
                io.Float.Input("end", default=70.0, min=-180.0, max=180.0, step=0.01, tooltip="Value in the last frame."),
                io.Int.Input("frames", default=8, min=2, max=1024, tooltip="How many frames; each costs a full edit."),
                io.Boolean.Input(
                    "absolute",
                    default=True,
                    advanced=True,
                    tooltip="On: head and expression are set to the values. Off: the values are added to the face's own. Light is always set.",
                ),
                io.Boolean.Input(
                    "beyond_limit",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=f"On turns the head as far as asked for. Off stops where the photograph ends: {TURN_LIMIT:g} degrees from how it shows "
                    "the head, and from facing the viewer.",
                ),
            ],
            outputs=[AttributesSocket.Output("attributes", display_name="attributes", tooltip="One set of numbers per frame.")],
        )

    @classmethod
    def execute(cls, difffae, attributes, number, start, end, frames, absolute, beyond_limit=False) -> io.NodeOutput:
        from ..difffae.common.errors import ConfigError
        from ..difffae.head.adjust import Adjustments, adjust
        from ..difffae.head.attributes import FaceAttributes

        if len(attributes) != 1:
            raise ConfigError(f"attributes: has {len(attributes)} frames; a sweep starts from one face")
        names = difffae.head.expression_names
        values = [start + (end - start) * i / (frames - 1) for i in range(frames)]
        changes = [Adjustments(absolute=absolute, beyond_limit=beyond_limit, **{number: value}) for value in values]
        return io.NodeOutput(FaceAttributes.cat([adjust(attributes, change, names) for change in changes]))
