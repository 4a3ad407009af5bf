"""What an edit is: whose faces, which numbers they shall have, which regions come from others, and how much is painted anew.

Python, the command line and the nodes describe an edit with these classes and run it with the same four steps:
`analysing.analyse`, `moving.move`, `conditioning.conditions`, `pasting.paste`.

Shape letters: B faces, H and W picture height and width, S side of the square crops, N the same in the photograph's own pixels,
K slots, D token size, h and w sides of the slot masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..carry.options import CarryOptions
from ..carry.transparency import Transparency
from ..common.errors import ConfigError
from ..estimation.choose import Estimator
from ..faces.crop import FaceCrop
from ..faces.landmarker import FaceLandmarker
from ..faces.tracking import Gaps
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..source.hair_matte import HairMatte
from ..source.identity import IdentityEncoder
from ..source.matte import PersonMatte
from ..source.occluder_matte import OccluderMatte
from ..source.other_encoders import SourceEncoder
from ..source.slots import SlotEncoder
from ..vocabulary import DENOISE, SAMPLERS, STEPS, SWAPPABLE, TAKEABLE

MOST_STEPS = 1000  # the steps of the noise that the model was trained with
MARGIN = 0.25  # of a square's side: how much of the picture around it a wider canvas has on every side


class Parts(Protocol):
    """The networks that the steps of an edit need, on the device to work on: `DiffFAE`, or what ComfyUI's loader gives."""

    @property
    def image_size(self) -> int:
        """Side of the square crops in pixels."""

    @property
    def device(self) -> torch.device: ...
    @property
    def landmarker(self) -> FaceLandmarker: ...
    @property
    def estimator(self) -> Estimator: ...
    @property
    def head(self) -> HeadModel: ...
    @property
    def encoder(self) -> SlotEncoder | SourceEncoder: ...
    @property
    def matte(self) -> PersonMatte | None:
        """None: the slots alone say where the person is."""

    @property
    def hair(self) -> HairMatte | None:
        """None: the slots alone say where hair is."""

    @property
    def occluders(self) -> OccluderMatte: ...
    @property
    def identity(self) -> IdentityEncoder: ...
    @property
    def carry_options(self) -> CarryOptions | None:
        """How a photograph is carried; None for a model that carries none, as the paper's."""

    def chunks(self, count: int, size: int) -> Iterator[slice]:
        """Slices of at most `size` of `count` rows, which bounds the memory; may report progress and be interrupted."""


@dataclass(frozen=True, eq=False)
class SlotTokens:
    """What the encoder of the source says of B squares.

    tokens  (B,K,D) one token per slot
    masks   (B,K,h,w) where each slot looks, summing to 1 over the slots; None for an encoder that knows no regions
    order   the region of every slot (vocabulary.REGIONS)
    matte   (B,1,S,S) share of person, 0..1; None: the masks say where the person is
    hair    (B,1,S,S) share of hair by a network of its own, 0..1; None: the masks say that too
    """

    tokens: Tensor
    masks: Tensor | None = None
    order: tuple[str, ...] = ()
    matte: Tensor | None = None
    hair: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Faces:
    """Squares around one face each, and what is known of them so far. A batch is the frames of a video, or one picture.

    picture         (B,3,S,S) RGB 0..1, the squares at the model's size
    inside_picture  (B,1,S,S) 1 where a square shows the picture, 0 where it left it
    squares         B places of the squares in their pictures; empty for squares without a picture around them
    original        (B or 1,3,H,W) the pictures that the squares were cut from, turned by `turns`, or None
    landmarks       (B,478,3) in pixels of the squares, or None before faces were looked for
    blendshapes     (B,52) scores of the landmark network, or None
    attributes      the numbers of the 3D head, or None before they were estimated
    slots           tokens and masks, or None before they were encoded
    transparency    the alpha channel of `original`, which is then laid over a plate; None for opaque pictures
    swaps           regions that come from other faces, in the order in which they were asked for
    gaps            which frames do not show the face, and where they took their values from; None: all show it
    turns           quarter turns (see faces.quarter_turns) that brought the pictures, as they were given, upright
    others          B tensors (n,478,3): landmarks of the other faces of the pictures, in pixels of the squares; empty if none are known
    one_picture     whether the rows are the faces of one picture, which paste puts back one after another
    name            what messages call these pictures
    """

    picture: Tensor
    inside_picture: Tensor
    squares: tuple[FaceCrop, ...] = ()
    original: Tensor | None = None
    landmarks: Tensor | None = None
    blendshapes: Tensor | None = None
    attributes: FaceAttributes | None = None
    slots: SlotTokens | None = None
    swaps: tuple[RegionSwap, ...] = ()
    gaps: Gaps | None = None
    turns: int = 0
    others: tuple[Tensor, ...] = ()
    one_picture: bool = False
    transparency: Transparency | None = None
    name: str = "image"

    def __len__(self) -> int:
        return len(self.picture)

    def portrait(self, row: int) -> Portrait:
        """One row of analysed faces."""
        one = slice(row, row + 1)
        assert self.landmarks is not None
        assert self.blendshapes is not None
        assert self.attributes is not None
        return Portrait(
            self.picture[one],
            self.inside_picture[one],
            (self.square(row),),
            self.picture_around(row),
            self.landmarks[one],
            self.blendshapes[one],
            self.attributes[row],
            others=self.others and (self.others_of(row),),
            turns=self.turns,
            transparency=None if self.transparency is None else self.transparency.row(row),
            name=self.name,
        )

    def shows_face(self, row: int) -> bool:
        """Whether a row's picture shows the face at all."""
        return self.gaps is None or self.gaps.present[row if len(self.gaps.present) > 1 else 0]

    def others_of(self, row: int) -> Tensor:
        """(n,478,3), the landmarks of the other faces around one row's."""
        if not self.others:
            return self.picture.new_zeros(0, 478, 3)
        return self.others[row if len(self.others) > 1 else 0]

    def square(self, row: int) -> FaceCrop:
        """The place of one row's square."""
        return self.squares[row if len(self.squares) > 1 else 0]

    def picture_around(self, row: int) -> Tensor:
        """(1,3,H,W), the picture that one row's square was cut from."""
        assert self.original is not None
        row = row if len(self.original) > 1 else 0
        return self.original[row : row + 1]


