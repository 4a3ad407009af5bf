"""FLAME_PARAMS of comfyui-face3d as face attributes of a FLAME head."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket, FlameParamsSocket


class DiffFAEFromFlameParams(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEFromFlameParams",
            display_name="From FLAME_PARAMS (DiffFAE)",
            category="DiffFAE/attributes",
            description="Takes a face from the nodes of comfyui-face3d, to edit a portrait with. Only for a checkpoint whose 3D head is FLAME.",
            search_aliases=["FLAME", "FLAME params", "face3d", "KaoLRM", "SMIRK", "3DMM"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE, with a checkpoint that has a FLAME head."),
                FlameParamsSocket.Input(
                    "flame_params", tooltip="From KaoLRM Reconstruct, SMIRK Predict, FLAME Params Edit or To FLAME_PARAMS."
                ),
                AttributesSocket.Input(
                    "attributes",
                    optional=True,
                    tooltip="Gives what FLAME_PARAMS lack: eyes, skin colour, light, wrinkles. Without it the eyes look straight ahead in even light.",
                ),
            ],
            outputs=[
                AttributesSocket.Output("attributes", display_name="attributes", tooltip="For Compose, as a reference, or as the target.")
            ],
        )

    @classmethod
    def execute(cls, difffae, flame_params, attributes=None) -> io.NodeOutput:
        from ..difffae.head.flame_params import from_flame_params

        return io.NodeOutput(from_flame_params(difffae.head, flame_params, attributes))
