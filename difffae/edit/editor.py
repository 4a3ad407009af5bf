"""DiffFAE: the whole edit, from pictures to a picture (paper Fig. 2).

Shape letters: B batch, H and W picture height and width, S side of the square crops, K slots, Z latent channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.options import CarryOptions
from ..carry.transparency import opaque
from ..common.batches import slices
from ..common.checkpoint import asset_path
from ..common.errors import ConfigError
from ..diffusion.acceleration import FastDenoiser, accelerate
from ..diffusion.conditions import Conditions
from ..diffusion.sampling import sample, starting_noise
from ..estimation.choose import Estimator, landmark_fit
from ..estimation.hair_finder import HairFinder
from ..faces.landmarker import FaceLandmarker
from ..faces.quarter_turns import turned
from ..head.adjust import Adjustments, adjust
from ..head.attributes import FaceAttributes, compose_each
from ..head.morphable import HeadModel
from ..head.render import Render, render
from ..source.hair_matte import HairMatte
from ..source.identity import IdentityEncoder
from ..source.matte import PersonMatte
from ..source.occluder_matte import OccluderMatte
from ..source.other_encoders import SourceEncoder
from ..source.slots import SlotEncoder
from ..vocabulary import BUNDLED_MODELS, ESTIMATORS, FRAMINGS, RASTERIZERS, SWAPPABLE, TAKEABLE
from .analysing import Choice, analyse, detect, find_all_faces, identity_tokens, in_picture, with_attributes, with_slots, with_transparency
from .conditioning import conditions
from .description import Edit, Faces, Portrait, RegionSwap, Sampling, by_what_they_give, possible, share_of, swaps_from
from .loading import load_parts
from .model import EditModel
from .moved_photo import MovedPhoto
from .moving import PreparedFaces, framed, move, prepare
from .native import resize
from .pasting import cut_again, paste
from .recipe import CheckpointInfo
from .result import EditResult

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Strength = float | Mapping[str, float]  # one for all, or by group and region


class DiffFAE:
    """All the networks of one profile, ready to edit pictures. Build it with `from_pretrained`.

    >>> from difffae import Adjustments, DiffFAE, read_image, write_image
    >>> from difffae.common.checkpoint import asset_path
    >>> model = DiffFAE.from_pretrained("open-256")
    >>> image, alpha = read_image(asset_path("source.png"))  # or the path of a picture of yours
    >>> result = model.edit(model.analyse(image, alpha=alpha), adjust=Adjustments(yaw=15, smile=0.6))
    >>> write_image("out.png", result.image, result.alpha)
    """

    def __init__(
        self,
        model: EditModel,
        head: HeadModel,
        landmarker: FaceLandmarker,
        identity: IdentityEncoder,
        device: str | torch.device = "cpu",
        checkpoint: CheckpointInfo | None = None,
        estimator: Estimator | None = None,
        matte: PersonMatte | None = None,
        hair: HairMatte | None = None,
        occluders: OccluderMatte | None = None,
    ) -> None:
        """estimator: None is the landmark fit of `head`; the other three: None are the bundled ones. `matte`, `hair` and `carry_options`
        may be changed afterwards; without a matte (None) the slots alone say where the person is, without `hair` where hair is."""
        self.checkpoint = checkpoint  # the file of `model`, for recipes
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.head = head.to(self.device).eval()
        self.landmarker = landmarker.to(self.device).eval()
        self.identity = identity.to(self.device).eval()
        matte = (matte or PersonMatte.load()).to(self.device).eval()
        self.matte: PersonMatte | None = matte
        self.hair: HairMatte | None = (hair or HairMatte.load()).to(self.device).eval()
        self.occluders = (occluders or OccluderMatte.load()).to(self.device).eval()
        self.carry_options = CarryOptions() if model.denoiser.config.carry else None
        self.accelerate("eager")
        self.estimator = (estimator or landmark_fit(self.head, HairFinder.load(matte))).to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "open-256",
        device: str | torch.device = "cpu",
        identity: str | Path | None = None,
        head: str | Path | None = None,
        deca: str | Path | None = None,
        estimator: str = ESTIMATORS[0],
    ) -> DiffFAE:
        """Load a built-in model by name, or a checkpoint by path.

        Args:
            name: "open-256", which ships, or the path of a checkpoint.
            device: where the networks run.
            identity, head, deca: files of the identity network, the head model and DECA's networks, for models that were not trained with
                the bundled ones; those that are not given are looked for beside the checkpoint (`loading.load_parts`).
            estimator: "fit" or "network", which reads the numbers of the open head.

        Raises:
            CheckpointError: a file cannot be read, is missing, or does not belong to the model.
            ConfigError: a missing device, or an estimator that does not go with the files.
        """
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device: '{device}' was asked for, but this PyTorch sees no CUDA device; use cpu")
        path = asset_path(f"{name}.safetensors") if str(name) in BUNDLED_MODELS else Path(name)
        parts = load_parts(path, identity=identity, head=head, deca=deca, estimators=(estimator,))
        readers = parts.estimators[estimator], parts.matte, parts.hair, parts.occluders
        return cls(parts.model, parts.head, parts.landmarker, parts.identity, device, parts.checkpoint, *readers)

    @property
    def image_size(self) -> int:
        """Side of the square crops in pixels."""
        return self.model.image_size

    @property
    def encoder(self) -> SlotEncoder | SourceEncoder:
        """What makes the tokens of the source."""
        return self.model.encoder

    def chunks(self, count: int, size: int) -> Iterator[slice]:
        """Slices of at most `size` of `count` rows (description.Parts)."""
        return slices(count, size)

    def accelerate(self, mode: str) -> None:
        """From now on run the denoiser and the decoder "eager", "compiled", "graphed" or "compiled-graphed" (see `acceleration`). The
        first edit afterwards takes longer. Raises ConfigError."""
        self._predict = FastDenoiser(self.model.denoiser, mode, self.device)
        self._decode = accelerate(self.model.autoencoder.decode, mode, self.device)

    @torch.no_grad()
    def analyse(self, image: Tensor, face: int | None = None, name: str = "image", alpha: Tensor | None = None) -> Portrait:
        """Find a face, crop around it and estimate its attributes.

        Args:
            image: (3,H,W) RGB 0..1.
            face: index into the faces, largest first; None takes the largest and says so if there are others.
            name: what messages call the picture.
            alpha: (1,H,W) of a cut-out, which then moves with the person; None for an opaque picture.

        Raises:
            NoFaceError: the picture shows no face. FaceChoiceError: it has fewer faces.
        """
        pictures, transparency = opaque(image.to(self.device), alpha)
        found = detect(self, pictures)
        if face is None and len(found[0]) > 1:
            log.warning("%d faces in %s; using the largest (choose with --face)", len(found[0]), name)
        return with_transparency(analyse(self, pictures, Choice(face or 0), name, found).portrait(0), transparency)

    @torch.no_grad()
    def analyse_all(self, image: Tensor, name: str = "image", alpha: Tensor | None = None) -> list[Portrait]:
        """All faces of a picture (3,H,W), analysed, the largest first. alpha as for `analyse`. Raises NoFaceError."""
        pictures, transparency = opaque(image.to(self.device), alpha)
        faces = with_attributes(self, find_all_faces(self, pictures, name))
        return [with_transparency(faces.portrait(row), transparency) for row in range(len(faces))]

    @torch.no_grad()
    def prepare(self, source: Portrait | Tensor) -> PreparedFaces:
        """Work out once what depends on a photograph alone, for many edits of it: `edit` takes the result in its place.

        Raises:
            NoFaceError: the picture shows no face. ConfigError: a model that carries no photograph.
        """
        if self.carry_options is None:
            raise ConfigError(
                f"prepare: model '{self.model.name}' carries no photograph, so there is nothing to prepare; edit the portrait"
            )
        return prepare(self, with_slots(self, self._portrait(source, "source")))

    def target(
        self,
        source: Portrait,
        *,
        pose: Portrait | None = None,
        expression: Portrait | None = None,
        light: Portrait | None = None,
        change: Adjustments | None = None,
        strength: Strength = 1.0,
        framing: str = FRAMINGS[0],
    ) -> FaceAttributes:
        """The attributes an edit asks for; nothing asked for gives the source's own object.

        Args:
            pose, expression, light: whose they shall be; None keeps the source's.
            change: numbers, after that.
            strength: 0..1, how far to go towards the givers, for all groups or by name.
            framing: "source" keeps the camera, so that the shoulders stay where they are and only the head turns; "query" takes
                the pose giver's camera too, as the paper does.

        Raises:
            ConfigError: an unknown framing, or a strength outside 0..1.
        """
        if framing not in FRAMINGS:
            raise ConfigError(f"framing: '{framing}' is unknown; choose from {', '.join(FRAMINGS)}")
        givers = {"pose": pose, "expression": expression, "light": light}
        numbers = {name: giver.attributes for name, giver in givers.items() if giver is not None}
        own = source.attributes
        wanted = compose_each(own, {name: (face, share_of(strength, name)) for name, face in numbers.items()}, framing == "source")
        return adjust(wanted, change, self.head.expression_names) if change is not None else wanted

    @torch.no_grad()
    def edit(
        self,
        source: Portrait | PreparedFaces | Tensor,
        query: Portrait | Tensor | None = None,
        take: Iterable[str] = TAKEABLE,
        *,
        adjust: Adjustments | None = None,
        swaps: Sequence[RegionSwap] = (),
        strength: Strength = 1.0,
        framing: str = FRAMINGS[0],
        sampling: Sampling | None = None,
        progress: Progress | None = None,
        **pictures: Portrait | Tensor | None,
    ) -> EditResult:
        """Give the source other attributes and other regions, in one run. Asking for nothing returns the source bit for bit.

        Args:
            source: the portrait, (3,H,W) RGB 0..1, analysed, or prepared for many edits.
            query: whose attributes named in `take` the source gets.
            adjust: numbers, after that.
            swaps: regions that come from other portraits.
            strength: 0..1, for all, or by name of a group (pose, expression, light) or region (hair, clothes, background).
            framing: see `target`.
            sampling: how the model paints; denoise 0 is the moved photograph alone, at once.
            progress: called as (done, total) after each step of the sampler.
            pictures: each of them its own portrait, before the query's: pose_from, expression_from, light_from, hair_from,
                clothes_from, background_from.

        Raises:
            NoFaceError: a picture shows no face. ConfigError: something that cannot be done.
        """
        prepared = source if isinstance(source, PreparedFaces) else None
        portrait = self._portrait(source.faces if isinstance(source, PreparedFaces) else source, "source")
        givers = {name: self._portrait(own, f"{name} picture") for name, own in by_what_they_give(pictures).items()}
        common = self._portrait(query, "query") if query is not None else None
        for name in (take := tuple(take)):
            if name not in TAKEABLE:
                raise ConfigError(f"take: '{name}' cannot be taken; choose from {', '.join(TAKEABLE)}")
            if common is not None:
                givers.setdefault(name, common)
        wanted = self.target(
            portrait, **{name: givers[name] for name in TAKEABLE if name in givers}, change=adjust, strength=strength, framing=framing
        )
        shares = {name: share_of(strength, name) for name in SWAPPABLE}
        taken = (*swaps, *swaps_from(givers, shares, self.carry_options is not None))
        edit = Edit(portrait, wanted, self._ready(taken), sampling or Sampling())
        return self.run(edit, progress, prepared)

    def edit_all(
        self, source: Sequence[Portrait] | Tensor, each: Sequence[Adjustments | None] = (), adjust: Adjustments | None = None, **asked: Any
    ) -> list[EditResult]:
        """Edit all faces of one picture, one after another.

        Args:
            source: the picture (3,H,W), or its faces, as `analyse_all` gives them.
            each: numbers for single faces, in their order, in place of `adjust`; None leaves a face its own.
            adjust: numbers for all faces after these.
            asked: the other arguments of `edit`, alike for all faces.

        Returns:
            one result per face; the image of the last one shows all edits.

        Raises:
            NoFaceError, ConfigError: as `edit`; or numbers for more faces than there are.
        """
        faces = self.analyse_all(source, "source") if isinstance(source, Tensor) else list(source)
        if len(each) > len(faces):
            raise ConfigError(f"numbers for {len(each)} faces were given, but the picture shows {len(faces)}; give one per face")
        results: list[EditResult] = []
        for index, face in enumerate(faces):
            now = in_picture(face, results[-1].image, results[-1].alpha) if results else face
            results.append(self.edit(now, adjust=each[index] if index < len(each) else adjust, **asked))
        return results

    def swap(
        self,
        source: Portrait | Tensor,
        reference: Portrait | Tensor,
        regions: Iterable[str] = SWAPPABLE,
        strength: float = 1.0,
        photo: bool | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> EditResult:
        """Take hair, clothes or background from a reference: a short form of `edit` with one swap.

        Args:
            photo: take the reference's own pixels, carried to the source's head; False exchanges slot tokens alone, as the paper does
                (appendix G); None does what the model can.
        """
        with torch.no_grad():
            portrait = self._portrait(source, "source")
            photo = self.carry_options is not None if photo is None else photo
            one = RegionSwap(self._portrait(reference, "reference"), tuple(regions), strength, photo)
        return self.edit(portrait, swaps=(one,), sampling=sampling, progress=progress)

    @torch.no_grad()
    def run(self, edit: Edit, progress: Progress | None = None, prepared: PreparedFaces | None = None) -> EditResult:
        """Carry out an edit of one face whose source was analysed; prepared: of that source, which serves edits without further swaps."""
        edit = replace(edit, source=with_slots(self, edit.source), target=framed(self, edit), sampling=self.sampling(edit.sampling))
        faces = edit.faces
        moved = move(self, edit, None if edit.swaps else prepared)
        size = faces.picture.shape[-1]
        shown = self.render(edit.target, size)
        if bool(moved.unchanged.all()):
            unmoved = faces if moved.stage is None else moved.stage.applied(faces)
            image, crop = turned(unmoved.picture_around(0), -faces.turns), unmoved.picture
        else:
            image, crop = paste(faces, self.painted(edit, moved, shown.image, progress), moved)
        image, alpha = cut_again(faces, image, moved)
        masks = None if faces.slots is None else faces.slots.masks
        if masks is not None:
            masks = F.interpolate(masks, (size, size), mode="bilinear", align_corners=False)
        carried, validity = (moved.square(values) for values in (moved.image, moved.validity))
        carried, validity = resize(carried, size).clamp(0, 1), resize(validity, size, "bilinear")
        return EditResult(image[0], crop, shown.image, masks, edit.target, carried, validity, edit, None if alpha is None else alpha[0])

    def sampling(self, asked: Sampling) -> Sampling:
        """How this model can paint what was asked for. Raises ConfigError."""
        return possible(asked, self.carry_options is not None, self.model.name)

    @torch.no_grad()
    def painted(self, edit: Edit, moved: MovedPhoto, shown: Tensor | None = None, progress: Progress | None = None) -> Tensor:
        """What the model paints over moved photographs: (B,3,S,S), or, where nothing is to be painted, their squares (B,3,N,N).

        All rows start from one noise, so that frames of a video differ by what is asked for alone.

        Args:
            edit: of 1 or B faces, with slots; its `sampling` one that the model can do.
            moved: what `move` made of it.
            shown: (B,3,S,S) the 3D head with the target's numbers, rendered if it is not given.
        """
        if edit.denoise == 0:
            return moved.square(moved.image)
        faces = edit.faces
        shown = self.render(edit.target, faces.picture.shape[-1]).image if shown is None else shown
        carried = moved if self.carry_options is not None else None
        told, start = conditions(self.model.autoencoder, faces, identity_tokens(self, faces), shown, carried)
        return self._draw(told, start, edit, progress)

    def render(self, attributes: FaceAttributes, size: int | None = None, rasterizer: str = RASTERIZERS[0]) -> Render:
        """The 3D head alone, on a black background; with wrinkles where attributes and estimator have DECA's detail.

        Args:
            size: side in pixels, the model's by default.
            rasterizer: one of vocabulary.RASTERIZERS.

        Raises:
            ConfigError: a rasterizer that is not installed.
        """
        return render(self.head, attributes.to(self.device), size or self.model.image_size, self.estimator.surface, rasterizer)

    def _portrait(self, picture: Faces | Tensor, name: str) -> Portrait:
        if isinstance(picture, Tensor):
            return self.analyse(picture, name=name)
        assert isinstance(picture, Portrait)
        return picture

    def _ready(self, swaps: Sequence[RegionSwap]) -> tuple[RegionSwap, ...]:
        """Swaps whose references have their slots. Raises ConfigError for what this model cannot take."""
        encoded: dict[int, Faces] = {}  # one face may give several regions
        for one in swaps:
            if one.photo and self.carry_options is None:
                raise ConfigError(f"photo: model '{self.model.name}' carries no photograph; swap its tokens alone (photo=False)")
            self.model.slots  # noqa: B018  (raises for a model that knows no regions)
            if not one.empty and id(one.reference) not in encoded:
                encoded[id(one.reference)] = with_slots(self, one.reference)
        return tuple(replace(one, reference=encoded.get(id(one.reference), one.reference)) for one in swaps)

    def _draw(self, told: Conditions, start: Tensor | None, edit: Edit, progress: Progress | None) -> Tensor:
        """What the model paints (B,3,S,S), from noise over the start's latents, or from noise alone without one."""
        how = edit.sampling
        callback = None if progress is None else (lambda done, total, _: progress(done, total))
        noise = starting_noise(told.render.shape, how.seed, told.render.device, shared=True)
        drawn = sample(self._predict, told, how.steps, how.sampler, noise=noise, start=start, denoise=edit.denoise, callback=callback)
        return self._decode(drawn).clamp(0, 1)