class Portrait(Faces):
    """The face of one picture, analysed: Faces of one row, of which all but the slots is known."""

    original: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    attributes: FaceAttributes

    @property
    def image(self) -> Tensor:
        """(3,H,W), the whole picture, in which the face is upright."""
        return self.picture_around(0)[0]

    @property
    def crop(self) -> FaceCrop:
        """The place of the square in the picture."""
        return self.square(0)


@dataclass(frozen=True, eq=False)
class RegionSwap:
    """Regions that come from another face.

    reference  whose they are: its slots are needed, and its attributes if its photograph is taken
    regions    some of vocabulary.SWAPPABLE
    strength   0..1: 0 takes nothing, 1 the reference's alone
    photo      take the reference's own pixels, carried to the source's head (carry.region_transfer). False exchanges tokens alone,
               as the paper does (appendix G), and the model repaints the regions
    """

    reference: Faces
    regions: tuple[str, ...] = SWAPPABLE
    strength: float = 1.0
    photo: bool = True

    def __post_init__(self) -> None:
        for name in self.regions:
            if name not in SWAPPABLE:
                raise ConfigError(f"regions: '{name}' cannot be swapped; choose from {', '.join(SWAPPABLE)}")
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"swap: strength {self.strength} is outside 0..1")

    @property
    def empty(self) -> bool:
        """Whether nothing is taken."""
        return not self.regions or self.strength == 0


def swaps_from(givers: Mapping[str, Faces], strengths: Mapping[str, float], photo: bool) -> tuple[RegionSwap, ...]:
    """Swaps by region: those of one face with one strength go together.

    Args:
        givers: region -> whose it shall be.
        strengths: region -> 0..1, 1 where it is not named.
        photo: see RegionSwap.
    """
    found: list[RegionSwap] = []
    for region in SWAPPABLE:
        if region not in givers:
            continue
        one = RegionSwap(givers[region], (region,), strengths.get(region, 1.0), photo)
        same = next((i for i, other in enumerate(found) if other.reference is one.reference and other.strength == one.strength), None)
        if same is None:
            found.append(one)
        else:
            found[same] = replace(one, regions=(*found[same].regions, region))
    return tuple(found)


def share_of(strength: float | Mapping[str, float], name: str) -> float:
    """The strength of one group or region, 1 if it is not named."""
    return float(strength.get(name, 1.0) if isinstance(strength, Mapping) else strength)


