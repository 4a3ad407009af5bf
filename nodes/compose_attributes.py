"""Take pose, expression and light each from its own face."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket

SHARE = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "display_mode": io.NumberDisplay.slider}


class DiffFAEComposeAttributes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEComposeAttributes",
            display_name="Compose Face Attributes (DiffFAE)",
            category="DiffFAE/attributes",
            description="Gives the source the pose, the expression and the light of other faces, each from its own reference and as strongly as "
            "you like. What is not wired stays the source's; with nothing wired nothing changes.",
            search_aliases=["head pose", "expression transfer", "relight", "face reenactment", "mix faces", "pose transfer"],
            inputs=[
                AttributesSocket.Input("source", tooltip="The face to edit."),
                AttributesSocket.Input("pose", optional=True, tooltip="The head turns like this face's."),
                AttributesSocket.Input("expression", optional=True, tooltip="Mouth, brows, lids and gaze move like this face's."),
                AttributesSocket.Input("light", optional=True, tooltip="The light falls as on this face."),
                io.Float.Input("pose_strength", **SHARE, tooltip="0 keeps the source's pose, 1 takes all of the reference's."),
                io.Float.Input("expression_strength", **SHARE, tooltip="0 keeps the source's expression, 1 takes all of the reference's."),
                io.Float.Input("light_strength", **SHARE, tooltip="0 keeps the source's light, 1 takes all of the reference's."),
                io.Combo.Input(
                    "framing",
                    options=["source", "reference"],
                    default="source",
                    advanced=True,
                    tooltip="source: only the head turns and the shoulders stay. reference: the face also takes the size and place it has in the "
                    "pose reference, as in the paper.",
                ),
                AttributesSocket.Input(
                    "identity",
                    optional=True,
                    advanced=True,
                    tooltip="Shape and skin colour of the 3D head from this face, for renders. Rarely needed.",
                ),
            ],
            outputs=[AttributesSocket.Output("attributes", display_name="attributes", tooltip="The target of the edit.")],
        )

    @classmethod
    def execute(
        cls, source, pose_strength, expression_strength, light_strength, framing, pose=None, expression=None, light=None, identity=None
    ) -> io.NodeOutput:
        from ..difffae.head.attributes import compose_each

        givers = {"pose": (pose, pose_strength), "expression": (expression, expression_strength), "light": (light, light_strength)}
        return io.NodeOutput(compose_each(source, {**givers, "identity": (identity, 1.0)}, keep_camera=framing == "source"))
