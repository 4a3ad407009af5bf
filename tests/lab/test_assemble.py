"""The researcher's way through the command line, on toys: train each part, assemble them, edit with the file, score it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import small_flame
from PIL import Image
from safetensors.torch import load_file
from training_files import DENOISER, SLOTS

from difffae import DiffFAE
from difffae.cli import main
from difffae.common.checkpoint import asset_path, load_checkpoint, save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.fingerprint import fingerprint
from difffae.common.images import read_image
from difffae.convert.flame import convert
from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.diffusion.denoiser import Denoiser
from difffae.diffusion.first_stages import build_first_stage
from difffae.edit.description import Sampling
from difffae.edit.model import EditModel
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.morphable import HeadModel
from difffae.lab.prepare.shards import Shards, write_shard
from difffae.lab.training.assemble import FirstStageParts, ModelParts, warn_of_weak
from difffae.lab.training.parts import read_denoiser, read_first_stage, read_slots
from difffae.source.identity import IdentityNetwork
from difffae.source.slots import SlotEncoder, SlotsConfig

SIDE = 32  # of the toys' pictures; their latents are 2x8x8
FIRST = {
    "latent_channels": 2,
    "unshuffle": 2,
    "width": 8,
    "deep_width": 8,
    "encoder_blocks": [1, 1],
    "decoder_blocks": [1, 1],
    "norm_groups": 2,
}
TOY = replace(DENOISER, carry=False, identity_size=128)
STAGE = ["batch=4", "steps=3", "log_every=1", "warmup=1", "ema=0.5", "learning_rate=0.003", "seed=5"]
ABOUT = ["--license", "test", "--source", "a test"]
pytestmark = pytest.mark.usefixtures("one_thread")
SOURCE, QUERY = asset_path("source.png"), asset_path("query.png")


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def pairs(values: dict) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in values.items()]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first stage, slots, and a denoiser trained together with them, all by the command line."""
    folder = tmp_path_factory.mktemp("work")
    g = torch.Generator().manual_seed(0)
    for name in ("portraits", "shards", "labelled"):
        (folder / name).mkdir()
    for index in range(3):
        pixels = torch.randint(0, 256, (64, 64, 3), generator=g, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "portraits" / f"{index}.webp", lossless=True)
    trained = ["train", "autoencoder", "--set", *STAGE, f"portraits={folder / 'portraits'}", f"folder={folder / 'first'}", "crop=32"]
    run(*trained, "--model-set", *pairs(FIRST))
    stage = ["--first-stage", folder / "first/last.pt", "--raw", "first-stage", "--latent-scale", 0.5, "--precision", "full"]
    run("assemble", *stage, *ABOUT, "--output", folder / "first.safetensors")

    images = torch.randint(0, 256, (8, 3, SIDE, SIDE), generator=g, dtype=torch.uint8)
    write_shard(folder / "labelled/0.safetensors", {"images": images, "labels": torch.randint(0, 4, (8, SIDE, SIDE), generator=g).byte()})
    config = folder / "slots.json"
    config.write_text(json.dumps({"training": {"mask_weight": 0.0, "decoder_mask_weight": 0.0}, "model": SLOTS.to_dict()}))
    run(
        *("train", "slots", "--config", config, "--set", *STAGE, f"shards={folder / 'labelled'}", f"folder={folder / 'slots'}"),
        f"first_stage={folder / 'first.safetensors'}",
    )
    first = read_first_stage(folder / "first.safetensors")
    latents = first.encode(images.float() / 255)
    identities = torch.randn(8, 128, generator=g)
    rows = {"target": latents, "render": latents.flip(0), "identity": identities, "source": images, "query": images.flip(0)}
    write_shard(folder / "shards/0.safetensors", rows)
    config = folder / "denoiser.json"
    config.write_text(json.dumps({"training": {"min_snr": 0.0, "hole_weight": 0.0, "token_dropout": 0.0}, "model": TOY.to_dict()}))
    joint = ["joint=true", f"slots={folder / 'slots/last.pt'}", f"folder={folder / 'denoiser'}"]
    run("train", "denoiser", "--config", config, "--set", *STAGE, f"shards={folder / 'shards'}", *joint)
    return folder


