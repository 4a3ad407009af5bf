"""What an edit is: whose faces, which numbers they shall have, which regions come from others, and how much is painted anew.

Python, the command line and the nodes describe an edit with these classes and run it with the same four steps:
`analysing.analyse`, `moving.move`, `conditioning.conditions`, `pasting.paste`.

Shape letters: B faces, H and W picture height and width, S side of the square crops, N the same in the photograph's own pixels,
K slots, D token size, h and w sides of the slot masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ..carry.options import CarryOptions
from ..carry.transparency import Transparency
from ..common.batches import expanded
from ..common.errors import ConfigError
from ..estimation.choose import Estimator
from ..faces.crop import FaceCrop
from ..faces.landmarker import FaceLandmarker
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..source.identity import IdentityEncoder
from ..source.matte import PersonMatte
from ..source.other_encoders import SourceEncoder
from ..source.slots import SlotEncoder
from ..vocabulary import DENOISE, SAMPLERS, STEPS, SWAPPABLE

if TYPE_CHECKING:
    from .staging import Stage

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
    """

    tokens: Tensor
    masks: Tensor | None = None
    order: tuple[str, ...] = ()
    matte: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Faces:
    """Squares around one face each, and what is known of them so far. A batch is the frames of a video, or one picture.

    picture         (B,3,S,S) RGB 0..1, the squares at the model's size
    inside_picture  (B,1,S,S) 1 where a square shows the picture, 0 where it left it
    squares         B places of the squares in their pictures; empty for squares without a picture around them
    original        (B or 1,3,H,W) the pictures that the squares were cut from, or None
    landmarks       (B,478,3) in pixels of the squares, or None before faces were looked for
    blendshapes     (B,52) scores of the landmark network, or None
    attributes      the numbers of the 3D head, or None before they were estimated
    slots           tokens and masks, or None before they were encoded
    transparency    the alpha channel of `original`, which is then laid over a plate; None for opaque pictures
    swaps           regions that come from other faces, in the order in which they were asked for
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
            transparency=None if self.transparency is None else self.transparency.row(row),
            name=self.name,
        )

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
        """(3,H,W), the whole picture."""
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


@dataclass(frozen=True)
class Sampling:
    """How the model paints.

    denoise  how much is painted anew, from 0 (nothing: the carried photograph as it is, at once) to 1 (everything, from noise
             alone); None is `vocabulary.DENOISE`, or 1 where there is no photograph to keep: a model that carries none, or a
             region that is repainted from its token
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
        if self.steps < 1:
            raise ConfigError(f"steps: {self.steps} is too few; at least 1 is needed")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler: '{self.sampler}' is unknown; choose from {', '.join(SAMPLERS)}")


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


@dataclass(frozen=True, eq=False)
class ReferenceDetail:
    """Where a carried photograph shows a reference, for detail that is finer than the squares' pixels.

    faces             the reference, with squares and original
    offset_to_source  (B,2,S,S) position in the reference's square minus position here, in pixels (x right, y down)
    light_ratio       (B,3,S,S) light here / light in the reference
    person_alpha      (B,1,S,S) share of the moved person
    owner_share       (B,1,S,S) share of the reference in the picture
    """

    faces: Faces
    offset_to_source: Tensor
    light_ratio: Tensor
    person_alpha: Tensor
    owner_share: Tensor

    def detail(self, row: int, weight: Tensor, square: FaceCrop) -> tuple[Tensor, FaceCrop, Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `compositing.native_detail` for one row, where the carried photograph counts by weight (B,1,S,S).

        square: of this row in the reference, of the size of the moved photographs, which hold the rest.
        """
        rows = slice(row, row + 1)
        maps, share = (
            [expanded(values.to(weight), len(weight))[rows] for values in group]
            for group in ((self.offset_to_source, self.light_ratio, self.person_alpha), (self.owner_share,))
        )
        original = self.faces.picture_around(row).to(weight)
        return original, square, *maps, share[0] * weight[rows]  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class MovedPhoto:
    """The photographs of B faces, moved and relit to their target attributes, in their own pixels.

    Where hair or a hat goes on beyond the squares, all tensors are of a wider canvas around them: then N and S below are the sides of
    that canvas, N + 2 margin and S times as much as it is wider.

    image             (B,3,N,N) RGB 0..1
    validity          (B,1,N,N) 1 where the pixels can be trusted, 0 where nothing is known
    offset_to_source  (B,2,S,S) position in the source minus position here, in pixels of these maps (x right, y down)
    light_ratio       (B,3,S,S) light here / light in the source
    person_alpha      (B,1,S,S) share of the moved person, the rest being background that stayed
    owner_share       (B,1,S,S) share of the pixels that are the source's own rather than a reference's or a guess
    unchanged         (B,) bool: nothing was asked of this face, so its pixels stay as they are
    references        those of the swaps whose photographs are larger than their squares
    stage             other clothes and another background in the whole photographs, which were moved so; None without any
    person_before     (B or 1,1,N,N) share of the person before it was moved, of a cut-out; None for opaque pictures
    person_after      (B,1,N,N) the same afterwards, with hair of somebody else
    margin            pixels of `image` around the square on every side, 0 without a wider canvas
    """

    image: Tensor
    validity: Tensor
    offset_to_source: Tensor
    light_ratio: Tensor
    person_alpha: Tensor
    owner_share: Tensor
    unchanged: Tensor
    references: tuple[ReferenceDetail, ...] = ()
    stage: Stage | None = None
    person_before: Tensor | None = None
    person_after: Tensor | None = None
    margin: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def side(self) -> int:
        """Side of the squares in pixels of `image`."""
        return self.image.shape[-1] - 2 * self.margin

    @property
    def size(self) -> int:
        """Side of the squares in pixels of the maps."""
        wide = self.offset_to_source.shape[-1]
        return round(wide / (1 + 2 * MARGIN)) if self.margin else wide

    def square(self, values: Tensor) -> Tensor:
        """The squares alone (B,C,N,N) of `image`, `validity` or another picture of their size."""
        inner = slice(self.margin, self.margin + self.side)
        return values[..., inner, inner]
