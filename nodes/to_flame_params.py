"""Face attributes of a FLAME head as the FLAME_PARAMS of comfyui-face3d."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket, FlameParamsSocket


class DiffFAEToFlameParams(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEToFlameParams",
            display_name="To FLAME_PARAMS (DiffFAE)",
            category="DiffFAE/attributes",
            description="Hands a face to the nodes of comfyui-face3d, as FLAME_PARAMS. Only for a checkpoint whose 3D head is FLAME.",
            search_aliases=["FLAME", "FLAME params", "face3d", "KaoLRM", "SMIRK", "3DMM"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE, with a checkpoint that has a FLAME head."),
                AttributesSocket.Input("attributes", tooltip="From Estimate, Compose or Adjust of the same checkpoint."),
            ],
            outputs=[
                FlameParamsSocket.Output(
                    "flame_params",
                    display_name="flame_params",
                    tooltip="Shape, expression, turn, jaw, size and place, for FLAME Params Edit or FLAME Params to Mesh.",
                )
            ],
        )

    @classmethod
    def execute(cls, difffae, attributes) -> io.NodeOutput:
        from ..difffae.head.flame_params import to_flame_params

        return io.NodeOutput(to_flame_params(difffae.head, attributes))
