"""Every file of a profile is read once and every network is built once, whoever asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from small_models import small

from difffae.common import checkpoint as checkpoint_module
from difffae.common.checkpoint import asset_path, load_checkpoint, save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.fingerprint import fingerprint
from difffae.common.unet import UNet
from difffae.edit.editor import DiffFAE
from difffae.edit.loading import load_parts
from difffae.edit.model import EditModel
from difffae.estimation.fit import LandmarkFit
from difffae.estimation.network import EncoderFit
from difffae.head.morphable import HeadModel
from difffae.source.arcface import ArcFace

OPEN = asset_path("open-256.safetensors")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts the tensors that are read, by (file, name), and the U-Nets and heads that are built, by class name."""
    counts: Counter = Counter()
    opened = checkpoint_module.safe_open

    class Counting:
        def __init__(self, path: str, **options: str) -> None:
            self.path, self.handle = path, opened(path, **options)

        def __enter__(self) -> Counting:
            self.inside = self.handle.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.handle.__exit__(*error)

        def get_tensor(self, name: str) -> torch.Tensor:
            counts[Path(self.path).name, name] += 1
            return self.inside.get_tensor(name)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inside, name)

    monkeypatch.setattr(checkpoint_module, "safe_open", Counting)
    for kind in (UNet, HeadModel):
        built = kind.__init__

        def counted(self, *args, kind=kind, built=built, **options) -> None:
            counts[kind.__name__] += 1
            built(self, *args, **options)

        monkeypatch.setattr(kind, "__init__", counted)
    return counts


def read(work: Counter, file: str) -> dict[str, int]:
    return {key[1]: count for key, count in work.items() if key[0] == file}


def small_file(folder: Path, head: str = "open", identity: str = "dlib-resnet-v1") -> Path:
    """A little model without carry, as a file."""
    parts = small(carry=False)
    path = folder / "small.safetensors"
    EditModel(parts.autoencoder, parts.slots, parts.denoiser, "small", identity, head).save(path, license="mine", source="test")
    return path


def test_open_256_is_read_and_built_once(work: Counter) -> None:
    parts = load_parts(OPEN)
    assert set(parts.estimators) == {"fit", "network"}
    names = set(load_checkpoint(OPEN).tensors)
    tensors = {name: count for name, count in read(work, OPEN.name).items() if not name.endswith("::scale")}
    assert set(tensors) == names
    work.clear()
    pipeline = DiffFAE.from_pretrained()
    assert set(read(work, OPEN.name).values()) == {1}
    assert {count for name, count in work.items() if name[0] != "landmark_offsets.safetensors"} - {1} == {2}  # the two U-Nets
    assert work["UNet"] == 2  # of denoiser and slots
    assert work["HeadModel"] == 1
    # what two parts need is one module
    fit = pipeline.estimator
    assert isinstance(fit, LandmarkFit)
    assert fit.head is pipeline.head
    assert fit.hair.slots is pipeline.model.slots
    assert fit.hair.matte is pipeline.matte
    network = parts.estimators["network"]
    assert isinstance(network, EncoderFit)
    assert network.head is parts.head is parts.estimators["fit"].head


def test_another_models_estimator_reads_no_more_than_the_bundled_slots(work: Counter, tmp_path: Path) -> None:
    path = small_file(tmp_path)
    work.clear()
    parts = load_parts(path, estimators=("fit",))
    names = read(work, OPEN.name)
    assert names
    assert all(name.startswith("slots.") and count == 1 for name, count in names.items())
    assert set(read(work, "small.safetensors").values()) == {1}
    assert work["UNet"] == 3  # of denoiser and slots, and of the bundled slots
    hair = parts.estimators["fit"].hair
    assert hair.slots is not parts.model.slots
    assert hair.matte is parts.matte
    bundled = EditModel.load(OPEN).slots.state_dict()
    assert all(torch.equal(value, bundled[name]) for name, value in hair.slots.state_dict().items())


def test_the_network_needs_no_hair(work: Counter, tmp_path: Path) -> None:
    parts = load_parts(small_file(tmp_path), estimators=("network",))
    assert list(parts.estimators) == ["network"]
    assert not read(work, OPEN.name)
    with pytest.raises(ConfigError, match="'deep' is none"):
        load_parts(OPEN, estimators=("deep",))


