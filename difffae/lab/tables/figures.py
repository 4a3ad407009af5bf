"""The paper's figures from a checkpoint and pictures. Every function returns a page (3,H,W); see grid.

Shape letters: S tokens, h and w map sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion.sampling import sample
from ...edit.analysing import identity_tokens, with_slots
from ...edit.conditioning import conditions
from ...edit.description import Edit, Portrait, RegionSwap
from ...edit.editor import DiffFAE
from ...edit.moving import move
from ...faces.crop import extract
from ...head.adjust import Adjustments
from ...source.slots import REGIONS
from ...vocabulary import TAKEABLE
from .grid import Row, grid, heat, slot_colours, tint
from .parsing import intersection_over_union, read_labels, region_masks
from .produce import RowSampling

# azimuth and elevation in degrees, strength
LIGHTS = ((-90, 0, 0.8), (-60, 0, 0.8), (-30, 0, 0.8), (0, 0, 0.8), (30, 0, 0.8), (60, 0, 0.8), (90, 0, 0.8), (0, 50, 0.6), (0, -50, 0.6))
# what is asked of everybody in `card`: name -> numbers
HARD = {
    "turned by 35 degrees": Adjustments(yaw=35),
    "mouth opened": Adjustments(jaw_open=0.8),
    "hard light from the side": Adjustments(light_azimuth=75, light_elevation=15, light_strength=0.9),
}
SWAPS = (("hair",), ("clothes",), ("background",), ("hair", "clothes", "background"))


@dataclass(frozen=True)
class Cast:
    """Of whom and by which models a figure is drawn; cell is the side of its pictures in pixels."""

    models: Mapping[str, DiffFAE]
    sources: Sequence[Portrait]
    queries: Sequence[Portrait]
    references: Sequence[Portrait]
    sampling: RowSampling
    cell: int

    def pairs(self) -> Iterator[tuple[str, DiffFAE, Portrait]]:
        """Every model, with its label, and every source at its size."""
        for label, model in self.models.items():
            for portrait in self.sources:
                yield label, model, at_model_size(model, portrait)

    def edit(self, model: DiffFAE, source: Portrait, query: Portrait | None, **wishes: object) -> Tensor:
        """The edited square (1,3,S,S). wishes: of `DiffFAE.edit`."""
        return model.edit(source, query, framing=self.sampling.framing, sampling=self.sampling, **wishes).crop  # type: ignore[arg-type]


def at_model_size(model: DiffFAE, portrait: Portrait) -> Portrait:
    """The same square of a picture at the size of this model, for a portrait that another one analysed; its numbers stay."""
    size = model.model.image_size
    if portrait.picture.shape[-1] == size:
        return portrait
    crop = replace(portrait.crop, size=size)
    picture, inside = extract(portrait.original, crop)
    landmarks = portrait.landmarks * (size / portrait.crop.size)
    return replace(portrait, squares=(crop,), picture=picture, inside_picture=inside, landmarks=landmarks, slots=None)


@torch.no_grad()
def attention_of(model: DiffFAE, source: Portrait, query: Portrait | None, sampling: RowSampling) -> tuple[Tensor, dict[str, Tensor]]:
    """The drawn square (1,3,S,S) and every layer's cross-attention (1,S,h,w), in order of execution, averaged over heads and steps."""
    m = model.model
    wanted = model.target(source, pose=query, expression=query, light=query, framing=sampling.framing)
    source = with_slots(model, source)
    moved = move(model, Edit(source, wanted)) if m.denoiser.config.carry else None
    shown = model.render(wanted, source.picture.shape[-1]).image
    told, _ = conditions(m.autoencoder, source, identity_tokens(model, source), shown, moved)
    sums: dict[str, Tensor] = {}
    with m.denoiser.record_attention() as maps:

        def add(done: int, total: int, latents: Tensor) -> None:
            for name, value in maps.items():
                sums[name] = sums.get(name, 0) + value.float() / total

        latents = sample(m.denoiser, told, sampling.steps, sampling.sampler, sampling.seed, callback=add)
    return m.autoencoder.decode(latents).clamp(0, 1), sums


