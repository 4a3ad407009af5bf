"""All networks of one profile, each read and built once: for `DiffFAE.from_pretrained` and for ComfyUI's loader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.checkpoint import asset_path, load_checkpoint
from ..common.errors import CheckpointError
from ..common.fingerprint import fingerprint
from ..estimation.choose import Estimator, build_estimator, load_head
from ..estimation.hair_finder import BUNDLED as HAIR_SLOTS
from ..estimation.hair_finder import HairFinder
from ..estimation.network import BUNDLED as NETWORK
from ..faces.landmarker import FaceLandmarker
from ..head.morphable import BUNDLED as HEAD
from ..head.morphable import HeadModel
from ..source.hair_matte import HairMatte
from ..source.identity import IdentityEncoder
from ..source.identity_networks import INSIGHTFACE, NETWORKS, load_identity
from ..source.matte import PersonMatte
from ..source.occluder_matte import OccluderMatte
from ..vocabulary import ESTIMATORS
from .model import DEFAULT_HEAD, DEFAULT_IDENTITY, FINGERPRINTED, KIND, EditModel
from .recipe import CheckpointInfo

DECA = "deca"  # its file's name beside a checkpoint


@dataclass(frozen=True, eq=False)
class Parts:
    """The networks of one profile, frozen, in evaluation mode, on the CPU. What two of them need is one module.

    model       first stage, encoder of the source, denoiser
    head        the 3D head, which all estimators share
    landmarker  finds faces
    identity    tells persons apart
    matte       finds the person
    hair        finds hair
    occluders   finds what lies before a face
    estimators  by kind (vocabulary.ESTIMATORS)
    checkpoint  the model's file
    files       the files of all parts, by "checkpoint", "landmarks", "matte", "hair", "occluders", "identity", "head", "network" and
                "estimator" (DECA)
    """

    model: EditModel
    head: HeadModel
    landmarker: FaceLandmarker
    identity: IdentityEncoder
    matte: PersonMatte
    hair: HairMatte
    occluders: OccluderMatte
    estimators: dict[str, Estimator]
    checkpoint: CheckpointInfo
    files: dict[str, Path]

    def licenses(self) -> dict[str, str]:
        """What every file says of its licence, by the names of `files`; read from the files' headers. Raises CheckpointError."""
        return {part: load_checkpoint(file, parts=()).license for part, file in self.files.items()}


def load_parts(
    path: Path,
    *,
    identity: str | Path | None = None,
    head: str | Path | None = None,
    deca: str | Path | None = None,
    estimators: Iterable[str] | None = None,
) -> Parts:
    """Read a profile's files.

    A model that was trained with another identity network or head than the bundled ones finds their files beside its own, unless they are
    given: arcface-r50.safetensors, say, and deca.safetensors where the head was found so.

    Args:
        path: the model's checkpoint.
        identity: file of the identity network, or what else `load_identity` takes.
        head: file of the head model.
        deca: file of DECA's networks.
        estimators: the kinds to build; None means all that read this head's numbers.

    Raises:
        CheckpointError, HeadModelMismatchError: a file cannot be read, is missing, or does not belong to the model.
        ConfigError: an unknown estimator, or one that does not go with the other files.
    """
    checkpoint = load_checkpoint(path, KIND)
    model = EditModel.from_checkpoint(checkpoint, path)
    if identity is None and model.identity != DEFAULT_IDENTITY:
        if model.identity not in NETWORKS:  # an ONNX file, or a pack of insightface
            raise CheckpointError(f"{path}: this model was trained with '{model.identity}', which is found by --identity alone; give it so")
        identity = _beside(path, model.identity, f"this model was trained with '{model.identity}'", "arcface", "--identity")
    kinds = tuple(estimators) if estimators is not None else ESTIMATORS if model.head == DEFAULT_HEAD else ESTIMATORS[:1]
    if head is None and model.head != DEFAULT_HEAD:
        head = _beside(path, model.head, f"this model was trained with renders of '{model.head}'", "flame", "--head")
        if deca is None:
            deca = _beside(path, DECA, f"DECA estimates the numbers of '{model.head}'", "deca", "--deca")
    own_head = load_head(head, model.head)
    files = {
        "checkpoint": path,
        "landmarks": asset_path("landmarks.safetensors"),
        "matte": asset_path("matte.safetensors"),
        "hair": asset_path("hair.safetensors"),
        "occluders": asset_path("occluders.safetensors"),
        "identity": asset_path("identity.safetensors") if identity is None else Path(identity),
        "head": asset_path(HEAD) if head is None else Path(head),
    }
    matte = PersonMatte.load(files["matte"])

    def hair() -> HairFinder:
        same = model.has_slots and path.resolve() == asset_path(HAIR_SLOTS).resolve()
        return HairFinder(model.slots, matte) if same else HairFinder.load(matte)

    built = {kind: build_estimator(own_head, deca, kind, hair) for kind in kinds}
    if "network" in built:
        files["network"] = asset_path(NETWORK)
    if deca is not None:
        files["estimator"] = Path(deca)
    who = load_identity(identity, model.identity)
    check_fingerprints(model, files, path)
    return Parts(
        model=model,
        head=own_head,
        landmarker=FaceLandmarker.load(files["landmarks"]),
        identity=who,
        matte=matte,
        hair=HairMatte.load(files["hair"]),
        occluders=OccluderMatte.load(files["occluders"]),
        estimators=built,
        checkpoint=CheckpointInfo.of(checkpoint, path),
        files=files,
    )


def file_fingerprint(file: str | Path) -> str | None:
    """The fingerprint of a file that `load_head`, `Deca.load` or `load_identity` take; None for a model of insightface that is named by
    its pack, whose file only insightface knows. Raises CheckpointError."""
    path = Path(str(file).removeprefix(INSIGHTFACE))
    return None if str(file).startswith(INSIGHTFACE) and not path.is_file() else fingerprint(path)


def check_fingerprints(model: EditModel, files: Mapping[str, Path], path: str | Path) -> None:
    """Hold files to what a model states of those that it was trained with; one that states nothing takes any of the right name.

    Args:
        model: the model.
        files: the files that go with it, by the parts of FINGERPRINTED.
        path: the model's own file, for the error.

    Raises:
        CheckpointError: a file with other contents.
    """
    for part, need in model.fingerprints.items():
        if part in files and (have := file_fingerprint(files[part])) != need:
            raise CheckpointError(
                f"{files[part]}: has other weights than the {part} file that {Path(path).name} was trained with (fingerprint "
                f"{(have or 'unknown')[:12]}, not {need[:12]}), so its numbers would mean something else; give that file with "
                f"{FINGERPRINTED[part]}"
            )


def _beside(path: Path, name: str, why: str, kind: str, option: str) -> Path:
    """The file of that name beside the checkpoint, which `convert` of that kind makes. Raises CheckpointError if there is none."""
    file = path.parent / f"{name}.safetensors"
    if not file.is_file():
        todo = f"put that file there (python -m difffae convert {kind} makes it), or give it with {option}"
        raise CheckpointError(f"{file}: is missing, but {why}; {todo}")
    return file