def test_licences_of_all_files(work: Counter, tmp_path: Path) -> None:
    parts = load_parts(small_file(tmp_path))
    work.clear()
    licences = parts.licenses()
    assert not work  # headers alone
    assert set(licences) == {"checkpoint", "landmarks", "matte", "hair", "occluders", "identity", "head", "network"}
    assert licences["checkpoint"] == "mine"
    assert licences["head"] == load_checkpoint(asset_path("open_head.safetensors")).license != ""
    assert parts.checkpoint.record()["license"] == "mine"


def test_files_that_are_missing_beside_the_model(tmp_path: Path) -> None:
    """A model with another head and identity network looks for them by their names; tests/edit/test_research_profile.py finds them."""
    path = small_file(tmp_path, head="mine")
    with pytest.raises(CheckpointError, match=r"mine\.safetensors: is missing, but this model was trained with renders of 'mine'; put"):
        load_parts(path)
    head = load_checkpoint(asset_path("open_head.safetensors"))
    config = head.config | {"name": "mine"}
    save_checkpoint(tmp_path / "mine.safetensors", head.tensors, kind="head", config=config, license="other", source="test")
    with pytest.raises(CheckpointError, match=r"deca\.safetensors: is missing, but DECA estimates the numbers of 'mine'; put that file"):
        load_parts(path)
    with pytest.raises(CheckpointError, match=r"matte\.safetensors: holds 'matte', but"):
        load_parts(path, deca=asset_path("matte.safetensors"))
    with pytest.raises(CheckpointError, match=r"arcface-r18\.safetensors: is missing, but this model was trained with 'arcface-r18'"):
        load_parts(small_file(tmp_path, identity="arcface-r18"))
    # no file of `convert` has this network
    with pytest.raises(CheckpointError, match=r"small\.safetensors: this model was trained with 'onnx-w600k_r50', which is found by"):
        load_parts(small_file(tmp_path, identity="onnx-w600k_r50"))


def test_files_of_the_same_name_are_told_apart_by_their_contents(tmp_path: Path) -> None:
    """A second network of the right name is refused once the model states what it was trained with."""
    torch.manual_seed(3)
    first, second, head = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "head"))
    about = {"license": "test", "source": "test"}
    for path in (first, second):
        weights = {name: value.half() for name, value in ArcFace("r18").state_dict().items()}
        save_checkpoint(path, weights, kind="identity", config={"network": "arcface-r18"}, **about)
    bundled = load_checkpoint(asset_path("open_head.safetensors"))
    moved = {**bundled.tensors, "template": bundled.tensors["template"] * 1.01}
    save_checkpoint(head, moved, kind="head", config=bundled.config, **about)

    old = load_parts(small_file(tmp_path, identity="arcface-r18"), identity=second, head=head, estimators=("fit",))
    assert old.model.fingerprints == {}  # a file of before takes any
    known = {"identity": fingerprint(first), "head": fingerprint(asset_path("open_head.safetensors"))}
    path = tmp_path / "known.safetensors"
    parts = small(carry=False)
    EditModel(parts.autoencoder, parts.slots, parts.denoiser, "known", "arcface-r18", fingerprints=known).save(path, **about)
    assert load_checkpoint(path, parts=()).config["fingerprints"] == known
    loaded = load_parts(path, identity=first, estimators=("fit",))
    assert loaded.model.fingerprints == known
    assert loaded.identity.name == "arcface-r18"
    # the same weights in another file: another place, another licence, twice the bytes
    copy = load_checkpoint(first)
    save_checkpoint(tmp_path / "copy.safetensors", copy.tensors, kind="identity", config=copy.config, license="mine", source="elsewhere")
    load_parts(path, identity=tmp_path / "copy.safetensors", estimators=("fit",))
    needed = rf"has other weights than the identity file that known\.safetensors was trained with \(fingerprint {fingerprint(second)[:12]}"
    with pytest.raises(CheckpointError, match=rf"second\.safetensors: {needed}, not {known['identity'][:12]}\).*--identity"):
        load_parts(path, identity=second, estimators=("fit",))
    with pytest.raises(CheckpointError, match=r"head\.safetensors: has other weights than the head file that known\.safetensors .*--head"):
        load_parts(path, identity=first, head=head, estimators=("fit",))
