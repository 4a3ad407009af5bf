"""Save pictures with the recipe of the edit beside the workflow."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import AttributesSocket, BundleSocket, ReportSocket


class DiffFAESaveImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAESaveImage",
            display_name="Save Image with Recipe (DiffFAE)",
            category="DiffFAE",
            description="Saves PNGs that say how they were made: beside ComfyUI's workflow the versions, the checkpoint and its hash, all seeds and "
            "settings, the face attributes, the identity distance, and the IPTC mark of a photograph edited by a trained model.",
            search_aliases=["save image", "provenance", "metadata", "recipe", "content credentials"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="Pictures to save, one file each."),
                io.String.Input(
                    "filename_prefix", default="DiffFAE", tooltip="Start of the files' names, in ComfyUI's output folder; may hold folders."
                ),
                BundleSocket.Input("difffae", optional=True, tooltip="From Load DiffFAE: names the checkpoint in the recipe."),
                AttributesSocket.Input(
                    "attributes", optional=True, tooltip="The target of the edit: makes it repeatable without the reference pictures."
                ),
                ReportSocket.Input("report", optional=True, tooltip="From Report: stores the identity distance."),
            ],
            outputs=[io.String.Output("recipe", display_name="recipe", tooltip="The recipe of the whole batch as JSON.")],
        )

    @classmethod
    def execute(cls, images, filename_prefix, difffae=None, attributes=None, report=None) -> io.NodeOutput:
        from .recording import recipe_of, save_pictures

        recipe = recipe_of(cls.hidden.prompt or {}, cls.hidden.unique_id, difffae, attributes, report, len(images))
        return io.NodeOutput(recipe.to_json(), ui=save_pictures(images, filename_prefix, recipe, cls.hidden))
