"""Pictures in ComfyUI's input folder, so that Load Image and Load Recipe of the workflows have one at once, offline."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from ..difffae.common.checkpoint import asset_path
from ..difffae.common.files import atomic_write

log = logging.getLogger(__name__)
EXAMPLES = {"difffae_portrait.png": "source.png", "difffae_edited.jpg": "edited.jpg"}  # name in the input folder -> the bundled file


def put_examples(folder: str | Path) -> None:
    """Copy the examples that the folder lacks. A folder that cannot be written to is left alone, with a line in the log."""
    for name, asset in EXAMPLES.items():
        path = Path(folder) / name
        try:
            if not path.exists():
                with atomic_write(path) as temporary:
                    shutil.copyfile(asset_path(asset), temporary)
        except OSError as error:
            log.warning("DiffFAE: %s could not be put into the input folder (%s); its workflows then need a picture of yours", name, error)