def build(first: Autoencoder, config: dict):
    """The first stage's encoder from the description in the checkpoint."""
    again = build_first_stage(config["source_encoder"]["network"], "test")
    again.load_state_dict(first.state_dict())
    return again.encode


def by_hand(folder: Path, denoiser: str) -> tuple[dict, dict[str, torch.Tensor], Autoencoder]:
    """What the trainings left, read without the code under test: the denoiser's configuration and averaged weights, and the first stage."""
    state = torch.load(folder / denoiser / "last.pt", weights_only=True)
    stage = torch.load(folder / "first/last.pt", weights_only=True)
    first = build_first_stage(stage["config"] | {"latent_scale": 0.5}, "first")
    first.load_state_dict(stage["model"])
    return state["config"], state["ema"], first


def part(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def score(folder: Path, model: Path, name: str) -> dict:
    """evaluate on one pair: the model beside a method that gives the source back; returns the table's JSON."""
    (folder / "copies").mkdir(exist_ok=True)
    Image.open(SOURCE).save(folder / "copies/0.png")
    (folder / "pairs.csv").write_text(f"source,query,result,take\n{SOURCE},{QUERY},0.png,\n")
    results = ["--results", f"copy={folder / 'copies'}", "--models", f"{name}={model}", "--keep", folder / "kept", "--device", "cpu"]
    sampled = ["--steps", 2, "--seed", 3, "--framing", "query"]
    run("evaluate", "--pairs-file", folder / "pairs.csv", *results, *sampled, "--output", folder / f"{name}.md")
    return json.loads((folder / f"{name}.json").read_text())


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)


def check_edits(folder: Path, file: Path, name: str, built: EditModel) -> None:
    """The file edits as the trained networks do, and evaluate scores just that picture."""
    run(
        "edit",
        "--model",
        file,
        "--source",
        SOURCE,
        "--query",
        QUERY,
        "--framing",
        "query",
        "--steps",
        2,
        "--seed",
        3,
        "--output",
        folder / "out.png",
    )
    pipeline = DiffFAE(built.eval(), HeadModel.load(), FaceLandmarker.load(), IdentityNetwork.load())
    images = [read_image(path)[0] for path in (SOURCE, QUERY)]
    wanted = pipeline.edit(*images, framing="query", sampling=Sampling(steps=2, seed=3))
    assert wanted.crop.shape[-1] == SIDE
    shown = pixels(folder / "out.png").float()
    assert (shown - wanted.image * 255).abs().max() < 1.01
    assert (shown - images[0] * 255).abs().mean() > 1  # it was painted

    table = score(folder, file, name)
    assert torch.equal(pixels(folder / "kept" / name / "0.png"), pixels(folder / "out.png"))
    rows = {row["name"]: row for row in table["methods"]}
    assert rows["copy"]["scored"] == 1
    assert rows["copy"]["means"]["CSIM"] == pytest.approx(1, abs=1e-4)
    assert rows["copy"]["means"]["APD"] > 0.02
    # three steps of training draw no face, and the table says so
    assert rows[name]["scored"] == 0
    assert rows[name]["problems"]["0.png"].endswith("no face found")
    assert table["settings"][name]["license"] == "test"


