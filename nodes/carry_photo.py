"""Move and relight the photograph itself: the instant preview, and what the model starts from."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket, CarrySocket, CropSocket, TokensSocket


class DiffFAECarryPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAECarryPhoto",
            display_name="Carry Photo (DiffFAE)",
            category="DiffFAE",
            description="Moves and relights the photograph's own pixels from the source's to the target's attributes, without diffusion: an instant "
            "preview, and the sharp part of the final picture. What the photograph never showed is marked in the mask and left to the model.",
            search_aliases=["warp face", "relight", "reenact", "liveportrait", "preview edit", "head pose"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="Crops of Crop Face."),
                AttributesSocket.Input("source", tooltip="Attributes of these crops."),
                AttributesSocket.Input("target", tooltip="Attributes they shall have. The same as source: nothing moves, bit for bit."),
                CropSocket.Input(
                    "crop",
                    optional=True,
                    tooltip="From Crop Face: the photograph is then moved in its own pixels, and parts of a square beyond its edge are repainted.",
                ),
                TokensSocket.Input(
                    "slots",
                    optional=True,
                    tooltip="Keeps changes of light on skin and hair. After Swap Slots also brings the reference's regions.",
                ),
                io.Boolean.Input(
                    "still_background",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On: the background is the same in every frame, for videos. Off: it may go along with a head that turns, which shows "
                    "less of what is made up.",
                ),
            ],
            outputs=[
                io.Image.Output("carried_image", display_name="image", tooltip="The photograph, moved and relit."),
                io.Mask.Output(
                    "validity", display_name="valid", tooltip="1 where the pixels can be trusted, 0 where the model must invent."
                ),
                CarrySocket.Output("carry", display_name="carry", tooltip="For Conditioning and Paste Back."),
                io.Mask.Output(
                    "unseen",
                    display_name="unseen",
                    tooltip="1 where no photograph showed what is there now: what a model for inpainting may paint.",
                ),
            ],
        )

    @classmethod
    def execute(cls, difffae, image, source, target, crop=None, slots=None, still_background=False) -> io.NodeOutput:
        from ..difffae.edit.analysing import with_pictures
        from ..difffae.edit.description import Edit, Faces
        from ..difffae.edit.moving import move
        from ..difffae.edit.native import steady, with_photograph
        from .frames import on_device, to_image, to_mask, to_pictures
        from .wires import check_carry, tell

        picture = to_pictures(image)
        if crop is not None:
            picture = with_pictures(crop, picture).picture
        inside = torch.ones_like(picture[:, :1]) if crop is None else crop.inside_picture
        encoded = {} if slots is None else {"slots": slots.slots, "swaps": slots.swaps}
        faces = Faces(picture, inside, attributes=on_device(source), **encoded)
        if crop is not None:
            faces = with_photograph(replace(faces, landmarks=crop.landmarks, others=crop.others), crop)
        tell(*check_carry(difffae, faces, crop, slots, target))
        result = move(steady(difffae) if still_background else difffae, Edit(faces, on_device(target)))
        image, valid, unseen = (result.square(values) for values in (result.image, result.validity, result.unseen))
        return io.NodeOutput(to_image(image), to_mask(valid), result, to_mask(unseen))
