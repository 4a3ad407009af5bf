"""Recipes: JSON, the three picture formats, what other programs read, damaged files, and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from difffae.cli import main
from difffae.common import xmp
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError, ImageError
from difffae.common.images import read_image, write_image
from difffae.edit.recipe import CheckpointInfo, Recipe, file_sha256, identity_distances, pnginfo, read_recipe
from difffae.head.attributes import FaceAttributes
from difffae.report.results import measure_pair
from difffae.source.arcface import ArcFace

URI = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
SOURCE, QUERY = asset_path("source.png"), asset_path("query.png")


def attributes(frames: int) -> FaceAttributes:
    torch.manual_seed(3)
    shapes = {"shape": (75,), "albedo": (6,), "pose": (5, 3), "camera": (3,), "expression": (52,), "light": (9, 3)}
    return FaceAttributes("open", **{name: torch.randn(frames, *shape) for name, shape in shapes.items()})


def example(frames: int = 1) -> Recipe:
    return Recipe(
        software={"difffae": "0.1.0", "comfyui": '0.3 <Grüße & "more">'},
        checkpoint={"name": "open-256", "sha256": "ab" * 32, "license": "Apache-2.0"},
        steps=[{"node": "KSampler", "seed": 2**63, "cfg": 1.0, "denoise": 0.1 + 0.2}, {"command": "edit", "take": ("pose", "light")}],
        attributes=json.loads(attributes(frames).to_json()),
        identity_distance=[0.25 + index for index in range(frames)],
    )


def noise(height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)).float() / 255


def test_json_comes_back_equal():
    recipe = example(2)
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert Recipe.from_json(text).to_json() == text
    assert text.isascii()
    assert torch.equal(recipe.face_attributes().expression, attributes(2).expression)  # bit for bit
    later = json.loads(text) | {"mood": "fine"}
    assert Recipe.from_json(json.dumps(later)) == recipe
    assert "created" not in text  # nothing of the clock: equal edits give equal files


def test_a_recipe_keeps_what_it_was_given():
    steps = [{"seed": 1}]
    recipe = Recipe(steps=steps)
    steps[0]["seed"] = 2
    assert recipe.steps == [{"seed": 1}]
    assert recipe.software.keys() == {"difffae", "torch"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "not a DiffFAE recipe"),
        ('{"format": "difffae-attributes/1"}', "not a DiffFAE recipe"),
        ('{"format": "difffae-recipe/2"}', "update DiffFAE"),
        ('{"format": "difffae-recipe/1", "software": {}}', "lacks checkpoint, steps"),
    ],
)
def test_text_that_is_no_recipe(text: str, what: str):
    with pytest.raises(ConfigError, match=what):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("software", {"torch": 2}),
        ("checkpoint", {"name": "a"}),
        ("steps", ["edit"]),
        ("steps", [{"seed": torch.zeros(1)}]),
        ("attributes", [1]),
        ("identity_distance", [float("nan")]),
        ("identity_distance", ["near"]),
        ("digital_source_type", "a\x00b"),
    ],
)
def test_values_of_another_kind(field: str, value: object):
    with pytest.raises(ConfigError, match=field):
        Recipe(**{field: value})


def test_frames_of_a_batch():
    recipe, rows = example(3), attributes(3)
    second = recipe.frame(1)
    assert second.identity_distance == [1.25]
    assert torch.equal(second.face_attributes().pose, rows.pose[1:2])
    assert second.face_attributes().head == "open"
    assert second.steps == recipe.steps
    assert second.frame(7) == second  # one row serves all frames
    for index in (-1, 3):
        with pytest.raises(ConfigError, match=f"no frame {index} of 3"):
            recipe.frame(index)
    shared = Recipe(attributes=json.loads(attributes(1).to_json()), identity_distance=[0.1, None])
    assert shared.frame(1).identity_distance == [None]
    assert shared.frame(1).attributes == shared.attributes
    with pytest.raises(ConfigError, match="2 and 3 frames"):
        Recipe(attributes=recipe.attributes, identity_distance=[0.1, 0.2])


def test_file_hash(tmp_path: Path):
    data = bytes(range(256)) * 10_000  # more than one piece
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == sha256(data).hexdigest()
    with pytest.raises(ConfigError, match="none"):
        file_sha256(tmp_path / "none")
    info = CheckpointInfo.read(asset_path("landmark_offsets.safetensors"))
    expected = sha256(asset_path("landmark_offsets.safetensors").read_bytes()).hexdigest()
    assert info.record() == {"name": "landmark_offsets", "sha256": expected, "license": "Apache-2.0"}


# ---------------------------------------------------------------------------------------------------------- picture files


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_pictures_carry_the_recipe_and_keep_their_pixels(tmp_path: Path, ending: str):
    recipe = example()
    with_it, without, again = (tmp_path / f"{name}.{ending}" for name in ("with", "without", "again"))
    write_image(with_it, noise(), recipe=recipe)
    write_image(without, noise())
    write_image(again, noise(), recipe=example())
    assert read_recipe(with_it) == recipe
    assert torch.equal(read_image(with_it)[0], read_image(without)[0])
    assert with_it.read_bytes() == again.read_bytes()
    data = with_it.read_bytes()  # as programs look for it that do not know the format: XMP is stored as it is
    root = ElementTree.fromstring(data[data.index(b"<x:xmpmeta") : data.index(b"</x:xmpmeta>") + 12])
    found = root.findall(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert [item.text for item in found] == [URI]
    assert root.findtext(".//{http://ns.adobe.com/xap/1.0/}CreatorTool") == "DiffFAE 0.1.0"


def test_comfyui_reads_its_workflow_beside_the_recipe(tmp_path: Path):
    texts = {"prompt": json.dumps({"3": {"class_type": "KSampler", "text": "Grüße"}}), "workflow": json.dumps({"nodes": [1]})}
    Image.new("RGB", (8, 8)).save(tmp_path / "node.png", pnginfo=pnginfo(example(), texts))
    write_image(tmp_path / "library.png", noise(), text=texts, recipe=example())
    for name in ("node.png", "library.png"):
        with Image.open(tmp_path / name) as picture:
            assert {key: picture.info[key] for key in texts} == texts
        assert read_recipe(tmp_path / name) == example()


def rewritten(packet: bytes) -> bytes:
    """As programs rewrite packets: simple properties as attributes, padding behind, a byte order mark in front."""
    root = ElementTree.fromstring(packet)
    description = root.find(f".//{{{xmp.NAMESPACES['rdf']}}}Description")
    for child in list(description):
        description.set(child.tag, child.text)
        description.remove(child)
    return "\ufeff".encode() + ElementTree.tostring(root) + b" " * 2000 + b"\x00"


def test_recipes_survive_other_programs(tmp_path: Path):
    recipe = example()
    write_image(tmp_path / "a.png", noise(), recipe=recipe)
    with Image.open(tmp_path / "a.png") as picture:
        picture.save(tmp_path / "b.webp", xmp=rewritten(recipe.packet()))  # a converter that keeps XMP only
        info = PngImagePlugin.PngInfo()
        info.add_text("difffae", recipe.to_json(), zip=True)
        picture.save(tmp_path / "c.png", pnginfo=info)  # one that compresses text
    with Image.open(tmp_path / "a.png") as picture:
        info = PngImagePlugin.PngInfo()
        info.add(b"tEXt", b"difffae\x00" + recipe.to_json().encode(), after_idat=True)
        picture.save(tmp_path / "d.png", pnginfo=info)  # one that writes it behind the pixels
    for name in ("b.webp", "c.png", "d.png"):
        assert read_recipe(tmp_path / name) == recipe, name


def test_pictures_without_a_recipe(tmp_path: Path):
    def png(name: str, **texts: str) -> Path:
        write_image(tmp_path / name, noise(), text=texts)
        return tmp_path / name

    (tmp_path / "text.png").write_text("no picture")
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + example().packet().replace(b"DiffFAE 0.1.0", b"&a;")
    Image.new("RGB", (8, 8)).save(tmp_path / "bomb.webp", xmp=bomb)
    Image.new("RGB", (8, 8)).save(tmp_path / "broken.webp", xmp=example().packet()[:-60])
    for path, kind, what in (
        (tmp_path / "none.png", ImageError, "no such picture"),
        (tmp_path, ImageError, "is a folder"),
        (tmp_path / "text.png", ImageError, "not a picture"),
        (png("plain.png"), ImageError, "carries no DiffFAE recipe"),
        (tmp_path / "bomb.webp", ImageError, "carries no DiffFAE recipe"),
        (tmp_path / "broken.webp", ImageError, "carries no DiffFAE recipe"),
        (png("damaged.png", difffae=example().to_json()[:-9]), ConfigError, "is not JSON"),
        (png("later.png", difffae='{"format": "difffae-recipe/2"}'), ConfigError, "update DiffFAE"),
    ):
        with pytest.raises(kind, match=what) as caught:
            read_recipe(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_recipe_too_long_for_jpeg(tmp_path: Path):
    recipe = example(40)
    with pytest.raises(ImageError, match=r"a\.jpg: recipe: .* fit into a JPEG"):
        write_image(tmp_path / "a.jpg", noise(), recipe=recipe)
    assert not list(tmp_path.iterdir())
    for index in (0, 39):
        write_image(tmp_path / "a.jpg", noise(), recipe=recipe.frame(index))
        assert read_recipe(tmp_path / "a.jpg").identity_distance == [0.25 + index]
    write_image(tmp_path / "a.webp", noise(), recipe=recipe)
    assert read_recipe(tmp_path / "a.webp") == recipe


# ----------------------------------------------------------------------------------------------------------- with the networks


@pytest.fixture(scope="module")
def model():
    from difffae.edit.editor import DiffFAE

    return DiffFAE.from_pretrained("open-256")


@pytest.mark.slow
def test_identity_distances(model):
    source, query = (model.analyse(read_image(path)[0]).picture for path in (SOURCE, QUERY))
    after = torch.cat([source, query, torch.full_like(source, 0.5)])
    same, other, nobody = identity_distances(model.landmarker, model.identity, source, after)
    assert same == 0
    assert other > 0.45
    assert nobody is None


def test_thresholds_are_named_for_their_own_network_only(model, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, query = (model.analyse(read_image(path)[0]) for path in (SOURCE, QUERY))
    row = measure_pair(model, source, query, query)[0]
    tokens = [model.identity.embed(face.picture, face.landmarks) for face in (source, query)]
    assert row.value == pytest.approx(float((tokens[0] - tokens[1]).norm()))
    assert row.value > 0.45
    assert row.note == "as of another person; the same person up to 0.43, others from 0.45"
    torch.manual_seed(0)
    other = SimpleNamespace(identity=ArcFace("r18").requires_grad_(False).eval())
    row = measure_pair(other, source, query, query)[0]  # type: ignore[arg-type]
    tokens = [other.identity.embed(face.picture, face.landmarks) for face in (source, query)]
    assert row.value == pytest.approx(1 - float((tokens[0] * tokens[1]).sum()), abs=1e-5)
    assert "arcface-r18" in row.note
    assert "0.4" not in row.note

    for network, wanted in (("arcface-r50", "of arcface-r50; 0 is the same face"), (None, "up to 0.43"), ("dlib-resnet-v1", "up to 0.43")):
        checkpoint = example().checkpoint | ({} if network is None else {"identity": network})
        write_image(tmp_path / "a.png", noise(), recipe=replace(example(), checkpoint=checkpoint))
        assert main(["report", str(tmp_path / "a.png")]) == 0
        shown = capsys.readouterr().out
        assert wanted in shown
        assert ("0.43" in shown) == (network != "arcface-r50")


@pytest.mark.slow
def test_command_line(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from difffae.cli import work

    monkeypatch.setattr(work, "load_model", lambda arguments: model)
    monkeypatch.chdir(tmp_path)

    def run(*line: str) -> str:
        capsys.readouterr()
        assert main(list(line)) == 0
        return capsys.readouterr().out

    run("edit", "--yaw", "15", "--light-from", str(QUERY), "--source", str(SOURCE), "--output", "out.png", "--sheet", "s.webp")
    recipe = Recipe.from_json(run("report", "out.png", "--json"))
    assert recipe.checkpoint["sha256"] == sha256(asset_path("open-256.safetensors").read_bytes()).hexdigest()
    assert recipe.steps == [
        {"command": "edit", "take": ["light"], "strength": 1.0, "framing": "source", "numbers": {"yaw": 15.0}, "denoise": 0.0}
    ]
    before, after = (model.analyse(read_image(path)[0]) for path in (SOURCE, Path("out.png")))
    own, new = (model.identity.embed(portrait.picture, portrait.landmarks[..., :2]) for portrait in (before, after))
    # measured again on the file; light from the side and 15 degrees leave this person near the limit of 0.43 for one person
    assert recipe.identity_distance[0] == pytest.approx(model.identity.distance(own, new).item(), abs=0.03)
    assert 0.1 < recipe.identity_distance[0] < 0.55
    query = model.analyse(read_image(QUERY)[0]).attributes
    assert torch.equal(recipe.face_attributes().light, query.light)
    assert str(tmp_path) not in recipe.to_json()
    assert str(SOURCE.parent) not in recipe.to_json()
    assert read_recipe("s.webp") == recipe
    shown = run("report", "out.png")
    for words in (recipe.checkpoint["sha256"], "edit: take light", "yaw=15", "mouthSmileLeft", "identity distance", URI):
        assert words in shown

    run("swap", "--regions", "hair", "--strength", "0", "--seed", "5", "--denoise", "0.2", "--steps", "2", "--output", "swap.jpg")
    recipe = read_recipe("swap.jpg")
    taken = {"regions": ["hair"], "strength": 0.0, "photo": True}
    painted = {"denoise": 0.2, "steps": 2, "sampler": "dpmpp_2m", "seed": 5}
    assert recipe.steps == [{"command": "swap", "framing": "source", "swaps": [taken], **painted}]
    assert recipe.identity_distance == [0.0]


def test_report_of_pictures_it_cannot_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    damaged = json.loads(example().to_json())
    damaged["attributes"]["shape"] = 5
    damaged["attributes"]["pose"] = [[1.0]]

    def complaint(*line: str | Path) -> str:
        assert main(["report", *map(str, line)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err

    write_image(tmp_path / "damaged.png", noise(), text={"difffae": json.dumps(damaged)})
    assert "carries no DiffFAE recipe" in complaint(SOURCE)
    assert "damaged.png: recipe: its attributes" in complaint(tmp_path / "damaged.png")
    assert "--query" in complaint(SOURCE, "--query", QUERY)
    assert "--result" in complaint("--source", SOURCE, "--query", QUERY)
    steered = Recipe(steps=[{"command": "edit\x1b[2J"}])
    write_image(tmp_path / "steered.png", noise(), recipe=steered)
    assert main(["report", str(tmp_path / "steered.png")]) == 0
    assert "\x1b" not in capsys.readouterr().out
