"""Put an edited square back into its picture."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import CarrySocket, CropSocket


class DiffFAEPasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEPasteBack",
            display_name="Paste Back (DiffFAE)",
            category="DiffFAE",
            description="Puts an edited square back into its picture, with a soft border and without a seam of colour. With the carried photograph "
            "wired, its sharp pixels win wherever they agree with what the model painted. Frames of which nothing was asked stay bit for bit.",
            search_aliases=["uncrop", "face composite", "paste face", "stitch", "merge crop"],
            inputs=[
                io.Image.Input(
                    "original", tooltip="The picture that was cropped. One picture serves a whole batch of edits; transparency is kept."
                ),
                io.Image.Input(
                    "edited", tooltip="From DiffFAE Sampler or VAE Decode; or the image of Carry Photo, for a result without diffusion."
                ),
                CropSocket.Input("crop", tooltip="From the Crop Face that cut the picture."),
                CarrySocket.Input(
                    "carry", optional=True, tooltip="Keeps the photograph's sharpness. Without it every pixel is the model's."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Limits the edit to where it is 1. At the picture's size or at the crop's; for example a mask of Encode Slots.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.05,
                    min=0.01,
                    max=0.25,
                    step=0.01,
                    advanced=True,
                    tooltip="Width of the soft border, as a share of the square. Colours blend over three times this width.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The whole picture with the edit."),
                io.Image.Output("crop_image", display_name="crop", tooltip="The square that was pasted, sharp pixels included."),
            ],
        )

    @classmethod
    def execute(cls, original, edited, crop, feather, carry=None, mask=None) -> io.NodeOutput:
        from .pasting import paste_frames

        return io.NodeOutput(*paste_frames(original, edited, crop, carry, mask, feather))