def by_what_they_give(pictures: Mapping[str, Any]) -> dict[str, Any]:
    """{"hair_from": picture} -> {"hair": picture}, without those that are None. Raises ConfigError for other names."""
    known = {f"{name}_from": name for name in (*TAKEABLE, *SWAPPABLE)}
    for name in pictures:
        if name not in known:
            raise ConfigError(f"edit: there is no option '{name}'; choose from {', '.join(known)}")
    return {known[name]: picture for name, picture in pictures.items() if picture is not None}


@dataclass(frozen=True)
class Sampling:
    """How the model paints.

    denoise  how much is painted anew, from 0 (nothing: the carried photograph as it is, at once) to 1 (everything, from noise
             alone); `vocabulary.REPAIR` repairs what the photograph could not show. None is 0, or 1 where there is no photograph
             to keep: a model that carries none, or a region that is repainted from its token
    steps    evaluations of the denoiser
    sampler  one of vocabulary.SAMPLERS
    seed     of the noise

    Raises:
        ConfigError: a number outside its range, or an unknown sampler.

    >>> from difffae import Sampling
    >>> Sampling(denoise=0.3, seed=7)
    Sampling(denoise=0.3, steps=10, sampler='dpmpp_2m', seed=7)
    """

    denoise: float | None = None
    steps: int = STEPS
    sampler: str = SAMPLERS[0]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.denoise is not None and not 0 <= self.denoise <= 1:  # false for NaN, too
            raise ConfigError(f"denoise: {self.denoise} is outside 0..1; 0 keeps the carried photograph, 1 paints everything anew")
        if not 1 <= self.steps <= MOST_STEPS:
            raise ConfigError(f"steps: {self.steps} is outside 1..{MOST_STEPS}; about {STEPS} are enough")
        if not -(2**63) <= self.seed < 2**64:  # what PyTorch's generators take
            raise ConfigError(f"seed: has {len(str(abs(self.seed)))} digits; give a number below 2^64")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler: '{self.sampler}' is unknown; choose from {', '.join(SAMPLERS)}")


def possible(asked: Sampling, carries: bool, name: str) -> Sampling:
    """How a model can paint what was asked for.

    Args:
        asked: what for.
        carries: whether the model is shown the moved photograph; one that is not paints everything from noise.
        name: the model's.

    Raises:
        ConfigError: a share of noise that it cannot start from.
    """
    if carries:
        return asked
    if asked.denoise not in (None, 1):
        raise ConfigError(f"denoise: model '{name}' carries no photograph to keep; leave denoise out, or set it to 1")
    return replace(asked, denoise=1.0)


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit of B faces.

    source    the faces, with attributes and slots
    target    the attributes they shall have, of 1 or B faces
    swaps     regions that come from other faces, after those that `source` has already
    sampling  how the model paints

    >>> from difffae import DiffFAE, Edit, RegionSwap, Sampling, read_image
    >>> from difffae.common.checkpoint import asset_path
    >>> model = DiffFAE.from_pretrained("open-256")
    >>> me, other = (model.analyse(read_image(asset_path(name))[0]) for name in ("source.png", "query.png"))
    >>> edit = Edit(me, other.attributes, (RegionSwap(other, ("hair",)),), Sampling(denoise=0))
    >>> edit.record()
    {'swaps': [{'regions': ['hair'], 'strength': 1.0, 'photo': True}], 'denoise': 0}
    """

    source: Faces
    target: FaceAttributes
    swaps: tuple[RegionSwap, ...] = ()
    sampling: Sampling = Sampling()

    @property
    def faces(self) -> Faces:
        """The source with all swaps."""
        swaps = tuple(swap for swap in self.swaps if not swap.empty)
        return replace(self.source, swaps=self.source.swaps + swaps) if swaps else self.source

    @property
    def denoise(self) -> float:
        """How much is painted anew, 0..1."""
        if self.sampling.denoise is not None:
            return self.sampling.denoise
        return 1.0 if any(not swap.photo for swap in self.faces.swaps) else DENOISE

    def record(self) -> dict[str, Any]:
        """What a recipe says of this edit beside its target attributes, as plain JSON values."""
        swaps = [{"regions": list(swap.regions), "strength": swap.strength, "photo": swap.photo} for swap in self.source.swaps + self.swaps]
        painted: dict[str, Any] = {"denoise": self.denoise}
        if self.denoise > 0:
            painted |= {"steps": self.sampling.steps, "sampler": self.sampling.sampler, "seed": self.sampling.seed}
        return ({"swaps": swaps} if swaps else {}) | painted
