"""DiffFAE: the whole edit, from pictures to a picture (paper Fig. 2; design sections 2 and 5).

Shape letters: B batch, H and W picture height and width, Z latent channels, h and w latent height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.carry import Carried, carry, nothing_carried
from ..carry.compositing import composite_weight, keep_grey, native_detail, with_lent
from ..carry.person_layer import CarryOptions
from ..carry.region_parts import FaceAreas
from ..carry.region_transfer import reference_parts, source_parts, take_regions
from ..common.checkpoint import asset_path
from ..common.errors import ConfigError, FaceChoiceError, NoFaceError
from ..diffusion.acceleration import FastDenoiser, accelerate
from ..diffusion.conditions import Conditions
from ..diffusion.sampling import sample
from ..estimation.choose import KINDS as ESTIMATORS
from ..estimation.choose import Estimator, estimate, landmark_fit
from ..estimation.hair_finder import HairFinder
from ..faces.crop import FaceCrop, crop_square, extract, paste
from ..faces.landmarker import FaceLandmarker
from ..head.adjust import Adjustments, adjust
from ..head.attributes import FaceAttributes, compose
from ..head.morphable import HeadModel
from ..head.render import Render, render
from ..source.identity import IdentityEncoder
from ..source.matte import PersonMatte
from ..source.regions import Layers, kept_pixels, layers, swapped_region
from ..source.slots import swap
from .loading import load_parts
from .model import EditModel
from .recipe import CheckpointInfo

log = logging.getLogger(__name__)

TAKEABLE = ("pose", "expression", "light")
SWAPPABLE = ("hair", "clothes", "background")
FRAMINGS = ("source", "query")
BUILT_IN = {"open-256": "open-256.safetensors"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture with one chosen face, analysed.

    image (3,H,W) the whole picture; picture (1,3,S,S) the square crop at the model's size; known (1,1,S,S) 0 where the crop left the
    picture; landmarks (1,478,3) in crop pixels; blendshapes (1,52) scores; attributes the fitted numbers.
    """

    name: str
    image: Tensor
    crop: FaceCrop
    picture: Tensor
    known: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    attributes: FaceAttributes


@dataclass(frozen=True, eq=False)
class EditResult:
    """image (3,H,W) in the source's framing; crop (1,3,S,S) the edited square; render (1,3,S,S) the target's 3DMM render;
    masks (1,K,S,S) the source's slot masks, or None without slots; carried (1,3,S,S) the carried photograph; validity (1,1,S,S)."""

    image: Tensor
    crop: Tensor
    render: Tensor
    masks: Tensor | None
    attributes: FaceAttributes
    carried: Tensor
    validity: Tensor