@pytest.mark.slow
def test_from_training_to_a_table(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = work / "toy.safetensors"
    files = ["--first-stage", work / "first.safetensors", "--denoiser", work / "denoiser/last.pt", "--labels", work / "labelled"]
    run("assemble", *files, "--name", "toy", "--finish", 0.1, "--precision", "full", *ABOUT, "--output", file)
    assert "order of the slots" in capfd.readouterr().err
    config, weights, first = by_hand(work, "denoiser")
    model = EditModel.load(file)
    assert (model.name, model.head, model.identity) == ("toy", "open", "dlib-resnet-v1")
    assert model.schedule == replace(TOY.schedule, finish=0.1)
    # the slots are those that were trained together with the denoiser, not the ones that they started from
    trained, start = model.slots.state_dict(), read_slots(work / "slots/last.pt").state_dict()
    for key, value in part(weights, "slots").items():
        assert torch.equal(trained[key], value), key
    assert not torch.equal(trained["initial"], start["initial"])
    assert sorted(model.slots.config.order) == ["background", "clothes", "face", "hair"]

    slots = SlotEncoder(SlotsConfig(**config["slots"]))
    slots.load_state_dict(part(weights, "slots"))
    denoiser = Denoiser(replace(TOY, schedule=model.schedule))
    denoiser.load_state_dict(part(weights, "denoiser"))
    check_edits(work, file, "toy", EditModel(first, slots, denoiser))


@pytest.mark.slow
def test_a_source_encoder_from_training_to_a_table(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = work / "vae"
    options = [*STAGE, f"shards={work / 'shards'}", f"folder={folder}", f"source_encoder_path={work / 'first.safetensors'}"]
    run("train", "denoiser", "--config", work / "denoiser.json", "encoder-vae", "--set", *options)
    file = work / "vae.safetensors"
    files = ["--first-stage", work / "first.safetensors", "--denoiser", folder / "last.pt"]
    run("assemble", *files, "--name", "vae", "--precision", "full", *ABOUT, "--output", file)
    config, weights, first = by_hand(work, "vae")
    model = EditModel.load(file)
    encoder = model.encoder
    assert encoder.token_size == 12
    assert config["source_encoder"] == {"kind": "vae", "tokens": 16, "token_size": 12, "network": config["source_encoder"]["network"]}
    assert torch.equal(encoder.position, weights["source_encoder.position"])
    images = torch.rand(1, 3, SIDE, SIDE)
    assert torch.equal(encoder.backbone.network.encode(images), build(first, config)(images))
    denoiser = Denoiser(TOY)
    denoiser.load_state_dict(part(weights, "denoiser"))
    check_edits(work, file, "vae", EditModel(first, encoder, denoiser))
    assert main(["swap", "--model", str(file), "--output", str(work / "swapped.png")]) == 2
    assert "knows no regions" in capsys.readouterr().err
    assert not (work / "swapped.png").exists()


@pytest.mark.slow
def test_files_that_do_not_go_together(work: Path, tmp_path: Path) -> None:
    first, slots, denoiser = work / "first/last.pt", work / "slots/last.pt", work / "denoiser/last.pt"
    with pytest.raises(ConfigError, match="holds the encoder that it was trained with"):
        ModelParts(FirstStageParts(first), denoiser, slots).assemble()
    with pytest.raises(ConfigError, match="'arcface-r50': makes tokens of 512 numbers, but this denoiser was trained with 128"):
        ModelParts(FirstStageParts(first), denoiser, identity="arcface-r50").assemble()
    wide, config = tmp_path / "wide.safetensors", replace(SLOTS, image_size=64)
    save_checkpoint(wide, SlotEncoder(config).state_dict(), kind="slots", config=config.to_dict(), license="test", source="test")
    alone = tmp_path / "denoiser.safetensors"
    save_checkpoint(alone, Denoiser(TOY).state_dict(), kind="denoiser", config=TOY.to_dict(), license="mine", source="test")
    with pytest.raises(
        ConfigError, match=r"wide\.safetensors: its slots are for pictures of 64 pixels, but first stage and denoiser are for 32"
    ):
        ModelParts(FirstStageParts(first), alone, wide).assemble()
    with pytest.raises(ConfigError, match="3 regions for 4 slots"):
        ModelParts(FirstStageParts(first), denoiser, order=("face", "hair", "clothes")).assemble()
    with pytest.raises(ConfigError, match="not both"):
        ModelParts(FirstStageParts(first), denoiser, order=("face",) * 4, labels=work / "labelled").assemble()
    for read, path, what in ((read_first_stage, slots, "first stage"), (read_slots, first, "slots"), (read_denoiser, slots, "denoiser")):
        with pytest.raises(CheckpointError, match=f"holds no {what}"):
            read(path)
    (tmp_path / "cut.pt").write_bytes(first.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="neither a complete training checkpoint"):
        read_denoiser(tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        read_slots(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match="only one set of weights"):
        read_first_stage(work / "first.safetensors", raw=True)


@pytest.mark.slow
def test_denoisers_of_frozen_slots_need_them(work: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = tmp_path / "denoiser.safetensors"
    save_checkpoint(path, Denoiser(TOY).state_dict(), kind="denoiser", config=TOY.to_dict(), license="mine", source="test")
    first = FirstStageParts(work / "first.safetensors")
    with pytest.raises(ConfigError, match="frozen slots, which it does not hold; give their checkpoint"):
        ModelParts(first, path).assemble()
    averaged, raw = (ModelParts(first, path, work / "slots/last.pt", raw=raw).assemble() for raw in ((), ("slots",)))
    state = torch.load(work / "slots/last.pt", weights_only=True)
    assert torch.equal(averaged.slots.initial, state["ema"]["slots.initial"])
    assert torch.equal(raw.slots.initial, state["model"]["slots.initial"])
    # a whole model gives any of its parts
    raw.save(tmp_path / "whole.safetensors", license="theirs", source="test", eight_bit=False, half=False)
    assert torch.equal(read_slots(tmp_path / "whole.safetensors").initial, raw.slots.initial)
    order = ["background", "clothes", "face", "hair"]
    files = ["--first-stage", tmp_path / "whole.safetensors", "--slots", work / "slots/last.pt", "--denoiser", path]
    sizes = {}
    for precision in ("8-bit", "half", "full"):
        output = tmp_path / f"{precision}.safetensors"
        run("assemble", *files, *ABOUT, "--precision", precision, "--order", *order, "--output", output)
        sizes[precision] = output.stat().st_size
        again = EditModel.load(output)
        assert list(again.slots.config.order) == order
        torch.testing.assert_close(again.denoiser.unet.conv_in.weight, raw.denoiser.unet.conv_in.weight, atol=4e-3, rtol=0)
    assert sizes["8-bit"] < sizes["half"] < sizes["full"]
    # the licences of finished parts stand beside the file's own
    assert load_checkpoint(tmp_path / "half.safetensors").license == "test; first stage: theirs; denoiser: mine"


def test_parts_stand_in_for_a_model_that_is_not_yet(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, first, slots = tmp_path / "pictures", work / "first.safetensors", work / "slots/last.pt"
    pictures.mkdir()
    g = torch.Generator().manual_seed(4)
    names = ("target", "render", "carried", "source")
    rows = {name: torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=g, dtype=torch.uint8) for name in names}
    rows |= {"validity": torch.full((2, 1, SIDE, SIDE), 255, dtype=torch.uint8), "landmarks": torch.rand(2, 478, 2, generator=g) * SIDE}
    write_shard(pictures / "0.safetensors", rows)
    given = ["--first-stage", first, "--slots", slots]
    run("prepare", "encode", "--input", pictures, "--output", tmp_path / "latents", *given)
    made = load_file(tmp_path / "latents/0.safetensors")
    tokens, _ = read_slots(slots)(rows["source"].float() / 255)
    torch.testing.assert_close(made["tokens"].float(), tokens, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(made["target"].float(), read_first_stage(first).encode(rows["target"].float() / 255), atol=5e-3, rtol=5e-3)
    line = ["prepare", "encode", "--input", pictures, "--output", tmp_path / "none", "--slots", slots]
    assert main([str(word) for word in line]) == 2
    assert "give both" in capsys.readouterr().err


def test_a_later_decoder(work: Path, tmp_path: Path) -> None:
    first, later = work / "first/last.pt", tmp_path / "later"
    options = [*STAGE, f"portraits={work / 'portraits'}", f"folder={later}", f"start={first}", "freeze_encoder=true", "crop=32"]
    run("train", "autoencoder", "--set", *options)
    old, new = (torch.load(path, weights_only=True)["model"] for path in (first, later / "last.pt"))
    both = FirstStageParts(first, later / "last.pt", latent_scale=0.25, raw=True).read().state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
    for name, value in both.items():
        assert torch.equal(value, new[name] if name.startswith("decoder.") else old[name]), name
    assert FirstStageParts(first, sharpen=0.3).read().config == replace(FirstStageParts(first).read().config, sharpen=0.3)
    with pytest.raises(ConfigError, match="sharpen -1: must be 0 or more"):
        FirstStageParts(first, sharpen=-1).read()
    torch.manual_seed(2)
    other, config = tmp_path / "other.safetensors", AutoencoderConfig.from_dict(FIRST)
    strange = Autoencoder(config).state_dict()
    save_checkpoint(other, strange, kind="first-stage", config=config.to_dict(), license="test", source="test")
    with pytest.raises(ConfigError, match="its encoder is not that of the first stage"):
        FirstStageParts(first, other, raw=True).read()


def test_names_are_read_from_files(work: Path, tmp_path: Path) -> None:
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps(small_flame(), protocol=2))
    convert([tmp_path / "generic_model.pkl"], tmp_path / "flame.safetensors", name="flame-2020")
    files = FirstStageParts(work / "first.safetensors"), work / "denoiser/last.pt"
    flame, identity = tmp_path / "flame.safetensors", asset_path("identity.safetensors")
    model = ModelParts(*files, head=str(flame), identity=str(identity)).assemble()
    assert (model.head, model.identity) == ("flame-2020", "dlib-resnet-v1")
    assert model.fingerprints == {"head": fingerprint(flame), "identity": fingerprint(identity)}


def test_a_file_states_the_networks_of_its_training(work: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, files = tmp_path / "model.safetensors", ["--first-stage", work / "first.safetensors", "--denoiser", work / "denoiser/last.pt"]
    run("assemble", *files, *ABOUT, "--output", output)
    bundled = {
        part: fingerprint(asset_path(name)) for part, name in (("head", "open_head.safetensors"), ("identity", "identity.safetensors"))
    }
    assert load_checkpoint(output, parts=()).config["fingerprints"] == bundled
    assert "file is not known" not in capfd.readouterr().err

    def refused(*options: object) -> str:
        output.unlink(missing_ok=True)
        assert main([str(word) for word in ("assemble", *files, *ABOUT, *options, "--output", output)]) == 2
        assert not output.exists()
        return capfd.readouterr().err

    assert "--head flam.safetensors: neither a file nor a known head (open, flame, gnm); correct the path" in refused(
        "--head", "flam.safetensors"
    )
    assert "--identity arcface-r5: neither a file nor a known network (dlib-resnet-v1, arcface-r18" in refused("--identity", "arcface-r5")
    assert "not of the head 'open'; give --head too" in refused("--deca", work / "first.safetensors")
    assert "holds 'first-stage', but 'deca' is needed" in refused("--head", "flame", "--deca", work / "first.safetensors")
    # a name without a file is taken, and said to be unknown
    run("assemble", *files, *ABOUT, "--head", "flame", "--output", output)
    said = capfd.readouterr().err
    assert all(f"the {part} file is not known" in said for part in ("head", "estimator"))
    config = load_checkpoint(output, parts=()).config
    assert (config["head"], config["fingerprints"]) == ("flame", {"identity": bundled["identity"]})
    # a whole model's denoiser brings along what that was trained with
    other = tmp_path / "other.safetensors"
    weights = load_checkpoint(asset_path("identity.safetensors"))
    tensors = {name: value * 1.01 for name, value in weights.tensors.items()}
    save_checkpoint(other, tensors, kind="identity", config=weights.config, license="test", source="test")
    parts = FirstStageParts(work / "first.safetensors"), output
    with pytest.raises(ConfigError, match=r"model\.safetensors: was trained with another identity file .*; give that one with --identity"):
        ModelParts(*parts, identity=str(other)).networks()
    assert ModelParts(*parts, identity="arcface-r50").networks()[2]["identity"] == bundled["identity"]


@pytest.mark.slow
def test_swaps_need_a_measured_order(work: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Slots that no labels taught are no regions until someone measures it; edits need none."""
    files = ["--first-stage", work / "first.safetensors", "--denoiser", work / "denoiser/last.pt", *ABOUT]
    unknown, known, out = tmp_path / "unknown.safetensors", tmp_path / "known.safetensors", tmp_path / "out.png"
    run("assemble", *files, "--output", unknown)
    assert "which slot is which region is not known, so swaps will be refused" in capfd.readouterr().err
    assert EditModel.load(unknown).slots.config.order == ()
    swapping = ["swap", "--regions", "hair", "--steps", "1", "--output", str(out), "--model"]
    assert main([*swapping, str(unknown)]) == 2
    assert "which of this model's slots is which region was never measured" in capfd.readouterr().err
    assert not out.exists()
    run("edit", "--model", unknown, "--source", SOURCE, "--query", QUERY, "--steps", 1, "--output", out)
    out.unlink()
    run("assemble", *files, "--labels", work / "labelled", "--output", known)
    said = capfd.readouterr().err
    assert said.count("so swaps of it take something else") >= 2  # labels and pictures are noise here
    assert main([*swapping, str(known)]) == 0
    assert out.exists()


def test_weak_regions_are_named(caplog: pytest.LogCaptureFixture) -> None:
    overlap = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.1, 0.49, 0.2, 0.0], [0.0, 0.41, 0.3, 0.1], [0.0, 0.0, 0.3, 0.9]])
    warn_of_weak(("face", "hair", "clothes", "background"), overlap)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "order of the slots: only 49 % of hair lies in its own",
        "order of the slots: only 30 % of clothes lies in its own",
    ]
    caplog.clear()
    warn_of_weak(("face", "hair", "hair", "background"), overlap)  # two slots of one region count together
    assert [record.getMessage().split(" of ")[2].split()[0] for record in caplog.records] == ["clothes"]


def test_training_states_what_its_shards_were_made_with(work: Path, tmp_path: Path) -> None:
    """From the shards' metadata through the checkpoint to the file: another network of the same name at the end is refused."""
    (tmp_path / "shards").mkdir()
    rows = load_file(work / "shards/0.safetensors")
    bundled = {"head": fingerprint(asset_path("open_head.safetensors")), "identity": fingerprint(asset_path("identity.safetensors"))}
    made = bundled | {"identity": "0123" * 16}
    for name in "ab":
        write_shard(tmp_path / f"shards/{name}.safetensors", rows, made)
    joint = ["joint=true", f"slots={work / 'slots/last.pt'}", f"folder={tmp_path / 'run'}"]
    train = ["train", "denoiser", "--config", work / "denoiser.json", "--set", *STAGE, f"shards={tmp_path / 'shards'}", *joint]
    run(*train)
    checkpoint = tmp_path / "run/last.pt"
    assert torch.load(checkpoint, weights_only=True)["config"]["fingerprints"] == made
    parts = FirstStageParts(work / "first.safetensors"), checkpoint
    with pytest.raises(
        ConfigError, match=rf"last\.pt: was trained with another identity file \(fingerprint 0123.*, not {bundled['identity'][:12]}"
    ):
        ModelParts(*parts).assemble()
    assert ModelParts(*parts, identity="arcface-r50").networks()[2] == made
    write_shard(tmp_path / "shards/c.safetensors", rows, bundled)
    with pytest.raises(ConfigError, match=r"c\.safetensors: was made with another identity file than other shards"):
        assert Shards(tmp_path / "shards", ("target",)).fingerprints
    assert Shards(work / "shards", ("target",)).fingerprints == {}