def mean_attention(maps: Mapping[str, Tensor], side: int = 32) -> Tensor:
    """The mean over layers (1,S,side,side) on the grid of the consistency loss (Eq. 7)."""
    wide = [F.interpolate(value, (side, side), mode="bilinear", align_corners=False) for value in maps.values()]
    return torch.stack(wide).mean(0)


def layer_name(name: str, value: Tensor) -> str:
    """down_blocks.1.attentions.0.transformer_blocks.0.attn2 -> "down 1.0 (16x16)"."""
    parts = name.split(".")
    place = ".".join(part for part in parts[1 : parts.index("transformer_blocks")] if part.isdigit())
    return f"{parts[0].split('_')[0]} {place} ({value.shape[-1]}x{value.shape[-2]})"


def attention(cast: Cast) -> Tensor:
    """Fig. 11: for every model and token, the attention maps of all layers and their mean, over what the denoiser drew."""
    rows: list[Row] = []
    columns: list[str] = []
    for index, (label, model, source) in enumerate(cast.pairs()):
        query = cast.queries[index % len(cast.sources) % len(cast.queries)] if cast.queries else None
        drawn, maps = attention_of(model, source, query and at_model_size(model, query), cast.sampling)
        order = model.model.slots.config.names
        names = ["source / drawn", "mean", *(layer_name(name, value) for name, value in maps.items())]
        columns = names if len(names) > len(columns) else columns
        values = (mean_attention(maps), *maps.values())
        shown = [tint(drawn, value, slot_colours(order)) for value in values]
        rows.append((f"{label}: all tokens of {Path(source.name).name}", [source.picture, *shown]))
        for token, region in enumerate(order):
            rows.append((f"{label}: token {token}, {region}", [drawn, *(heat(drawn, value[0, token]) for value in values)]))
    return grid(columns, rows, cast.cell)


def card(cast: Cast) -> Tensor:
    """For a model card: every source with everything taken from a query (the next of the sources, if none is given), and what is hard for
    everybody. Nothing is chosen: good and bad results stand side by side."""
    rows: list[Row] = []
    givers = cast.queries or [*cast.sources[1:], cast.sources[0]]
    for index, (label, model, source) in enumerate(cast.pairs()):
        query = at_model_size(model, givers[index % len(cast.sources) % len(givers)])
        made = [cast.edit(model, source, query), *(cast.edit(model, source, None, adjust=change) for change in HARD.values())]
        name = Path(source.name).stem
        rows.append((name if len(cast.models) == 1 else f"{label}: {name}", [source.picture, query.picture, *made]))
    return grid(["source", "query", "all taken from the query", *HARD], rows, cast.cell)


@torch.no_grad()
def regions(
    cast: Cast, labels: Mapping[str, Path], classes: Mapping[str, Sequence[int]]
) -> tuple[Tensor, dict[str, dict[str, dict[str, float | None]]]]:
    """Fig. 10: each source with every model's slots, and another parser's labels where there are some (source name -> file). Also returns
    intersection over union per model, source and region."""
    rows: list[Row] = []
    overlaps: dict[str, dict[str, dict[str, float | None]]] = {label: {} for label in cast.models}
    colours = slot_colours(REGIONS)
    for portrait in cast.sources:
        given = read_labels(labels[portrait.name], portrait, classes) if portrait.name in labels else None
        pictures: list[Tensor | None] = [portrait.picture]
        if labels:
            pictures.append(None if given is None else tint(portrait.picture, given, colours))
        for label, model in cast.models.items():
            slots = model.model.slots
            found = region_masks(slots(at_model_size(model, portrait).picture)[1], slots.config.order, portrait.picture.shape[-1])
            pictures.append(tint(portrait.picture, found, colours))
            if given is not None:
                overlaps[label][portrait.name] = intersection_over_union(found, given, portrait.inside_picture)
        rows.append((Path(portrait.name).name, pictures))
    return grid(["source", *(["other parser"] if labels else []), *cast.models], rows, cast.cell), overlaps


