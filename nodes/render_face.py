"""Render the 3D head of face attributes."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket


class DiffFAERenderFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAERenderFace",
            display_name="Render Face (DiffFAE)",
            category="DiffFAE",
            description="Draws the 3D head of face attributes under their light: the picture the model is conditioned on. Also its outline, its "
            "normals and the mesh itself, for Preview 3D or Save GLB.",
            search_aliases=["FLAME renderer", "3D face", "face mesh", "normal map", "clay render", "head model"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                AttributesSocket.Input("attributes", tooltip="From Estimate, Compose or Adjust."),
                io.Combo.Input(
                    "shading",
                    options=["textured", "clay"],
                    default="textured",
                    tooltip="textured: with skin colour, which DiffFAE Conditioning needs. clay: grey, to judge shape and light.",
                ),
                io.Int.Input(
                    "size",
                    default=256,
                    min=64,
                    max=2048,
                    step=8,
                    advanced=True,
                    tooltip="Side in pixels. The model works at its own size; more is for you.",
                ),
            ],
            outputs=[
                io.Image.Output("render", display_name="render", tooltip="The head on black."),
                io.Mask.Output("mask", display_name="mask", tooltip="1 where the head is."),
                io.Image.Output(
                    "normals", display_name="normals", tooltip="Normals as colours: x right, y up, z to the viewer, -1..1 as 0..1."
                ),
                io.Mesh.Output("mesh", display_name="mesh", tooltip="The posed head with its skin colours, one mesh per frame."),
            ],
        )

    @classmethod
    def execute(cls, difffae, attributes, shading, size) -> io.NodeOutput:
        from .drawing import draw_heads
        from .frames import to_image, to_mask

        estimator = difffae.estimator
        shown, mesh = draw_heads(estimator.head, attributes, size, clay=shading == "clay", surface=estimator.surface)
        normals = (shown.normals * 0.5 + 0.5) * shown.mask
        return io.NodeOutput(to_image(shown.image.clamp(0, 1)), to_mask(shown.mask), to_image(normals), mesh)
