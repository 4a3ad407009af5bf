"""How well the slots find their regions, whether they look at the picture, and what their tokens change.

Shape letters: R regions (4), S slots, H = W picture side, h and w mask sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.pixels import erode
from ...diffusion.sampling import sample
from ...edit.description import Portrait, Sampling
from ...edit.editor import DiffFAE
from ...report.measures import laplacian_variance
from ...source.regions import fitted_regions
from ...source.slots import REGIONS, swap
from ..prepare.shards import Shards
from ..tables.parsing import shares
from .blocks import Subjects
from .rows import Record

REFINED = 60  # pictures whose masks are also fitted to the picture: the guided filter is slow
SHIFT = 24  # pixels: three cells of the masks
LEAST_SHARE = 0.02  # of the crop: swaps of smaller regions are left out
SWAPPED = ("hair", "clothes", "background")


def refined(masks: Tensor, order: Sequence[str], image: Tensor, matte: Tensor | None = None, hair: Tensor | None = None) -> Tensor:
    """Regions (B,H,W) of masks fitted to the picture (B,3,H,W), and to its matte and hair (B,1,H,W), as `regions.layers` does."""
    return fitted_regions(masks, order, image, matte, hair).argmax(1)


def overlaps(found: Tensor, truth: Tensor, counted: Tensor | None = None) -> dict[str, list[int]]:
    """Pixels in both and in either of two pictures of regions (H,W), by region, where counted (H,W) is true."""
    inside = torch.ones_like(found, dtype=torch.bool) if counted is None else counted
    result = {}
    for index, name in enumerate(REGIONS):
        a, b = (found == index) & inside, (truth == index) & inside
        result[name] = [int((a & b).sum()), int((a | b).sum())]
    return result


def labelled(folder: Path, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (1,3,H,W) in 0..1 and their labels (H,W), 255 where unknown, of shards with `images` and `labels`; of pairs both."""
    shards = Shards(folder, ("images", "labels"))
    for index in range(len(shards) if limit is None else min(limit, len(shards))):
        row = shards.sample(index)
        images, labels = row["images"].reshape(-1, 3, *row["images"].shape[-2:]), row["labels"].reshape(-1, *row["labels"].shape[-2:])
        for image, label in zip(images, labels, strict=True):
            yield image[None].float() / 255, label


@torch.no_grad()
def against_labels(subjects: Subjects, folder: Path, limit: int | None = None) -> list[Record]:
    """Regions of the slots and of the refined masks against labels; unknown pixels do not count."""
    slots, records = subjects.model.model.slots, []
    for index, (image, label) in enumerate(labelled(folder, limit)):
        image = image.to(subjects.model.device)
        masks = slots(image)[1]
        found = shares(masks, slots.config.order, image.shape[-1]).argmax(1)[0].cpu()
        known = label < len(REGIONS)
        record: Record = {"source": f"{index}", "slots": overlaps(found, label, known)}
        if index < REFINED:
            told = (None if network is None else network(image) for network in (subjects.model.matte, subjects.model.hair))
            record["refined"] = overlaps(refined(masks, slots.config.order, image, *told)[0].cpu(), label, known)
        records.append(record)
        subjects.tick()
    return records


@torch.no_grad()
def moved_masks(subjects: Subjects) -> list[Record]:
    """Masks of shifted (SHIFT pixels, four directions) and of mirrored portraits against shifted and mirrored masks. For comparison: the
    masks that did not move, as they would if they followed position alone. Only pixels that both pictures show count."""
    slots = subjects.model.model.slots
    records: list[Record] = []
    for name in subjects.names():
        portrait = subjects.portrait(name)
        if portrait is not None:
            records.append(
                {"source": name} | moved(lambda x: shares(slots(x)[1], slots.config.order, x.shape[-1]).argmax(1), portrait.picture)
            )
        subjects.tick()
    return records


