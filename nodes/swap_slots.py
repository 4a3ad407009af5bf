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
            description="Takes hair, clothes or background from another portrait by exchanging their tokens. Chain several to take each from its own "
            "reference. Carry Photo then frees those regions, so that the model repaints them.",
            search_aliases=["face swap hair", "hair swap", "change clothes", "change background", "hairstyle", "outfit"],
            inputs=[
                TokensSocket.Input("slots", tooltip="Tokens of the portrait to edit."),
                TokensSocket.Input("reference", tooltip="Tokens of the portrait to take from."),
                io.Boolean.Input("hair", default=True, tooltip="On: the hair is repainted like the reference's."),
                io.Boolean.Input("clothes", default=False, tooltip="On: the clothes are repainted like the reference's."),
                io.Boolean.Input(
                    "background", default=False, tooltip="On: the background inside the square is repainted like the reference's."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Mixes the two tokens; 0 swaps nothing, 1 takes the reference's.",
                ),
            ],
            outputs=[TokensSocket.Output("swapped", display_name="slots", tooltip="For Carry Photo and Conditioning.")],
        )

    @classmethod
    def execute(cls, slots, reference, hair, clothes, background, strength) -> io.NodeOutput:
        from .tokens import swap_regions

        chosen = {"hair": hair, "clothes": clothes, "background": background}
        return io.NodeOutput(swap_regions(slots, reference, [name for name, wanted in chosen.items() if wanted], strength))
