"""The same edit through the graph and through the library ends in the same picture."""

from __future__ import annotations

import pytest
import torch
from inprocess import Pack
from pictures import portrait
from torch import Tensor

NUMBERS = {"yaw": 12.0, "smile": 0.5}


class Graph:
    """The nodes of an edit, wired as the workflows wire them."""

    def __init__(self, pack: Pack, image: Tensor) -> None:
        self.pack, self.image = pack, image
        self.picture, _, self.crop = pack.run("DiffFAECropFace", image=image)
        (self.own,) = pack.run("DiffFAEEstimateAttributes", image=self.picture, crop=self.crop)
        self.slots = pack.run("DiffFAEEncodeSlots", image=self.picture, crop=self.crop)[0]

    def adjusted(self, **numbers: float):
        return self.pack.run("DiffFAEAdjustAttributes", attributes=self.own, **numbers)[0]

    def swapped(self, reference: Graph, photo: bool = True, **regions: bool):
        return self.pack.run("DiffFAESwapSlots", slots=self.slots, reference=reference.slots, **({"hair": False} | regions), photo=photo)[0]

    def finished(self, target, slots, denoise: float | None) -> Tensor:
        """The whole picture (1,H,W,C); denoise None is the preview: no sampler runs."""
        pack = self.pack
        given = {"image": self.picture, "source": self.own, "target": target, "crop": self.crop, "slots": slots}
        carried, _, carry, *_ = pack.run("DiffFAECarryPhoto", **given)
        edited = carried
        if denoise is not None:
            (identity,) = pack.run("DiffFAEIdentityToken", image=self.picture, crop=self.crop)
            render = pack.run("DiffFAERenderFace", attributes=target)[0]
            positive, _, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render, carry=carry)
            edited = pack.run("DiffFAESampler", positive=positive, latent=latent, denoise=denoise)[0]
        return pack.run("DiffFAEPasteBack", original=self.image, edited=edited, crop=self.crop, carry=carry)[0]


@pytest.fixture(scope="module")
def model(pack: Pack):
    return pack.library("edit.editor").DiffFAE.from_pretrained("open-256")


@pytest.fixture(scope="module")
def officer(pack: Pack) -> Graph:
    return Graph(pack, portrait("query.png"))


def grey(image: Tensor) -> Tensor:
    return image.mean(-1, keepdim=True).expand_as(image).contiguous()


def rgba(image: Tensor) -> Tensor:
    return torch.cat([image, torch.linspace(0, 1, image.shape[2])[None, None, :, None].expand(*image.shape[:3], 1)], -1)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-12).log10())


def tensor(image: Tensor) -> Tensor:
    """IMAGE (1,H,W,C) as the library reads it: (3,H,W)."""
    return image[0, ..., :3].movedim(-1, 0).contiguous()


def adjustments(pack: Pack):
    return pack.library("head.adjust").Adjustments(**NUMBERS)


@pytest.mark.parametrize("change", [None, grey, rgba], ids=["colour", "grey", "rgba"])
@pytest.mark.parametrize("preview", [True, False], ids=["preview", "sampled"])
def test_edit(pack: Pack, model, change, preview: bool) -> None:
    image = portrait("source.png") if change is None else change(portrait("source.png"))
    graph = Graph(pack, image)
    result = graph.finished(graph.adjusted(**NUMBERS), graph.slots, None if preview else 0.2)
    sampling = pack.library("edit.description").Sampling(denoise=0.0 if preview else 0.2)
    library = model.edit(tensor(image), adjust=adjustments(pack), sampling=sampling).image
    assert result.shape == image.shape
    assert torch.equal(result[..., 3:], image[..., 3:])
    assert psnr(library, tensor(image)) < 35  # something happened
    if preview:
        assert torch.equal(tensor(result), library)
    assert psnr(tensor(result), library) > 50
    if change is grey:
        assert (tensor(result).amax(0) - tensor(result).amin(0)).max() < 1e-6


@pytest.mark.parametrize("photo", [True, False], ids=["photograph", "tokens"])
@pytest.mark.parametrize("edited", [False, True], ids=["swap", "swap and edit"])
def test_swap(pack: Pack, model, officer: Graph, photo: bool, edited: bool) -> None:
    graph = Graph(pack, portrait("source.png"))
    slots = graph.swapped(officer, photo, hair=True, background=True)
    target = graph.adjusted(**NUMBERS) if edited else graph.own
    result = graph.finished(target, slots, 0.2 if photo else 1.0)
    words = pack.library("edit.description")
    swap = words.RegionSwap(model.analyse(tensor(officer.image)), ("hair", "background"), photo=photo)
    sampling = words.Sampling(0.2 if photo else None)
    library = model.edit(tensor(graph.image), adjust=adjustments(pack) if edited else None, swaps=[swap], sampling=sampling).image
    assert psnr(library, tensor(graph.image)) < 30
    assert psnr(tensor(result), library) > 50


def test_swap_without_a_sampler_is_bit_for_bit(pack: Pack, model, officer: Graph) -> None:
    graph = Graph(pack, portrait("source.png"))
    result = graph.finished(graph.own, graph.swapped(officer, clothes=True), None)
    words = pack.library("edit.description")
    library = model.swap(tensor(graph.image), tensor(officer.image), ("clothes",), sampling=words.Sampling(denoise=0.0)).image
    assert torch.equal(tensor(result), library)


def test_a_fresh_sampler_does_what_the_workflows_do(pack: Pack) -> None:
    """And saved workflows, which store every widget, keep their own value."""
    words = pack.library("vocabulary")
    inputs = {own.id: own for own in pack.nodes["DiffFAESampler"].define_schema().inputs}
    assert (inputs["denoise"].default, inputs["steps"].default) == (words.REPAIR, words.STEPS)
    assert not inputs["denoise"].optional
