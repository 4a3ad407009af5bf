"""Errors raised by the library, worded for the person who sees them.

Every message names the input, says what is wrong and what to do. The command line prints the message on one line and exits with status 2.
"""

from __future__ import annotations


class DiffFAEError(Exception):
    """Base class of every error that this package raises on purpose."""


class ImageError(DiffFAEError):
    """A picture cannot be read or written."""


class NoFaceError(DiffFAEError):
    """No usable face was found in a picture."""


class FaceChoiceError(DiffFAEError):
    """The asked-for face does not exist in the picture."""


class HeadModelMismatchError(DiffFAEError):
    """Attributes of two different head models were mixed."""


class AttributeShapeError(DiffFAEError):
    """A field of FaceAttributes has the wrong shape, or batches do not agree."""


class CheckpointError(DiffFAEError):
    """A weights file is missing, truncated, hostile or of another kind."""


class ConfigError(DiffFAEError):
    """An option or a configuration field has a value that cannot work."""


class VideoError(DiffFAEError):
    """A video cannot be decoded to its end."""
