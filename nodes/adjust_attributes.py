"""Change pose, expression and light by hand, with a live preview in the node."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.head.axes import AXES, AXIS, NO_PRESET, PRESETS, TURN_LIMIT, Axis
from .sockets import AttributesSocket, BundleSocket, TokensSocket

# Saved workflows name widgets by their order alone: these came first, so what was added later follows all of them.
FIRST = ("yaw", "pitch", "roll", "smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y")
LIGHT = ("light_azimuth", "light_elevation", "light_strength")
COARSE = {"pose": 0.5, "light": 1.0}  # degrees of a slider's step


def _slider(axis: Axis, **more) -> io.Float.Input:
    step = COARSE[axis.group] if axis.degrees else 0.01
    options = {"default": axis.default, "min": axis.low, "max": axis.high, "step": step, "tooltip": axis.text} | more
    # the node's panel has a row for it, in a group of this name
    panel = {"advanced": True, "extra_dict": {"difffae_group": axis.group}}
    return io.Float.Input(axis.name, display_mode=io.NumberDisplay.slider, **panel, **options)


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
                *(_slider(AXIS[name]) for name in FIRST),
                io.Boolean.Input(
                    "relight",
                    default=False,
                    advanced=True,
                    extra_dict={"difffae_group": "light"},
                    tooltip="Off keeps the picture's own light. On sets the light to the numbers of this group.",
                ),
                *(_slider(AXIS[name]) for name in LIGHT),
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
                io.Combo.Input(
                    "preset",
                    options=[NO_PRESET, *PRESETS],
                    default=NO_PRESET,
                    optional=True,
                    advanced=True,
                    tooltip="An expression that is set before the sliders count, whatever the face's own.",
                ),
                *(_slider(axis, optional=True) for axis in AXES if axis.name not in (*FIRST, *LIGHT)),
                io.String.Input(
                    "coefficients",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="JSON of the finest numbers of an expression, -1..1, by ARKit's names, such as jawForward: 0.3.",
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
        from .wires import tell, whole_preview

        if image is not None:
            tell(whole_preview(difffae, image))
        head = difffae.head
        result = adjusted(attributes, values, head.expression_names)
        return io.NodeOutput(result, ui={"difffae_preview": [remember(head, attributes, image, slots)]})
