"""The paper's own parts in ComfyUI: FLAME, DECA and ArcFace, converted by the commands of the loader's page, beside a checkpoint.

The originals are licensed, so files of their layout with random numbers stand in for them.
"""

from __future__ import annotations

import pickle
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from client import ROOT
from deca_parts import deca, randomize, write_relief  # noqa: F401  (deca: a fixture)
from flame_files import as_published, embedding, save_object
from inprocess import Pack
from pictures import frame, raises
from small_models import small

from difffae.cli import main
from difffae.edit.loading import file_fingerprint
from difffae.edit.model import EditModel
from difffae.estimation.deca import Deca, DecaFit
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.source.arcface import ArcFace
from difffae.source.slots import SlotsConfig

PAGES = (ROOT / "web/docs/DiffFAELoader.md", ROOT / "web/docs/DiffFAELoader/zh.md")
COMMAND = "python -m difffae "
CHECKPOINT = "paper-toy.safetensors"


@dataclass(frozen=True)
class Installed:
    """folder: ComfyUI's models/difffae, with the checkpoint and what it needs; deca, arcface: the networks before their conversion."""

    folder: Path
    deca: Deca
    arcface: ArcFace


def commands(page: Path) -> list[list[str]]:
    """The commands of the library in a page's blocks of code, as words."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line.strip().removeprefix(COMMAND)) for line in lines if line.startswith("    " + COMMAND)]


def write_originals(folder: Path, deca: Deca, arcface: ArcFace) -> None:  # noqa: F811
    """The files that the page's commands name, as their makers publish them."""
    write_relief(folder)
    raw = pickle.loads((folder / "generic_model.pkl").read_bytes())
    with pytest.MonkeyPatch.context() as classes:
        (folder / "generic_model.pkl").write_bytes(as_published(raw, classes))
    save_object(folder / "landmark_embedding.npy", embedding(len(raw["f"])))
    with np.load(folder / "FLAME_texture.npz") as texture:
        colours = {"MU": texture["mean"].reshape(1, -1) / 255, "PC": texture["tex_dir"].reshape(-1, 4) / 255}
    np.savez(folder / "FLAME_albedo_from_BFM.npz", **colours)
    networks = {"E_flame": deca.coarse, "E_detail": deca.detail, "D_detail": deca.decoder}
    torch.save({name: part.state_dict() for name, part in networks.items()} | {"opt": {}, "epoch": 3}, folder / "deca_model.tar")
    torch.save(arcface.state_dict(), folder / "backbone.pth")


@pytest.fixture(scope="module")
def installed(pack: Pack, deca: Deca) -> Iterator[Installed]:  # noqa: F811
    """Converted by the page's commands, in the folder that other tests share."""
    arcface = randomize(ArcFace("r50"), seed=1).requires_grad_(False)
    deca.coarse.layers[2].bias[209:212] = 3.0  # the light's first band: a face that is lit
    models = Path(pack.folders.models_dir)
    folder, originals = models / "difffae", models.parent / "custom_nodes" / "own-files"
    folder.mkdir(parents=True, exist_ok=True)
    originals.mkdir(parents=True)
    before = set(folder.iterdir())
    write_originals(originals, deca, arcface)
    with pytest.MonkeyPatch.context() as place:
        place.chdir(originals)  # as the pack's own folder
        for words in commands(PAGES[0]):
            # the stand-in of the texture space has four components, to be small
            assert main(words + (["--set", "albedo_count=4"] if words[1] == "flame" else [])) == 0
    names = {"head": "flame", "estimator": "deca", "identity": "arcface-r50"}
    parts = small(carry=False, sample_size=32, identity_size=512, slots=SlotsConfig.open_256())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights in parts.denoiser.parameters():  # untrained, those of the identity are zero
            weights.add_(torch.randn(weights.shape, generator=generator) * 0.05)
    known = {part: file_fingerprint(folder / f"{name}.safetensors") for part, name in names.items()}
    model = EditModel(parts.autoencoder, parts.slots, parts.denoiser, "paper-toy", names["identity"], names["head"], known)
    model.save(folder / CHECKPOINT, license="test", source="test")
    yield Installed(folder, deca, arcface)
    for path in set(folder.iterdir()) - before:
        path.unlink()
    shutil.rmtree(originals)


@pytest.fixture(scope="module")
def loaded(pack: Pack, installed: Installed) -> dict[str, Any]:
    return dict(zip(("model", "vae", "difffae"), pack.run("DiffFAELoader", checkpoint=CHECKPOINT), strict=True))


def test_both_pages_name_the_files_that_the_loader_looks_for() -> None:
    shown = commands(PAGES[0])
    assert {words[1]: words[-1] for words in shown} == {
        "flame": "../../models/difffae/flame.safetensors",
        "deca": "../../models/difffae/deca.safetensors",
        "arcface": "../../models/difffae/arcface-r50.safetensors",
    }
    assert shown == commands(PAGES[1])
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all(f"| `{Path(words[-1]).name}` |" in text for words in shown)


