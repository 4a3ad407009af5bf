"""Smooth a video's attributes over time."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket


class DiffFAESmoothAttributes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAESmoothAttributes",
            display_name="Smooth Face Attributes (DiffFAE)",
            category="DiffFAE/attributes",
            description="Averages the numbers of a video's frames over time, so that heads do not tremble. Numbers are smoothed instead of pixels, so "
            "nothing gets blurred.",
            search_aliases=["temporal smoothing", "jitter", "stabilize", "video smoothing"],
            inputs=[
                AttributesSocket.Input("attributes", tooltip="Attributes of the frames, in their order."),
                io.Float.Input(
                    "frames",
                    default=1.5,
                    min=0.0,
                    max=60.0,
                    step=0.1,
                    tooltip="Standard deviation of the average, in frames. 0 changes nothing.",
                ),
                io.Boolean.Input(
                    "steady_identity",
                    default=True,
                    advanced=True,
                    tooltip="On: head shape and skin colour are the mean of all frames, since they belong to the person. Off: they are smoothed, too.",
                ),
            ],
            outputs=[AttributesSocket.Output("attributes", display_name="attributes", tooltip="As many frames as came in.")],
        )

    @classmethod
    def execute(cls, attributes, frames, steady_identity) -> io.NodeOutput:
        from ..difffae.faces.tracking import smooth_attributes

        return io.NodeOutput(smooth_attributes(attributes, frames, steady_identity))
