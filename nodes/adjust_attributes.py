"""Change pose, expression and light by hand, with a live preview in the node."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket, TokensSocket


def _slider(name: str, reach: float, step: float, tooltip: str, **more) -> io.Float.Input:
    options = {"default": 0.0, "min": -reach, "max": reach} | more
    return io.Float.Input(name, step=step, display_mode=io.NumberDisplay.slider, tooltip=tooltip, **options)


class DiffFAEAdjustAttributes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEAdjustAttributes",
            display_name="Adjust Face Attributes (DiffFAE)",
            category="DiffFAE/attributes",
            description="Turns the head, moves the face and sets the light by sliders, or by dragging on the preview: drag the head to turn it, the "
            "ball to move the light. With the crop wired the preview is the photograph itself. All sliders at 0 change nothing.",
            search_aliases=["expression editor", "head pose", "relight", "face sliders", "smile", "blink", "gaze", "light direction"],
            is_output_node=True,
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                AttributesSocket.Input("attributes", tooltip="The face to change; every frame of a batch is changed alike."),
                io.Image.Input("image", optional=True, tooltip="Crops of Crop Face, for the preview in the node. Changes nothing else."),
                TokensSocket.Input("slots", optional=True, tooltip="Of these crops: keeps light off the background in the preview."),
                _slider("yaw", 60.0, 0.5, "Degrees the head turns, positive to the right of the image. Beyond 30 much must be invented."),
                _slider("pitch", 40.0, 0.5, "Degrees, positive lifts the chin."),
                _slider("roll", 45.0, 0.5, "Degrees, positive tilts the head clockwise in the image."),
                _slider("smile", 1.0, 0.01, "Up is a smile, down a frown."),
                _slider("jaw_open", 1.0, 0.01, "Up opens the mouth. What is inside is invented."),
                _slider("blink", 1.0, 0.01, "Up closes the eyes, down opens them wide."),
                _slider("brow_up", 1.0, 0.01, "Up raises the brows, down knits them."),
                _slider("gaze_x", 1.0, 0.01, "Positive turns the eyes to the right of the image, negative to the left."),
                _slider("gaze_y", 1.0, 0.01, "Positive turns the eyes up, negative down."),
                io.Boolean.Input(
                    "relight", default=False, tooltip="Off keeps the picture's own light. On sets the light to the three numbers below."
                ),
                _slider("light_azimuth", 180.0, 1.0, "Degrees: 0 from the viewer, positive from the right of the image.", default=45.0),
                _slider("light_elevation", 90.0, 1.0, "Degrees, positive from above.", default=20.0),
                _slider(
                    "light_strength", 1.0, 0.01, "0 is flat, 1 comes from one side only. Brightness and colour stay.", min=0.0, default=0.6
                ),
                io.Boolean.Input(
                    "absolute",
                    default=False,
                    advanced=True,
                    tooltip="On: head and expression are set to the sliders instead of changed by them.",
                ),
                io.String.Input(
                    "pasted",
                    default="",
                    multiline=True,
                    advanced=True,
                    tooltip="JSON of attributes from the Copy button of such a node: their pose, expression and light are taken before the sliders count.",
                ),
            ],
            outputs=[AttributesSocket.Output("adjusted", display_name="attributes", tooltip="The target of the edit.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        from .live_preview import missed

        return missed()

    @classmethod
    def execute(cls, difffae, attributes, image=None, slots=None, **values) -> io.NodeOutput:
        from .adjusting import adjusted
        from .live_preview import remember

        head = difffae.head
        result = adjusted(attributes, values, head.expression_names)
        return io.NodeOutput(result, ui={"difffae_preview": [remember(head, attributes, image, slots)]})