def test_numbers_are_those_of_the_originals(pack: Pack, installed: Installed, loaded: dict[str, Any]) -> None:
    """Against the networks before their conversion, and the head's file read on its own."""
    bundle = {"difffae": loaded["difffae"]}
    image, _ = frame("900x600", "one")
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=image)
    square, landmarks = picture.movedim(-1, 1), crop.landmarks
    (attributes,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    head = HeadModel.load(installed.folder / "flame.safetensors")
    fit = DecaFit(installed.deca, head)
    expected = fit(square, landmarks)
    assert attributes.head == "flame"
    for name, values in expected.tensors().items():
        torch.testing.assert_close(attributes.tensors()[name], values, atol=1e-5, rtol=1e-5)

    (token,) = pack.run("DiffFAEIdentityToken", **bundle, image=picture, crop=crop)
    assert token.shape == (1, 512)
    torch.testing.assert_close(token, installed.arcface.embed(square, landmarks), atol=1e-5, rtol=0)
    (mirrored,) = pack.run("DiffFAEIdentityToken", **bundle, image=picture.flip(2))
    assert ArcFace.distance(token, mirrored) > 0.01

    shown, mask = pack.run("DiffFAERenderFace", **bundle, attributes=attributes)[:2]
    with torch.no_grad():
        drawn, plain = render(head, expected, 256, fit.surface), render(head, expected, 256)
    assert mask.mean() > 0.1
    torch.testing.assert_close(mask, drawn.mask[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(shown.movedim(-1, 1), drawn.image.clamp(0, 1), atol=1e-5, rtol=0)
    assert (drawn.image - plain.image).abs().amax() > 1e-3  # DECA's wrinkles, a hundred times what may differ above


def test_an_edit_by_the_papers_parts(pack: Pack, loaded: dict[str, Any]) -> None:
    """From the photograph to the photograph, every node in its place."""
    bundle, image = {"difffae": loaded["difffae"]}, frame("900x600", "one")[0]
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=image)
    (attributes,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    (slots, *_) = pack.run("DiffFAEEncodeSlots", **bundle, image=picture, crop=crop)
    (identity,) = pack.run("DiffFAEIdentityToken", **bundle, image=picture, crop=crop)
    shown = pack.run("DiffFAERenderFace", **bundle, attributes=attributes)[0]
    positive, _, latent = pack.run("DiffFAEConditioning", vae=loaded["vae"], slots=slots, identity=identity, render=shown)
    sampling = {"model": loaded["model"], "vae": loaded["vae"], "positive": positive, "latent": latent, "steps": 1, "denoise": 1.0}
    painted = pack.run("DiffFAESampler", **sampling)[0]
    assert painted.shape == (1, 256, 256, 3)
    assert torch.isfinite(painted).all()
    result = pack.run("DiffFAEPasteBack", original=image, edited=painted, crop=crop)[0]
    assert result.shape == image.shape == (1, 600, 900, 3)
    (square,) = crop.squares
    changed = (result - image).abs().amax(-1)[0]
    inside = torch.zeros_like(changed, dtype=torch.bool)
    inside[square.top : square.top + square.side, square.left : square.left + square.side] = True
    assert changed[inside].mean() > 0.02
    assert changed[~inside].max() == 0
    # the identity token and the render reach the denoiser
    for name, other in {"identity": -identity, "render": shown.flip(2)}.items():
        told = {"slots": slots, "identity": identity, "render": shown} | {name: other}
        positive = pack.run("DiffFAEConditioning", vae=loaded["vae"], **told)[0]
        assert not torch.equal(pack.run("DiffFAESampler", **sampling | {"positive": positive})[0], painted), name
    # Edit Face and the nodes of clips draw the same head, with DECA's wrinkles
    words = pack.library("edit.description")
    edit = words.Edit(slots, attributes, (), words.Sampling(steps=1, denoise=1.0))
    with torch.inference_mode():
        own = pack.module("clips").Painter(loaded["difffae"], loaded["model"], loaded["vae"]).painted(edit, None)
    torch.testing.assert_close(own.movedim(1, -1), painted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "why", "kind", "option"),
    [
        ("arcface-r50", "this model was trained with 'arcface-r50'", "arcface", "--identity"),
        ("flame", "this model was trained with renders of 'flame'", "flame", "--head"),
        ("deca", "DECA estimates the numbers of 'flame'", "deca", "--deca"),
    ],
)
def test_a_missing_file_is_named_with_its_folder(pack: Pack, installed: Installed, name: str, why: str, kind: str, option: str) -> None:
    file = installed.folder / f"{name}.safetensors"
    away = file.rename(file.with_suffix(".away"))
    try:
        todo = f"put that file there (python -m difffae convert {kind} makes it), or give it with {option}"
        with raises(pack, "CheckpointError", f"{file}: is missing, but {why}; {todo}"):
            pack.run("DiffFAELoader", checkpoint=CHECKPOINT)
    finally:
        away.rename(file)


def test_a_file_that_goes_with_a_checkpoint_is_none(pack: Pack, installed: Installed) -> None:
    """The list shows all files of the folder."""
    (options,) = (own.options for own in pack.nodes["DiffFAELoader"].define_schema().inputs)
    assert {CHECKPOINT, "flame.safetensors", "deca.safetensors", "arcface-r50.safetensors"} <= set(options)
    file = installed.folder / "flame.safetensors"
    with raises(pack, "CheckpointError", f"{file}: holds 'head', but 'edit' is needed here; choose another file"):
        pack.run("DiffFAELoader", checkpoint=file.name)
