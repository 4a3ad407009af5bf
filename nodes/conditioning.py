"""Everything the model is told, as a CONDITIONING for any sampler."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import CarrySocket, IdentitySocket, TokensSocket


class DiffFAEConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEConditioning",
            display_name="DiffFAE Conditioning",
            category="DiffFAE",
            description="Puts tokens, identity, render and carried photograph into a CONDITIONING. Works with DiffFAE Sampler, KSampler, "
            "SamplerCustomAdvanced and any scheduler.",
            search_aliases=["face conditioning", "condition portrait", "difffae conditioning"],
            inputs=[
                io.Vae.Input("vae", tooltip="From Load DiffFAE: encodes render and photograph."),
                TokensSocket.Input("slots", tooltip="What face, hair, clothes and background look like."),
                IdentitySocket.Input("identity", tooltip="Who it is, from Identity Token."),
                io.Image.Input("render", tooltip="Textured render of the target attributes: pose, expression and light to reach."),
                CarrySocket.Input(
                    "carry",
                    optional=True,
                    tooltip="The carried photograph. Without it the model repaints everything from four tokens, as in the paper, and the person gets lost.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="For the sampler's positive input."),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="The same without tokens and identity; only counts if cfg is not 1."
                ),
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="The carried photograph, encoded: to start from. Frames share one noise."
                ),
            ],
        )

    @classmethod
    def execute(cls, vae, slots, identity, render, carry=None) -> io.NodeOutput:
        from .conditions import make_conditions

        return io.NodeOutput(*make_conditions(vae, slots, identity, render, carry))
