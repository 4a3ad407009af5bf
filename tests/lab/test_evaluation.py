"""Scoring methods on one pairs file, and FID, on inputs whose numbers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import CheckpointError, ConfigError, NoFaceError
from difffae.common.images import read_image
from difffae.edit.editor import DiffFAE
from difffae.head.attributes import FaceAttributes
from difffae.lab.tables.comparison import Method, compare
from difffae.lab.tables.frechet import frechet_distance
from difffae.lab.tables.inception import Inception, resize
from difffae.lab.tables.intervals import bootstrap_interval
from difffae.lab.tables.judge import Codes, Judge
from difffae.lab.tables.pairs import read_pairs
from difffae.lab.tables.report import LAYOUTS, markdown, to_dict

SOURCE, QUERY = asset_path("source.png"), asset_path("query.png")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- FID


def white(count: int, size: int, seed: int) -> torch.Tensor:
    """Features whose sample mean is 0 and whose sample covariance is the identity, exactly."""
    x = normal(count, size, seed=seed)
    return torch.linalg.qr(x - x.mean(0)).Q * (count - 1) ** 0.5


def test_frechet_distance_of_known_gaussians():
    a, b = white(40, 5, 0), white(60, 5, 1)
    assert frechet_distance(a, b) == pytest.approx(0, abs=1e-9)
    shift, scale = torch.tensor([3.0, 0, 0, 4, 0]), torch.tensor([1.0, 2, 3, 0.5, 0])
    # |shift|^2 + sum (1 - scale)^2 for commuting covariances; one of them singular
    assert frechet_distance(a, b * scale + shift) == pytest.approx(25 + 0 + 1 + 4 + 0.25 + 1, abs=1e-8)


@pytest.mark.parametrize(("n", "m"), [(200, 300), (200, 12), (9, 12)])
def test_frechet_distance_against_the_matrix_root(n: int, m: int):
    """More pictures than numbers, fewer on one side, fewer on both: covariances of low rank."""
    size = 30
    a, b = normal(n, size) @ normal(size, size, seed=2), normal(m, size, seed=1) @ normal(size, size, seed=3) + 1
    u, v = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    values, vectors = np.linalg.eigh(u)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    expected = (
        ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(u + v) - 2 * np.sqrt(np.linalg.eigvalsh(root @ v @ root).clip(0)).sum()
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    if min(n, m) > size:  # pytorch-fid's own expression, where it is well-conditioned
        assert frechet_distance(a, b) == pytest.approx(
            ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(u + v - 2 * sqrtm(u @ v).real)
        )


def test_frechet_distance_needs_pictures():
    with pytest.raises(ConfigError, match="two pictures"):
        frechet_distance(normal(1, 4), normal(5, 4))
    with pytest.raises(ConfigError, match="not finite"):
        frechet_distance(normal(5, 4), normal(5, 4) / 0)


def inception_weights() -> dict[str, torch.Tensor]:
    """Weights that any implementation can make: every tensor in the order of the names, from one generator."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    with torch.device("meta"):
        shapes = Inception().state_dict()
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(0)
            continue
        value = torch.randn(shapes[name].shape, generator=generator)
        if name.endswith("conv.weight"):
            tensors[name] = value * (2 / value[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            tensors[name] = 1 + 0.1 * value.abs()
        else:
            tensors[name] = 0.1 * value + (1 if name.endswith("bn.weight") else 0)
    return tensors


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(inception_weights() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path


def test_inception_gives_the_numbers_of_torch_fidelity(inception_file: Path):
    """The golden numbers are FeatureExtractorInceptionV3's (torch-fidelity 0.4.0) with the same weights and picture."""
    ramp = torch.stack([(torch.arange(64 * 48).reshape(48, 64) * k) % 251 for k in (1, 3, 7)]).float() / 255
    features = Inception.load(inception_file).features([ramp, ramp.flip(-1)])
    golden = torch.tensor([0.841035, 0.009914, 0.039364, 0.351956, 0.256539, 0.305365], dtype=torch.float64)
    assert torch.allclose(features[0, [0, 2, 100, 700, 1500, 2047]], golden, atol=2e-5)
    assert features[0].mean().item() == pytest.approx(0.2037224, abs=2e-6)
    assert (features[0] - features[1]).abs().max() > 0.01


def test_inception_resizes_as_tensorflow_did():
    steps = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
    assert resize(steps, 4)[0, 0, 0].tolist() == [0, 0.5, 1, 1]  # pixel i at i / 2, the border repeated
    assert torch.equal(resize(torch.arange(9.0).reshape(1, 1, 3, 3), 3)[0, 0], torch.arange(9.0).reshape(3, 3))


def test_inception_refuses_other_files(tmp_path: Path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 nothing")
    for name in ("other.pth", "broken.pth", "missing.pth"):
        with pytest.raises(CheckpointError, match=name):
            Inception.load(tmp_path / name)


# -------------------------------------------------------------------------------------------------------- pairs file


def test_pairs_file(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("\ufeffsource, query, result, take\na.png, b.png, x/1.png, light+pose\n\nb.png,a.png,2.png,\n", encoding="utf-8")
    first, second = read_pairs(path)
    assert (first.source, first.query, first.result, first.take) == (tmp_path / "a.png", tmp_path / "b.png", "x/1.png", ("pose", "light"))
    assert second.take == ("pose", "expression", "light")
    assert read_pairs(path, tmp_path / "faces")[0].source == tmp_path / "faces" / "a.png"
    (tmp_path / "2.jpg").touch()
    assert second.find(tmp_path) == tmp_path / "2.jpg"
    assert first.find(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("source,result\na,b", "no column 'query'"),
        ("source,query,result\n", "no pairs"),
        ("source,query,result\na.png,,1.png", "line 2: query is empty"),
        ("source,query,result\na.png,b.png,../1.png", "line 2: result '../1.png'"),
        ("source,query,result\na.png,b.png,/1.png", "below a folder"),
        ("source,query,result\na.png,b.png,1.txt", "ending in"),
        ("source,query,result,take\na.png,b.png,1.png,hair", "take 'hair'"),
        ("source,query,result\na.png,b.png,1.png\nb.png,a.png,1.jpg", "two pairs"),
    ],
)
def test_pairs_file_that_cannot_be_used(tmp_path: Path, text: str, what: str):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ConfigError, match=what.replace(".", r"\.")):
        read_pairs(tmp_path / "pairs.csv")


# -------------------------------------------------------------------------------------------------------- comparison


class FlatJudge:
    """Codes of flat pictures: red is the pose, green the expression, blue the light; white has no face."""

    names = {"estimator": "flat colours", "codes": "levels", "identity": "none"}  # noqa: RUF012

    def look(self, image: torch.Tensor, name: str) -> Codes:
        r, g, b = (255 * image.double().mean((1, 2))).round().tolist()
        if min(r, g, b) == 255:
            raise NoFaceError(f"{name}: no face found")
        return Codes(torch.full((3,), r), torch.full((4,), g), torch.full((27,), b), torch.tensor([1.0, r / 100]).double())


def flat(path: Path, *colour: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> SimpleNamespace:
    """Four pairs, the last of them with a query that shows no face; two methods, one with everything wrong that can be."""
    flat(tmp_path / "s.png", 100, 0, 0)
    flat(tmp_path / "q.png", 50, 60, 70)
    flat(tmp_path / "blank.png", 255, 255, 255)
    (tmp_path / "pairs.csv").write_text(
        "source,query,result,take\ns.png,q.png,1.png,\ns.png,q.png,2.png,pose\ns.png,q.png,3.png,\ns.png,blank.png,4.png,\n"
    )
    for index in (1, 2, 3, 4):
        flat(tmp_path / "good" / f"{index}.png", 50 + index, 60, 72)
    flat(tmp_path / "bad" / "1.png", 100, 0, 71)
    (tmp_path / "bad" / "2.png").write_bytes((tmp_path / "good" / "2.png").read_bytes()[:40])
    flat(tmp_path / "bad" / "4.png", 1, 2, 3)
    pairs = read_pairs(tmp_path / "pairs.csv")
    methods = [Method("good", tmp_path / "good"), Method("a|b", tmp_path / "bad", ("light",))]
    return SimpleNamespace(folder=tmp_path, pairs=pairs, methods=methods)


def test_comparison_takes_means_and_lists_what_is_wrong(scene: SimpleNamespace):
    seen = []
    result = compare(FlatJudge(), scene.pairs, scene.methods, each=lambda: seen.append(1))
    assert len(seen) == 8
    good, bad = result.methods
    everything = result.among()
    assert good.mean("APD", everything) == pytest.approx((1 + 2 + 3) / 3)
    assert good.mean("AED", everything) == 0
    assert good.mean("ALD", everything) == pytest.approx(2)  # the pair that takes only pose has no say
    assert set(good.values["2.png"]) == {"APD", "CSIM"}
    assert bad.mean("APD", everything) is None
    assert bad.mean("ALD", everything) == pytest.approx(1)
    assert bad.mean("CSIM", everything) == pytest.approx(1)  # its pose is still the source's
    cosine = (1 + 0.51) / math.sqrt(2 * (1 + 0.51**2))
    assert good.values["1.png"]["CSIM"] == pytest.approx(cosine)
    assert list(good.problems) == ["4.png"]
    assert list(result.unusable) == [str(scene.folder / "blank.png")]
    reasons = bad.problems
    assert (reasons["3.png"], set(reasons)) == ("missing", {"2.png", "3.png", "4.png"})
    assert "2.png: " in reasons["2.png"]
    assert "because of its input" in reasons["4.png"]


def test_common_pairs_compare_like_with_like(scene: SimpleNamespace):
    result = compare(FlatJudge(), scene.pairs, scene.methods, common=True)
    assert result.among() == {"1.png"}
    assert result.methods[0].mean("APD", result.among()) == pytest.approx(1)


class MeanColours:
    """In the place of Inception: features (N,3)."""

    def features(self, pictures) -> torch.Tensor:
        return torch.stack([picture.double().mean((1, 2)) for picture in pictures])


def test_fid_counts_the_readable_pictures(scene: SimpleNamespace):
    inception = MeanColours()
    result = compare(FlatJudge(), scene.pairs, scene.methods, inception, real=[scene.folder / "good" / f"{i}.png" for i in (1, 2, 3, 4)])
    good, bad = result.methods
    assert (good.fid_pictures, bad.fid_pictures, result.real_pictures) == (4, 2, 4)
    assert good.fid == pytest.approx(0, abs=1e-9)
    colours = [torch.tensor([[51.0, 60, 72], [52, 60, 72], [53, 60, 72], [54, 60, 72]]), torch.tensor([[100.0, 0, 71], [1, 2, 3]])]
    assert bad.fid == pytest.approx(frechet_distance(*(c.double() / 255 for c in colours)), rel=1e-6)
    by_default = compare(FlatJudge(), scene.pairs, scene.methods, inception)
    assert by_default.real_pictures == 3  # s, q and blank


def test_report_names_everything(scene: SimpleNamespace):
    result = compare(FlatJudge(), scene.pairs, scene.methods)
    text = markdown(result, LAYOUTS["comparison"], {"good": {"steps": 20}})
    # of the four pairs one takes pose alone, and one's query shows no face
    assert "| good | 2.0000 (3 of 4) | 0.0000 (2 of 3) | 2.0000 (2 of 3) | 0." in text
    assert "| a\\|b | / | / | 1.0000 (1 of 3) | 1.0000 (1 of 4) | 3 |" in text
    for words in ("flat colours (levels)", "Identity network of CSIM: none", "FID was not measured", "steps 20", "- `3.png`: missing"):
        assert words in text
    assert "APD ↓" not in markdown(result, LAYOUTS["identity"], {}).splitlines()[2]
    data = json.loads(json.dumps(to_dict(result, {}), allow_nan=False))
    assert data["methods"][1]["means"] == {"APD": None, "AED": None, "ALD": 1.0, "CSIM": pytest.approx(1), "FID": None}
    assert data["methods"][1]["counts"]["ALD"] == {"scored": 1, "asked": 3}
    assert data["methods"][1]["counts"]["APD"] == {"scored": 0, "asked": 0}
    assert data["judge"]["estimator"] == "flat colours"
    # what a method was asked for and never showed is no "/"
    light = compare(FlatJudge(), scene.pairs, [Method("none", scene.folder / "none", ("light",))])
    assert "| none | / | / | - (0 of 3) | - (0 of 4) | 4 |" in markdown(light, LAYOUTS["comparison"], {})
    # FID counts pictures, also those in which no face is found
    fid = compare(FlatJudge(), scene.pairs, scene.methods, MeanColours())
    fid.inception = "colours"
    assert "(4 of 4) | 2.0000 (3 of 4)" in markdown(fid, LAYOUTS["comparison"], {})
    common = compare(FlatJudge(), scene.pairs, scene.methods, common=True)
    assert "| good | 1.0000 (1 of 4) |" in markdown(common, LAYOUTS["comparison"], {})


# ----------------------------------------------------------------------------------------------- the real judge, the command


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


@pytest.mark.slow
def test_judge_sees_what_the_editor_sees_and_a_mirror_turns_it(model: DiffFAE):
    judge = Judge(model.landmarker, model.estimator, model.identity)
    image = read_image(SOURCE)[0]
    seen, mirrored = judge.look(image, "source"), judge.look(image.flip(-1), "mirrored")
    attributes = model.analyse(image).attributes
    assert torch.allclose(seen.expression.float(), attributes.expression[0], atol=1e-5)
    assert torch.allclose(seen.light.float(), attributes.light[0].flatten(), atol=1e-5)
    distances = seen.distances(seen, seen)
    assert (distances["APD"], distances["AED"], distances["ALD"]) == (0, 0, 0)
    assert distances["CSIM"] == pytest.approx(1)
    assert torch.allclose(mirrored.pose, seen.pose * torch.tensor([-1.0, 1, -1]), atol=0.03)  # radians: yaw and roll change sign
    assert abs(seen.pose[0]) < 0.6
    other = judge.look(read_image(QUERY)[0], "query")
    assert mirrored.distances(seen, seen)["CSIM"] > other.distances(seen, seen)["CSIM"] + 0.02
    assert "52 expression coefficients" in judge.names["codes"]
    with pytest.raises(NoFaceError, match="blank"):
        judge.look(torch.ones(3, 64, 64), "blank")
    with pytest.raises(ConfigError, match="belong together"):
        Judge.load(deca="deca.safetensors")


class OtherEstimator(torch.nn.Module):
    """In the place of DECA: 60 expression coefficients, and a head that turns by its global rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.head = SimpleNamespace(name="flame", expression_count=60)

    def forward(self, images, landmarks, blendshapes, known) -> FaceAttributes:
        pose = torch.zeros(1, 5, 3)
        pose[0, 0], pose[0, 1] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([9.0, 9, 9])
        light = torch.arange(27.0).reshape(1, 9, 3)
        return FaceAttributes("flame", torch.zeros(1, 4), torch.zeros(1, 4), pose, torch.ones(1, 3), torch.arange(60.0)[None], light)


def test_judge_with_deca_takes_its_raw_codes(model: DiffFAE):
    judge = Judge(model.landmarker, OtherEstimator(), model.identity)
    seen = judge.look(read_image(SOURCE)[0], "source")
    assert torch.allclose(seen.pose.float(), torch.tensor([0.1, 0.2, 0.3]))
    assert seen.expression.tolist() == list(range(50))
    assert seen.light.tolist() == list(range(27))
    assert "DECA, head 'flame'" in judge.names["estimator"]


@pytest.mark.slow
def test_evaluate_scores_checkpoints_and_folders(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "pairs.csv").write_text("source,query,result\nsource.png,query.png,1.png\nquery.png,source.png,2.png\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "1.png").write_bytes(SOURCE.read_bytes())
    line = ["evaluate", "--pairs-file", tmp_path / "pairs.csv", "--pictures", SOURCE.parent, "--device", "cpu"]
    line += ["--results", f"Hou={tmp_path / 'other'}", "--edits", "Hou=light", "--models", "Ours=open-256"]
    line += ["--keep", tmp_path / "kept", "--output", tmp_path / "table.md"]
    assert main([str(part) for part in line]) == 0
    data = json.loads((tmp_path / "table.json").read_text())
    hou, ours = data["methods"]
    assert (hou["scored"], ours["scored"], hou["problems"]) == (1, 2, {"2.png": "missing"})
    assert hou["means"]["APD"] is None
    assert hou["means"]["CSIM"] == pytest.approx(1)
    assert ours["means"]["APD"] < 0.03  # the preview turns the head
    # of both directions: the copied source is as far from the query in either, and one picture's estimate of light says little
    assert ours["means"]["ALD"] < 0.9 * hou["means"]["ALD"]
    assert "| Hou | / | / |" in (tmp_path / "table.md").read_text()
    kept = tmp_path / "kept" / "Ours"
    before = (kept / "1.png").stat().st_mtime_ns
    (kept / "2.png").unlink()
    assert main([str(part) for part in line]) == 0
    assert (kept / "1.png").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "table.json").read_text())["methods"][1]["means"] == ours["means"]
    capfd.readouterr()
    assert main([str(part) for part in [*line, "--seed", "1"]]) == 2
    assert "--keep" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "--pairs-file"),
        ("--pairs-file none.csv", "none.csv"),
        ("--pairs-file pairs.csv --results here", "NAME=FOLDER"),
        ("--pairs-file pairs.csv --results a=. --edits b=light", "no --results"),
        ("--pairs-file pairs.csv --results a=. --edits a=hair", "NAME=WHAT"),
        ("--pairs-file pairs.csv --results a=. --inception none.pth", "none.pth"),
        ("--pairs-file pairs.csv --results a=. --real empty", "0 pictures"),
        ("--pairs-file pairs.csv --results a=. --output none/table.md", "--output"),
        ("--pairs-file pairs.csv --results a=. --judge-deca x.safetensors", "belong together"),
    ],
)
def test_evaluate_says_what_is_wrong(tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str], line: str, what: str):
    monkeypatch.chdir(tmp_path)
    Path("pairs.csv").write_text("source,query,result\na.png,b.png,1.png\n")
    Path("empty").mkdir()
    assert main(["evaluate", *line.split()]) == 2
    captured = capfd.readouterr()
    assert what in captured.err
    assert captured.err.count("\n") == 1


# -------------------------------------------------------------------------------------------------------------- speed


@pytest.mark.slow
def test_speed_counts_evaluations_and_reads_finetuning(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """A previewed edit makes no evaluation, whatever the steps; minutes come from a training checkpoint, and nobody else's seconds."""
    torch.save({"config": {}, "model": {}, "ema": {}, "spent": 90.25}, tmp_path / "last.pt")
    line = ["evaluate", "--table", "speed", "--models", "Tuned=open-256", "--runs", "1", "--device", "cpu"]
    line += ["--output", str(tmp_path / "speed.md")]
    assert main([*line, "--denoise", "0.2", "--steps", "3", "--finetuned", f"Tuned={tmp_path / 'last.pt'}"]) == 0
    text = (tmp_path / "speed.md").read_text()
    assert "| Tuned | 90.2 min |" in text
    assert "| 3 (dpmpp_2m, denoise 0.2) |" in text
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert (row["evaluations"], row["denoise"], row["finetuning_minutes"]) == (3, 0.2, 90.25)
    assert not any(words in text for words in ("DiffusionRig", "0.8126", "0.8379"))
    assert main([*line, "--steps", "3"]) == 0
    text = (tmp_path / "speed.md").read_text()
    assert "| Tuned | - |" in text
    assert "| 0 (dpmpp_2m, denoise 0) |" in text
    capfd.readouterr()
    assert main([*line, "--finetuned", f"Other={tmp_path / 'last.pt'}"]) == 2
    assert "--finetuned Other: there is no row of this name" in capfd.readouterr().err


def test_intervals_are_those_of_resampled_pairs():
    values = [float(number) for number in range(100)]
    low, high = bootstrap_interval(fmean, values)
    # of a mean of 100 numbers with a standard deviation of 28.9: 1.96 times 2.89 to both sides
    assert abs(low - (49.5 - 5.66)) < 0.6
    assert abs(high - (49.5 + 5.66)) < 0.6
    assert bootstrap_interval(fmean, values) == (low, high)
    assert bootstrap_interval(fmean, [2.5] * 5) == (2.5, 2.5)
    assert bootstrap_interval(fmean, values[:4]) is None
    assert bootstrap_interval(lambda drawn: None, values) is None
