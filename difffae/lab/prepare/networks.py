"""The networks that training data is made with, and what tells their files apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

from ...common.checkpoint import asset_path
from ...common.errors import ConfigError
from ...edit.loading import file_fingerprint
from ...edit.model import FINGERPRINTED
from ...estimation.choose import Estimator, build_estimator, load_head
from ...faces.landmarker import FaceLandmarker
from ...head.morphable import BUNDLED as HEAD
from ...head.morphable import HeadModel
from ...source.identity import IdentityEncoder
from ...source.identity_networks import BUNDLED as IDENTITY
from ...source.identity_networks import load_identity
from ...source.matte import PersonMatte


class Networks:
    """The networks of one process, frozen, each read when it is first asked for. Reading raises CheckpointError."""

    def __init__(self, head: str | None = None, deca: str | None = None, identity: str | None = None) -> None:
        """Files as for `load_estimator` and `load_identity`; None means the open ones."""
        self.files: dict[str, str | Path | None] = {
            "head": head or asset_path(HEAD), "estimator": deca, "identity": identity or asset_path(IDENTITY),
        }  # fmt: skip

    @cached_property
    def landmarker(self) -> FaceLandmarker:
        return FaceLandmarker.load()

    @cached_property
    def head(self) -> HeadModel:
        return load_head(self.files["head"]).requires_grad_(False)

    @cached_property
    def estimator(self) -> Estimator:
        return build_estimator(self.head, self.files["estimator"]).requires_grad_(False)

    @cached_property
    def identity(self) -> IdentityEncoder:
        return load_identity(self.files["identity"])

    @cached_property
    def matte(self) -> PersonMatte:
        return PersonMatte.load()

    def fingerprints(self, *parts: str) -> dict[str, str]:
        """Of the files of some parts of FINGERPRINTED, by default all, as far as there are files whose contents are known."""
        found = {part: file_fingerprint(file) for part in parts or FINGERPRINTED if (file := self.files[part]) is not None}
        return {part: value for part, value in found.items() if value is not None}


@lru_cache(maxsize=1)
def load_networks(head: str | None = None, deca: str | None = None, identity: str | None = None) -> Networks:
    """The networks of these files, one set per process."""
    return Networks(head, deca, identity)


def agreed(path: str | Path, stated: Mapping[str, str], used: Mapping[str, str], done: str = "made") -> dict[str, str]:
    """Hold the files that are used now to those that something was made with.

    Args:
        path: what was made, for the error.
        stated: the fingerprints that it states; parts that it does not state may be any.
        used: those of the files in use.
        done: what was done with the files that it states.

    Returns:
        Both together.

    Raises:
        ConfigError: where they differ.
    """
    for part, option in FINGERPRINTED.items():
        if part in stated and part in used and stated[part] != used[part]:
            raise ConfigError(
                f"{path}: was {done} with another {part} file (fingerprint {stated[part][:12]}, not {used[part][:12]}); give that one with "
                f"{option} if the command takes it, or make this anew"
            )
    return {**stated, **used}