class DiffFAE:
    """All the networks of one profile, ready to edit pictures. Build it with `from_pretrained`."""

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
    ) -> None:
        """estimator: None is the landmark fit of `head`; matte: None is the bundled one. `matte` and `carry_options` may be changed
        afterwards; without a matte (None) the slots alone say where the person is."""
        self.checkpoint = checkpoint  # the file of `model`, for recipes
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.head = head.to(self.device).eval()
        self.landmarker = landmarker.to(self.device).eval()
        self.identity = identity.to(self.device).eval()
        matte = (matte or PersonMatte.load()).to(self.device).eval()
        self.matte: PersonMatte | None = matte
        self.carry_options = CarryOptions()
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
        path = asset_path(BUILT_IN[str(name)]) if str(name) in BUILT_IN else Path(name)
        parts = load_parts(path, identity=identity, head=head, deca=deca, estimators=(estimator,))
        reader = parts.estimators[estimator]
        return cls(parts.model, parts.head, parts.landmarker, parts.identity, device, parts.checkpoint, reader, parts.matte)

    def accelerate(self, mode: str) -> None:
        """From now on run the denoiser and the decoder "eager", "compiled", "graphed" or "compiled-graphed" (see `acceleration`). The
        first edit afterwards takes longer. Raises ConfigError."""
        self._predict = FastDenoiser(self.model.denoiser, mode, self.device)
        self._decode = accelerate(self.model.autoencoder.decode, mode, self.device)

    @torch.no_grad()
    def analyse(self, image: Tensor, face: int | None = None, name: str = "image") -> Portrait:
        """Find a face, crop around it and estimate its attributes.

        image (3,H,W) RGB 0..1; face is an index into the faces, largest first; None takes the largest and says so.
        Raises NoFaceError, FaceChoiceError.
        """
        faces = self.landmarker.detect(image.to(self.device))[0]
        if not faces:
            raise NoFaceError(f"{name}: no face found; use a picture in which a face is at least about 40 pixels high and not in profile")
        if face is None:
            if len(faces) > 1:
                log.warning("%d faces in %s; using the largest (choose with --face)", len(faces), name)
            face = 0
        if not 0 <= face < len(faces):
            raise FaceChoiceError(
                f"{name}: face {face} was asked for, but it shows {len(faces)}; choose 0 to {len(faces) - 1}, largest first"
            )
        return self.analyse_face(image, faces[face].landmarks, faces[face].blendshapes, name)

    @torch.no_grad()
    def analyse_face(self, image: Tensor, landmarks: Tensor, blendshapes: Tensor, name: str = "image") -> Portrait:
        """As `analyse`, for known landmarks (478,3) in picture pixels and scores (52,)."""
        image = image.to(self.device)
        crop = crop_square(landmarks.to(self.device), image.shape[-2:], self.model.image_size)
        picture, known = extract(image[None], crop)
        inside = crop.to_crop(landmarks.to(self.device))[None]
        attributes = estimate(self.estimator, picture, inside, blendshapes[None].to(self.device), known)
        return Portrait(name, image, crop, picture, known, inside, blendshapes[None].to(self.device), attributes)

    def target(
        self,
        source: Portrait,
        *,
        pose: Portrait | None = None,
        expression: Portrait | None = None,
        light: Portrait | None = None,
        change: Adjustments | None = None,
        strength: float = 1.0,
        framing: str = "source",
    ) -> FaceAttributes:
        """The attributes an edit asks for. framing "source" keeps the camera, so that the shoulders stay where they are and only
        the head turns; "query" takes the pose giver's camera too, as the paper does."""
        if framing not in FRAMINGS:
            raise ConfigError(f"framing: '{framing}' is unknown; choose from {', '.join(FRAMINGS)}")
        own = source.attributes
        wanted = compose(
            own,
            pose=pose.attributes if pose else None,
            expression=expression.attributes if expression else None,
            light=light.attributes if light else None,
            strength=strength,
        )
        if framing == "source" and wanted is not own:
            wanted = replace(wanted, camera=own.camera.expand(len(wanted), -1))
        return adjust(wanted, change, self.head.expression_names) if change is not None else wanted

    @torch.no_grad()
    def edit(
        self,
        source: Portrait | Tensor,
        query: Portrait | Tensor | None = None,
        take: Iterable[str] = TAKEABLE,
        pose_from: Portrait | Tensor | None = None,
        expression_from: Portrait | Tensor | None = None,
        light_from: Portrait | Tensor | None = None,
        adjust: Adjustments | None = None,
        strength: float = 1.0,
        framing: str = "source",
        steps: int = 20,
        sampler: str = "dpmpp_2m",
        seed: int = 0,
        preview: bool = False,
        start_strength: float | None = None,
        progress: Progress | None = None,
    ) -> EditResult:
        """Give the source the attributes named in `take` of the query, or each of another picture, or by numbers.

        Taking nothing returns the source bit for bit. preview stops after the carried photograph, without diffusion. With a
        start_strength below 1 the sampler starts from the carried photograph under that share of the noise schedule, and does only
        that share of the steps; None is the model's own (ScheduleConfig.start).
        """
        if preview and not self.model.denoiser.config.carry:
            raise ConfigError(f"preview: model '{self.model.name}' carries no photograph; leave preview out")
        take = tuple(take)
        for name in take:
            if name not in TAKEABLE:
                raise ConfigError(f"take: '{name}' cannot be taken; choose from {', '.join(TAKEABLE)}")
        portrait = self._portrait(source, "source")
        common = self._portrait(query, "query") if query is not None else None
        givers = {}
        for name, own in (("pose", pose_from), ("expression", expression_from), ("light", light_from)):
            givers[name] = self._portrait(own, f"{name} picture") if own is not None else (common if name in take else None)
        wanted = self.target(portrait, **givers, change=adjust, strength=strength, framing=framing)
        tokens, masks = self.model.encoder(portrait.picture)
        if self.model.denoiser.config.carry:
            shows = self.layers(portrait.picture, masks)
            carried = carry(portrait.picture, portrait.attributes, wanted, self.head, portrait.known, shows, self.carry_options)
        else:
            carried = nothing_carried(portrait.picture)
        shown = self.render(wanted, portrait.picture.shape[-1])
        weight = torch.ones_like(carried.validity)
        if wanted is portrait.attributes:
            edited = portrait.picture
        elif preview:
            edited = carried.image
        else:
            conditions = self._conditions(portrait, tokens, shown, carried.image, carried.validity)
            begin = carried.image if self.model.denoiser.config.carry else None
            share = self.model.schedule.start if start_strength is None else start_strength
            drawn = self._draw(conditions, steps, sampler, seed, progress, begin, share)
            weight = composite_weight(drawn, carried.image, carried.validity)
            edited = torch.lerp(drawn, carried.image, weight)
        return self._result(portrait, edited, shown, masks, wanted, carried, weight)

    @torch.no_grad()
    def swap(
        self,
        source: Portrait | Tensor,
        reference: Portrait | Tensor,
        regions: Iterable[str] = SWAPPABLE,
        strength: float = 1.0,
        steps: int = 20,
        sampler: str = "dpmpp_2m",
        seed: int = 0,
        progress: Progress | None = None,
        photo: bool | None = None,
    ) -> EditResult:
        """Take hair, clothes or background from a reference by exchanging slot tokens (paper appendix G).

        photo: take the reference's own pixels too, carried to the source's head (region_transfer); False exchanges tokens alone, as the
        paper does; None does what the model can.
        """
        regions = tuple(regions)
        if photo is None:
            photo = self.model.denoiser.config.carry
        elif photo and not self.model.denoiser.config.carry:
            raise ConfigError(f"photo: model '{self.model.name}' carries no photograph; swap its tokens alone (photo=False)")
        for name in regions:
            if name not in SWAPPABLE:
                raise ConfigError(f"regions: '{name}' cannot be swapped; choose from {', '.join(SWAPPABLE)}")
        slots = self.model.slots
        portrait, giver = self._portrait(source, "source"), self._portrait(reference, "reference")
        tokens, masks = slots(portrait.picture)
        other, other_masks = slots(giver.picture)
        order = slots.config.order
        mixed = swap(tokens, other, regions, strength, order)
        asked = bool(regions) and strength > 0
        shown = self.render(portrait.attributes)
        carried = replace(nothing_carried(portrait.picture), validity=portrait.known)
        whose = torch.ones_like(portrait.known)
        taken = None
        if photo and asked:
            picture, known, own = portrait.picture, portrait.known, portrait.attributes
            shows, theirs = (cast(Layers, self.layers(*of)) for of in ((picture, masks), (giver.picture, other_masks)))
            areas = FaceAreas.of(self.head, own, picture)
            still = carry(picture, own, own, self.head, known, shows, self.carry_options)
            base = source_parts(still, picture, known, areas, areas, shows, self.carry_options)
            taken = reference_parts(giver.picture, giver.known, giver.attributes, own, areas, self.head, theirs, self.carry_options)
            mixed_parts = take_regions(base, taken, regions, areas, strength, self.carry_options)
            carried, whose = mixed_parts.carried, mixed_parts.whose
        elif asked:
            size = (carried.image.shape[-2], carried.image.shape[-1])
            keep = kept_pixels(swapped_region(masks, other_masks, regions, order), self._face_mask(shown), size)
            carried = replace(carried, validity=keep * portrait.known)
        edited = portrait.picture
        if asked:
            conditions = self._conditions(portrait, mixed, shown, carried.image, carried.validity)
            begin = (carried.image, self.model.schedule.start) if photo else (None, 1.0)
            drawn = self._draw(conditions, steps, sampler, seed, progress, *begin)
            weight = composite_weight(drawn, carried.image, carried.validity)
            edited = torch.lerp(drawn, carried.image, weight)
            whose = whose * (weight if photo else carried.validity)
        borrowed = None
        if taken is not None:
            of_giver = taken.carried
            borrowed = native_detail(giver.image[None], giver.crop, of_giver.flow, of_giver.ratio, of_giver.front, whose[:, 1:])
        return self._result(portrait, edited, shown, masks, portrait.attributes, carried, whose[:, :1], borrowed)

    def render(self, attributes: FaceAttributes, size: int | None = None) -> Render:
        """The 3DMM render alone, on a black background; with wrinkles where attributes and estimator have DECA's detail."""
        return render(self.head, attributes.to(self.device), size or self.model.image_size, self.estimator.surface)

    def layers(self, picture: Tensor, masks: Tensor | None) -> Layers | None:
        """What a square (B,3,S,S) shows where, by the slots' masks of it (B,K,h,w) and the matte of the person; None without slots."""
        matte = None if self.matte is None else self.matte(picture)
        return None if masks is None else layers(masks, self.model.slots.config.order, picture, matte)

    def _portrait(self, picture: Portrait | Tensor, name: str) -> Portrait:
        return picture if isinstance(picture, Portrait) else self.analyse(picture, name=name)

    def _face_mask(self, shown: Render) -> Tensor:
        return self.head.skin_mask(shown.raster)[:, None]

    def _conditions(self, portrait: Portrait, tokens: Tensor, shown: Render, carried: Tensor, validity: Tensor) -> Conditions:
        identity = self.identity.embed(portrait.picture, portrait.landmarks[..., :2])
        return self.model.conditions(tokens, identity, shown.image, carried, validity)

    def _draw(
        self,
        conditions: Conditions,
        steps: int,
        sampler: str,
        seed: int,
        progress: Progress | None,
        start: Tensor | None = None,
        start_strength: float = 1.0,
    ) -> Tensor:
        latents = None if start is None or start_strength == 1 else self.model.autoencoder.encode(start)
        drawn = sample(
            self._predict,
            conditions,
            steps,
            sampler,
            seed,
            start=latents,
            start_strength=1.0 if latents is None else start_strength,
            callback=None if progress is None else (lambda done, total, _: progress(done, total)),
        )
        return self._decode(drawn).clamp(0, 1)

    def _result(
        self,
        portrait: Portrait,
        edited: Tensor,
        shown: Render,
        masks: Tensor | None,
        wanted: FaceAttributes,
        carried: Carried,
        weight: Tensor,
        borrowed: Tensor | None = None,
    ) -> EditResult:
        """weight (1,1,S,S): where the pixels are the source's own; borrowed (3,N,N): detail of another photograph."""
        size = portrait.picture.shape[-1]
        image = portrait.image
        if edited is not portrait.picture:
            edited = keep_grey(edited, image[None])
            detail = native_detail(image[None], portrait.crop, carried.flow, carried.ratio, carried.front, weight)
            if detail is not None:
                detail = with_lent(detail, borrowed)
            image = paste(image[None], edited, portrait.picture, portrait.crop, detail=[detail])
            image = keep_grey(image, portrait.image[None])[0]
        if masks is not None:
            masks = F.interpolate(masks, (size, size), mode="bilinear", align_corners=False)
        return EditResult(image, edited, shown.image, masks, wanted, carried.image, carried.validity)
