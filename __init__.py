"""DiffFAE as a ComfyUI node pack. Nothing is imported until ComfyUI asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import DiffFAEExtension

    return DiffFAEExtension()
