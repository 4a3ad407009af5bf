"""Who is in the picture, as a token."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import BundleSocket, CropSocket, IdentitySocket


class DiffFAEIdentityToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEIdentityToken",
            display_name="Identity Token (DiffFAE)",
            category="DiffFAE",
            description="Describes the person by a face recognition network, whatever the pose, expression and light. The model keeps to it.",
            search_aliases=["face embedding", "ArcFace", "face id", "identity embed", "face recognition"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="Crops of Crop Face, or any portrait."),
                CropSocket.Input("crop", optional=True, tooltip="From the same Crop Face as the image: its landmarks are used."),
            ],
            outputs=[IdentitySocket.Output("identity", display_name="identity", tooltip="One token per frame, for Conditioning.")],
        )

    @classmethod
    def execute(cls, difffae, image, crop=None) -> io.NodeOutput:
        from ..difffae.edit.analysing import identity_tokens
        from .analysis import faces_of
        from .frames import to_pictures

        return io.NodeOutput(identity_tokens(difffae, faces_of(difffae, to_pictures(image), crop)))
