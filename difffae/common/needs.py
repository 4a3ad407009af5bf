"""What is needed beyond requirements.txt, and the one line that says so where it is missing."""

from __future__ import annotations

from .errors import ConfigError

# what is imported -> the extra of pyproject.toml that brings it
EXTRAS = {
    "accelerate": "train",
    "tensorboard": "train",
    "transformers": "train",
    "ray": "prepare",
    "scipy": "prepare",
    "onnx": "arcface",
    "onnxruntime": "arcface",
    "insightface": "insightface",
}
# what is imported -> what pip calls it, where that differs
PACKAGES = {"PIL": "pillow"}


def missing(what: str, error: ImportError, otherwise: str = "") -> ConfigError:
    """The error for a package that could not be imported.

    Args:
        what: What needs it, such as a command or an option.
        error: What the import raised.
        otherwise: What to do in place of installing it, such as "use --workers".

    >>> from difffae.common.needs import missing
    >>> print(missing("prepare portraits", ModuleNotFoundError(name="scipy.ndimage")))
    prepare portraits: needs scipy, which is not installed; pip install scipy (or the extra 'prepare')
    """
    name = (error.name or str(error)).partition(".")[0]
    extra = f" (or the extra '{EXTRAS[name]}')" if name in EXTRAS else ""
    tail = f", or {otherwise}" if otherwise else ""
    return ConfigError(f"{what}: needs {name}, which is not installed; pip install {PACKAGES.get(name, name)}{extra}{tail}")
