"""Sum up face, hair, clothes and background of a portrait in one token each."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import REGIONS
from .sockets import BundleSocket, CropSocket, TokensSocket


class DiffFAEEncodeSlots(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        masks = [io.Mask.Output(name, display_name=name, tooltip=f"Where the {name} is, soft, at the picture's size.") for name in REGIONS]
        return io.Schema(
            node_id="DiffFAEEncodeSlots",
            display_name="Encode Slots (DiffFAE)",
            category="DiffFAE",
            description="Sums up face, hair, clothes and background of a portrait in one token each, and shows where they are. The tokens tell the "
            "model what to paint; the masks work with any other node.",
            search_aliases=["hair mask", "clothes mask", "face parsing", "segment portrait", "background mask", "slot attention"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="Crops of Crop Face. Other pictures are stretched to the model's square."),
                CropSocket.Input(
                    "crop",
                    optional=True,
                    tooltip="From the same Crop Face, for references of Swap Slots: their pixels then come as sharp as the picture is.",
                ),
            ],
            outputs=[TokensSocket.Output("slots", display_name="slots", tooltip="For Swap Slots, Carry Photo and Conditioning."), *masks],
        )

    @classmethod
    def execute(cls, difffae, image, crop=None) -> io.NodeOutput:
        from ..difffae.edit.analysing import region_masks, resized, with_pictures, with_slots
        from .frames import to_mask, to_pictures
        from .wires import check_squares, other_squares, tell, whole_picture

        pictures = to_pictures(image)
        if crop is None:
            tell(whole_picture(difffae, pictures))
        else:
            check_squares(pictures, crop, "image", "the crop picture of the same Crop Face")
            tell(other_squares(pictures, crop))
        square = resized(difffae, pictures)
        faces = with_slots(difffae, square if crop is None else with_pictures(crop, square.picture))
        assert faces.slots is not None
        return io.NodeOutput(faces, *(to_mask(mask) for mask in region_masks(faces.slots, pictures)))