@torch.no_grad()
def tokens(cast: Cast) -> Tensor:
    """Fig. 9: the masks of every slot, for checkpoints with 2, 4 and 8 of them."""
    rows: list[Row] = []
    most = max(model.model.slots.config.slot_count for model in cast.models.values())
    for portrait in cast.sources:
        for label, model, source in replace(cast, sources=[portrait]).pairs():
            masks = model.model.slots(source.picture)[1]
            order = model.model.slots.config.names
            name = f"{label}: {masks.shape[1]} slots ({', '.join(order)}); {Path(source.name).name}"
            whole = tint(source.picture, masks, slot_colours(order))
            rows.append((name, [source.picture, whole, *(heat(source.picture, mask) for mask in masks[0])]))
    return grid(["source", "all slots", *(f"slot {index}" for index in range(most))], rows, cast.cell)


def lights(cast: Cast) -> Tensor:
    """Fig. 12: only the light changes: a sweep around the face, then every query's light, with the queries in the first row."""
    sweep = [Adjustments(light_azimuth=a, light_elevation=e, light_strength=strength) for a, e, strength in LIGHTS]
    columns = [
        f"{abs(a)} deg {'left' if a < 0 else 'right'}" if a else ["below", "front", "above"][(e > 0) - (e < 0) + 1] for a, e, _ in LIGHTS
    ]
    queries = cast.queries
    columns = ["source", *columns, *(f"light of {Path(query.name).name}" for query in queries)]
    rows: list[Row] = [("queries", [*[None] * (len(LIGHTS) + 1), *(query.picture for query in queries)])] if queries else []
    for label, model, source in cast.pairs():
        pictures = [cast.edit(model, source, None, adjust=change) for change in sweep]
        pictures += [cast.edit(model, source, at_model_size(model, query), take=("light",)) for query in queries]
        rows.append((f"{label}: {Path(source.name).name}", [source.picture, *pictures]))
    return grid(columns, rows, cast.cell)


def edits(cast: Cast) -> Tensor:
    """Fig. 13 and 14 (and 3): source and query, each attribute alone, all of them; cells of 512 pixels show a 512 model at full size."""
    rows: list[Row] = []
    for label, model, source in cast.pairs():
        for other in cast.queries:
            query = at_model_size(model, other)
            pictures = [cast.edit(model, source, query, take=take) for take in (*((name,) for name in TAKEABLE), TAKEABLE)]
            rows.append((f"{label}: {Path(source.name).name}, {Path(query.name).name}", [source.picture, query.picture, *pictures]))
    return grid(["source", "query", *TAKEABLE, "all three"], rows, cast.cell)


def swaps(cast: Cast) -> Tensor:
    """Fig. 15: regions of a reference, and below the same with a query's pose, expression and light, in one run."""
    columns = ["source", "reference", *(" + ".join(names) if len(names) < 3 else "all three" for names in SWAPS), "query"]
    rows: list[Row] = []
    for label, model, source in cast.pairs():
        for reference in (at_model_size(model, other) for other in cast.references):
            photo = model.carry_options is not None
            taken = [(RegionSwap(reference, names, photo=photo),) for names in SWAPS]
            swapped = [cast.edit(model, source, None, swaps=some) for some in taken]
            rows.append((f"{label}: regions", [source.picture, reference.picture, *swapped]))
            for query in (at_model_size(model, other) for other in cast.queries):
                both = [cast.edit(model, source, query, swaps=some) for some in taken]
                name = f"{label}: regions, pose, expression and light"
                rows.append((name, [source.picture, reference.picture, *both, query.picture]))
    return grid(columns, rows, cast.cell)


def comparison(originals: Sequence[tuple[Tensor, Tensor]], results: Mapping[str, Sequence[Tensor | None]], cell: int) -> Tensor:
    """Fig. 3: source and query (3,H,W) and every method's result, one pair per row; pictures that are not square are squeezed."""
    rows = [(str(row + 1), [*pair, *(pictures[row] for pictures in results.values())]) for row, pair in enumerate(originals)]
    return grid(["source", "query", *results], rows, cell)
