"""Take hair, clothes or background of another portrait by exchanging tokens."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import TokensSocket


class DiffFAESwapSlots(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAESwapSlots",
            display_name="Swap Slots (DiffFAE)",
            category="DiffFAE",
            description="Takes hair, clothes or background from another portrait. Chain several to take each from its own reference. Carry Photo then "
            "fits the reference's own pixels to the head and its light; the model paints what neither photograph showed.",
            search_aliases=["face swap hair", "hair swap", "change clothes", "change background", "hairstyle", "outfit"],
            inputs=[
                TokensSocket.Input("slots", tooltip="Tokens of the portrait to edit."),
                TokensSocket.Input("reference", tooltip="Tokens of the portrait to take from."),
                io.Boolean.Input("hair", default=True, tooltip="On: takes the reference's hair, or its hat."),
                io.Boolean.Input("clothes", default=False, tooltip="On: takes the reference's clothes, as far as the body is seen."),
                io.Boolean.Input("background", default=False, tooltip="On: takes the reference's background, in the whole picture."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Mixes source and reference; 0 swaps nothing, 1 takes the reference's.",
                ),
                io.Boolean.Input(
                    "photo",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="On: the reference's own pixels. Off: its tokens alone, as in the paper: the model repaints the region, in rough form; needs denoise 1.",
                ),
            ],
            outputs=[TokensSocket.Output("swapped", display_name="slots", tooltip="For Carry Photo and Conditioning.")],
        )

    @classmethod
    def execute(cls, slots, reference, hair, clothes, background, strength, photo=True) -> io.NodeOutput:
        from ..difffae.edit.description import RegionSwap
        from ..difffae.edit.moving import with_swap

        chosen = {"hair": hair, "clothes": clothes, "background": background}
        regions = tuple(name for name, wanted in chosen.items() if wanted)
        return io.NodeOutput(with_swap(slots, RegionSwap(reference, regions, strength, photo)))
