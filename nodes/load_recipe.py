"""Read back the recipe that a saved picture carries."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import io, ui

from .sockets import AttributesSocket


def _pictures() -> list[str]:
    folder = Path(folder_paths.get_input_directory())
    files = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(folder_paths.filter_files_content_types(files, ["image"]))


class DiffFAELoadRecipe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAELoadRecipe",
            display_name="Load Recipe (DiffFAE)",
            category="DiffFAE",
            description="Shows how a saved picture was made, and gives its face attributes, so that the same pose, expression and light can be "
            "applied to another portrait.",
            search_aliases=["read metadata", "provenance", "recipe", "load attributes"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "image",
                    options=_pictures(),
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    tooltip="A picture that Save Image with Recipe or the command line wrote. Other programs may have removed the recipe.",
                ),
            ],
            outputs=[
                io.String.Output("recipe", display_name="recipe", tooltip="The whole recipe as JSON."),
                AttributesSocket.Output("attributes", display_name="attributes", tooltip="The target of the edit, for Compose Attributes."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, image: str) -> str:
        path = Path(folder_paths.get_annotated_filepath(image))
        return f"{path}:{path.stat().st_mtime_ns}" if path.is_file() else image

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        return True if folder_paths.exists_annotated_filepath(image) else f"image: '{image}' is not in the input folder; upload it again"

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        from comfy_execution.graph import ExecutionBlocker

        from ..difffae.edit.recipe import read_recipe

        recipe = read_recipe(folder_paths.get_annotated_filepath(image))
        attributes = recipe.face_attributes()
        text = recipe.to_json()
        blocked = ExecutionBlocker(f"{image}: its recipe holds no face attributes; use Estimate Attributes on the picture instead")
        return io.NodeOutput(text, blocked if attributes is None else attributes, ui=ui.PreviewText(text))
