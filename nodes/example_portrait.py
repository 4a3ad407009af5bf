"""The portraits that come with the pack, so that its workflows run at once."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

PICTURES = {
    "astronaut": "source.png",
    "naval officer": "query.png",
    "turned": "turned.jpg",
    "surprised": "surprised.jpg",
    "side light": "side_light.jpg",
}


class DiffFAEExamplePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEExamplePortrait",
            display_name="Example Portrait (DiffFAE)",
            category="DiffFAE",
            description="A portrait that comes with the pack, to try a workflow at once. Put Load Image in its place for a picture of your own.",
            search_aliases=["sample image", "demo portrait", "test picture"],
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=list(PICTURES),
                    default="astronaut",
                    tooltip="Two photographs (astronaut, naval officer) and three rendered people: one turned, one surprised, one lit from the left.",
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The portrait, RGB.")],
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        from ..difffae.common.checkpoint import asset_path
        from ..difffae.common.images import read_image
        from .frames import to_image

        image = to_image(read_image(asset_path(PICTURES[picture]))[0][None])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