def moved(regions_of, picture: Tensor) -> Record:
    """One record of `moved_masks`. regions_of: pictures (B,3,H,W) -> regions (B,H,W)."""
    size = picture.shape[-1]
    wide = F.pad(picture, (SHIFT,) * 4, mode="replicate")
    offsets = [(SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)]
    pictures = [picture, picture.flip(-1), *(wide[..., SHIFT + y :, SHIFT + x :][..., :size, :size] for x, y in offsets)]
    own, mirrored, *shifted = regions_of(torch.cat(pictures)).cpu()
    record: Record = {"flip": overlaps(mirrored, own.flip(-1)), "flip_still": overlaps(own, own.flip(-1))}
    sums = {kind: {name: [0, 0] for name in REGIONS} for kind in ("shift", "shift_still")}
    for (x, y), found in zip(offsets, shifted, strict=True):
        # pixel p of the shifted picture shows pixel p + (x, y) of the picture
        here = (slice(max(0, -y), size - max(0, y)), slice(max(0, -x), size - max(0, x)))
        there = (slice(max(0, y), size - max(0, -y)), slice(max(0, x), size - max(0, -x)))
        for kind, masks in (("shift", found), ("shift_still", own)):
            for name, counts in overlaps(masks[here], own[there]).items():
                sums[kind][name] = [a + b for a, b in zip(sums[kind][name], counts, strict=True)]
    return record | sums


@torch.no_grad()
def swaps(subjects: Subjects) -> list[Record]:
    """Hair, clothes and background of the queries: mean absolute change inside the source's region and in the others (where the
    reference's region does not newly come). `drawn`: of the picture that the model draws, against what it draws with the source's own
    tokens from the same inputs. `result`: of the finished swap, against the source; `tokens`: the same, by tokens alone. Of these two also
    how far the region's token is from the reference's, and was before, and the sharpness of the region, over that of the reference's."""
    model = subjects.model
    slots, records = model.model.slots, []
    for source, reference in subjects.usable():
        size = source.picture.shape[-1]
        own, other = (shares(slots(p.picture)[1], slots.config.order, size).argmax(1)[0] for p in (source, reference))
        for region in SWAPPED:
            index = REGIONS.index(region)
            inside, outside = own == index, (own != index) & (other != index)
            if min(inside.float().mean().item(), outside.float().mean().item()) < LEAST_SHARE:
                continue
            sampling = Sampling(steps=subjects.steps, sampler=subjects.sampler, seed=subjects.seed)
            done, alone = (model.swap(source, reference, (region,), photo=photo, sampling=sampling) for photo in (None, False))
            drawn = drawn_swap(subjects, source, reference, region, alone.render, alone.validity)
            record: Record = {"source": source.name, "query": reference.name, "region": region}
            slot = slots.config.order.index(region)
            token, wanted, *tokens = (slots(picture)[0][0, slot] for picture in (source.picture, reference.picture, done.crop, alone.crop))
            for kind, picture, now in (("result", done.crop, tokens[0]), ("tokens", alone.crop, tokens[1])):
                record[f"{kind}_token"] = [(now - wanted).norm().item(), (token - wanted).norm().item()]
                record[f"{kind}_sharp"] = _sharpness(picture, inside) / max(_sharpness(reference.picture, other == index), 1e-6)
            for kind, (a, b) in (("drawn", drawn), ("result", (done.crop, source.picture)), ("tokens", (alone.crop, source.picture))):
                change = (a - b).abs().mean(1)[0]
                record[kind] = [change[inside].mean().item(), change[outside].mean().item()]
            records.append(record)
    return records


def _sharpness(picture: Tensor, where: Tensor) -> float:
    """Of a region (S,S) of a picture (1,3,S,S), but for the region's own edge."""
    return laplacian_variance(picture, erode(where[None, None].to(picture), 5)).item()


def drawn_swap(
    subjects: Subjects, source: Portrait, reference: Portrait, region: str, shown: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """What the model draws with swapped tokens and with the source's own, before compositing: (1,3,S,S) twice."""
    model: DiffFAE = subjects.model
    m = model.model
    tokens, giver = (m.slots(portrait.picture)[0] for portrait in (source, reference))
    identity = model.identity.embed(source.picture, source.landmarks[..., :2])
    pictures = []
    for used in (swap(tokens, giver, (region,), 1.0, m.slots.config.order), tokens):
        conditions = m.conditions(used, identity, shown, source.picture, keep)
        latents = sample(m.denoiser, conditions, subjects.steps, subjects.sampler, subjects.seed)
        pictures.append(m.autoencoder.decode(latents).clamp(0, 1))
    return pictures[0], pictures[1]
