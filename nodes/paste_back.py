"""Put an edited square back into its picture."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import FEATHER
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
                io.Image.Input("original", tooltip="The picture that was cropped. One picture serves a whole batch of edits."),
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
                    default=FEATHER,
                    min=0.01,
                    max=0.25,
                    step=0.002,
                    advanced=True,
                    tooltip="Width of the soft border, as a share of the square. Colours blend over three times this width.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The whole picture with the edit."),
                io.Image.Output("crop_image", display_name="crop", tooltip="The square that was pasted, sharp pixels included."),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="Of a cut-out: 1 where it is transparent now, as Load Image has it; else 0."
                ),
                io.Mask.Output(
                    "unseen",
                    display_name="unseen",
                    tooltip="1 where the result shows what no photograph showed: what a model for inpainting may paint.",
                ),
            ],
        )

    @classmethod
    def execute(cls, original, edited, crop, feather, carry=None, mask=None) -> io.NodeOutput:
        from ..difffae.edit.pasting import in_pictures, mask_of_squares
        from .frames import from_mask, to_pictures
        from .pasting import pasted_back
        from .wires import check_paste

        whole, drawn = to_pictures(original, "original"), to_pictures(edited, "edited")
        limit = check_paste(whole, drawn, crop, carry, None if mask is None else from_mask(mask))
        faces = in_pictures(crop, whole)
        limit = None if limit is None else mask_of_squares(faces, limit)
        return io.NodeOutput(*pasted_back(faces, drawn, carry, limit, feather, original.shape[-1]))
