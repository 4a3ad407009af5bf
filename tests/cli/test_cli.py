"""The command line: its options, its errors of one line, and what it says to bad inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT

from difffae.cli import build_parser, main
from difffae.common.errors import ConfigError
from difffae.common.named_values import build, parse_pairs
from difffae.head.axes import AXES, PRESETS, Axis
from difffae.lab.training.presets import read_configs

ASSETS = ROOT / "difffae" / "assets"
SOURCE, QUERY = ASSETS / "source.png", ASSETS / "query.png"


@dataclass(frozen=True)
class Run:
    status: int
    out: list[str]
    err: list[str]

    def complaint(self) -> str:
        """The one line of a failed run."""
        assert self.status == 2, self
        assert len(self.err) == 1, self.err
        assert self.err[0].startswith("difffae: ")
        assert "; " in self.err[0], "says what to do"
        assert not self.out
        return self.err[0]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Run:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Run(status, captured.out.splitlines(), captured.err.splitlines())

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).copy()


# ---------------------------------------------------------------------------------------------------------- options


def test_help_is_instant_and_imports_nothing_heavy():
    code = "import sys, difffae.cli as c; c.build_parser(); print([m for m in ('torch', 'numpy', 'diffusers', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip() == "[]"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-m", "difffae", "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
        times.append(time.perf_counter() - start)
    assert "edit" in run.stdout
    assert min(times) <= 1.0


@pytest.mark.parametrize("command", ["edit", "swap", "render", "report", "train"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"python -m difffae {command}" in capsys.readouterr().out


def test_the_documented_options_parse():
    line = (
        "edit --source A.png --query B.jpg --take pose expression light --output out.png --pose-from C.png --expression-from D.png "
        "--light-from E.png --strength 0.7 --steps 20 --sampler ddim --seed 0 --face 0 --sheet sheet.png --device cpu --denoise 0.2 "
        "--yaw 15 --pitch -3.5 --roll 2 --smile 0.6 --jaw-open 0.2 --blink 1 --brow-up -0.5 --gaze-x 0.1 --gaze-y -0.1 "
        "--light-azimuth -45 --light-elevation 20 --light-strength 0.5 --preset wink --beyond-limit "
        "--coefficients jawForward=0.3 tongueOut=0.5"
    )
    arguments = build_parser().parse_args(line.split())
    assert arguments.take == ["pose", "expression", "light"]
    assert (arguments.yaw, arguments.light_azimuth, arguments.pitch) == (15, -45, -3.5)
    line = "swap --source A.png --reference B.png --regions hair clothes background --output out.png"
    swap = build_parser().parse_args(line.split())
    assert swap.regions == ["hair", "clothes", "background"]
    render = build_parser().parse_args(["render", "--source", "A.png", "--query", "B.png", "--take", "light", "--output", "render.png"])
    assert render.take == ["light"]
    assert build_parser().parse_args(["report", "--source", "A.png", "--query", "B.png", "--result", "out.png"]).result == "out.png"


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_every_number_is_an_option(axis: Axis):
    from difffae import Adjustments
    from difffae.cli.work import numbers_of

    asked = numbers_of(build_parser().parse_args(["edit", f"--{axis.option}", "0.25"]))
    assert asked == Adjustments(**{axis.name: 0.25})
    assert asked.record() == {axis.name: 0.25}


def test_presets_coefficients_and_flags_are_options():
    from difffae import Adjustments
    from difffae.cli.work import numbers_of

    for name in PRESETS:
        assert numbers_of(build_parser().parse_args(["edit", "--preset", name])) == Adjustments(preset=name)
    line = "edit --coefficients jawForward=0.3 mouthDimpleLeft=-0.5 --yaw 80 --absolute --beyond-limit"
    numbers = {"jawForward": 0.3, "mouthDimpleLeft": -0.5, "yaw": 80}
    assert numbers_of(build_parser().parse_args(line.split())) == Adjustments(absolute=True, beyond_limit=True, **numbers)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "COMMAND"),
        ("draw", "'draw'"),
        ("edit --nonsense 1", "--nonsense"),
        ("edit --steps many", "--steps"),
        ("edit --steps 0", "--steps"),
        ("edit --take hair", "'hair'"),
        ("edit --strength 1.5", "1.5"),
        ("edit --sampler euler", "'euler'"),
        ("edit --yaw left", "--yaw"),
        ("edit --yaw 400", "yaw: 400"),
        ("edit --smile nan", "smile: nan"),
        ("edit --wink-lefd 1", "did you mean --wink-left"),
        ("edit --preset winks", "did you mean wink?"),
        ("edit --coefficients mouthsmileleft=1", "did you mean mouthSmileLeft"),
        ("edit --coefficients jawForward=2", "jawForward: 2"),
        ("edit --yaw 5 --take pose", "--query"),
        ("edit --device tpu", "'tpu'"),
        ("swap --regions face", "'face'"),
        ("report --source a.png --query b.png", "--result"),
        ("train nothing", "'nothing'"),
        ("train autoencoder --set steps", "'steps'"),
        ("train autoencoder --set nonsense=1", "'nonsense'"),
        ("train autoencoder --set batch=many", "batch"),
        ("train autoencoder --config none.json", "none.json"),
    ],
)
def test_usage_problems_are_one_line(cli: Callable[..., Run], tmp_path: Path, line: str, what: str):
    assert what in cli(*line.split()).complaint()
    assert files(tmp_path) == []


@pytest.mark.slow
def test_as_a_process_status_is_two_and_stderr_one_line(tmp_path: Path):
    for arguments in (["edit", "--steps", "x"], ["edit", "--source", "no\nwhere.png", "--yaw", "5"]):
        run = subprocess.run(
            [sys.executable, "-m", "difffae", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert run.returncode == 2
        assert run.stdout == ""
        assert run.stderr.count("\n") == 1


def test_training_options_are_checked(tmp_path: Path):
    @dataclass(frozen=True)
    class Options:
        minutes: float = 60.0
        steps: int = 3
        name: str = "a"
        sizes: tuple[int, ...] = (1, 2)

    assert build(Options, parse_pairs(["minutes=5", "steps=7", "name=runs/x", "sizes=[3]"]), "test") == Options(5.0, 7, "runs/x", (3,))
    with pytest.raises(ConfigError, match=r"steps=1\.5 must be of type int"):
        build(Options, {"steps": 1.5}, "test")
    (tmp_path / "c.json").write_text('{"training": {"steps": 4, "name": "b"}, "model": {"width": 8}}')
    assert read_configs([str(tmp_path / "c.json")], "slots", ["steps=5"], []) == ({"steps": 5, "name": "b"}, {"width": 8})
    for text in ("{", "[]", '{"other": {}}', '{"model": 3}'):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=r"c\.json"):
            read_configs([str(tmp_path / "c.json")], "slots", [], [])


# ------------------------------------------------------------------------------- bad input that needs no network


def test_unreadable_inputs(cli: Callable[..., Run], tmp_path: Path):
    half = SOURCE.read_bytes()[:5000]
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "half.png").write_bytes(half)
    (inputs / "text.jpg").write_text("no picture")
    (inputs / "empty.png").write_bytes(b"")
    for name in ("half.png", "text.jpg", "empty.png", "missing.png", "."):
        for line in (["--source", inputs / name, "--yaw", "5"], ["--query", inputs / name], ["--light-from", inputs / name]):
            assert str(inputs / name) in cli("edit", *line).complaint()
    assert files(tmp_path) == ["inputs"]


def test_outputs_that_cannot_be_written(cli: Callable[..., Run], tmp_path: Path):
    for command in ("edit", "swap", "render"):
        for path in ("none/out.png", "out.xyz", "out", ".", "/proc/out.png"):
            assert path in cli(command, "--output", path).complaint()
    assert "none/sheet.png" in cli("edit", "--sheet", "none/sheet.png").complaint()
    assert files(tmp_path) == []


def test_inputs_are_never_overwritten(cli: Callable[..., Run], tmp_path: Path):
    (tmp_path / "a.png").write_bytes(SOURCE.read_bytes())
    assert "overwrite" in cli("edit", "--source", "a.png", "--yaw", "5", "--output", "a.png").complaint()
    assert "overwrite" in cli("edit", "--light-from", "a.png", "--sheet", tmp_path / "a.png").complaint()
    assert "two outputs" in cli("edit", "--output", "b.png", "--sheet", "./b.png").complaint()
    assert (tmp_path / "a.png").read_bytes() == SOURCE.read_bytes()


def test_a_source_with_nothing_to_change(cli: Callable[..., Run]):
    assert "nothing to change" in cli("edit", "--source", SOURCE).complaint()


# ------------------------------------------------------------------------------------------ with the networks


@pytest.fixture(scope="module")
def model():
    from difffae.edit.editor import DiffFAE

    return DiffFAE.from_pretrained("open-256")


@pytest.fixture
def edit(cli: Callable[..., Run], model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """As `cli`, with networks that are loaded once."""
    from difffae.cli import work

    monkeypatch.setattr(work, "load_model", lambda arguments: model)
    return cli


@pytest.mark.slow
def test_edit_without_arguments(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "-m", "difffae", "edit"], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["out.png", "sheet.png"]
    assert "10/10" not in run.stderr  # nothing is painted unless asked for
    assert files(tmp_path) == ["out.png", "sheet.png"]
    before, after = pixels(SOURCE), pixels(tmp_path / "out.png")
    assert after.shape == before.shape
    changed = np.abs(after.astype(int) - before).max(-1) > 8
    assert 0.02 < changed.mean() < 0.6  # the face, in the original framing
    assert not changed[-40:].any()
    sheet = pixels(tmp_path / "sheet.png")
    assert sheet.shape[1] >= 4 * 256
    assert sheet.shape[0] >= 2 * 256


def test_missing_and_truncated_weights(cli: Callable[..., Run], tmp_path: Path):
    assert "none.safetensors" in cli("edit", "--model", "none.safetensors").complaint()
    whole = (ASSETS / "open-256.safetensors").read_bytes()
    for name, data in {"half": whole[: len(whole) // 2], "empty": b"", "text": b"weights" * 100}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        assert f"{name}.safetensors" in cli("edit", "--model", f"{name}.safetensors").complaint()
    assert "landmarks.safetensors" in cli("edit", "--model", ASSETS / "landmarks.safetensors").complaint()  # of another kind
    assert not (tmp_path / "out.png").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device(cli: Callable[..., Run]):
    assert "cuda" in cli("edit", "--device", "cuda").complaint()


@pytest.mark.slow
def test_numbers_change_the_face_only(edit: Callable[..., Run], tmp_path: Path):
    run = edit("edit", "--source", SOURCE, "--yaw", "15", "--smile", "-0.6", "--light-azimuth", "-45")
    assert run == Run(0, ["out.png"], [])
    assert files(tmp_path) == ["out.png"]  # no sheet was asked for
    before, after = pixels(SOURCE).astype(int), pixels(tmp_path / "out.png").astype(int)
    assert np.abs(after - before)[80:180, 150:240].mean() > 5
    assert np.array_equal(after[-60:], before[-60:])
    assert np.array_equal(after[:, :40], before[:, :40])


def test_strength_zero_returns_the_source_bit_for_bit(edit: Callable[..., Run], tmp_path: Path):
    assert edit("edit", "--source", SOURCE, "--query", QUERY, "--strength", "0").status == 0
    assert np.array_equal(pixels(tmp_path / "out.png"), pixels(SOURCE))


@pytest.mark.slow
def test_groups_come_from_different_pictures(edit: Callable[..., Run], tmp_path: Path):
    line = ["edit", "--source", SOURCE, "--output"]
    assert edit(*line, "all.png", "--query", QUERY).status == 0
    assert edit(*line, "light.png", "--query", QUERY, "--take", "light").status == 0
    assert edit(*line, "same.png", "--light-from", QUERY).status == 0
    assert np.array_equal(pixels(tmp_path / "light.png"), pixels(tmp_path / "same.png"))
    assert not np.array_equal(pixels(tmp_path / "light.png"), pixels(tmp_path / "all.png"))


@pytest.mark.slow
def test_sampling_repeats_with_its_seed(edit: Callable[..., Run], tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = edit(
            "edit", "--source", SOURCE, "--query", QUERY, "--denoise", "0.2", "--steps", "2", "--seed", str(seed), "--output", f"{name}.png"
        )
        assert run.status == 0
        assert "2/2" in "".join(run.err)
    assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "c.png"))


@pytest.mark.slow
def test_swap_render_and_report(edit: Callable[..., Run], tmp_path: Path):
    line = ["--source", SOURCE, "--reference", QUERY]
    assert edit("swap", *line, "--regions", "background", "--denoise", "0.2", "--steps", "2", "--sheet", "s.png").status == 0
    assert not np.array_equal(pixels(tmp_path / "out.png"), pixels(SOURCE))
    assert edit("render", "--source", SOURCE, "--query", QUERY, "--take", "pose") == Run(0, ["render.png"], [])
    shown = pixels(tmp_path / "render.png")
    assert shown.shape == (256, 256, 3)
    assert shown[100:200, 100:156].mean() > 30
    assert shown[:10, :10].max() == 0
    assert edit("render", "--source", SOURCE, "--output", "plain.png").status == 0  # a render needs nothing to change
    run = edit("report", "--source", SOURCE, "--query", QUERY, "--result", SOURCE, "--json")
    assert run.status == 0
    numbers = json.loads(run.out[0])
    assert numbers["identity"] == pytest.approx(0, abs=1e-4)  # the source itself as a result: the person kept, nothing taken
    assert numbers["expression_quotient"] == pytest.approx(1, abs=1e-4)
    numbers = json.loads(edit("report", "--source", SOURCE, "--query", QUERY, "--result", QUERY, "--json").out[0])
    assert numbers["identity"] > 0.45
    assert numbers["yaw_error"] == pytest.approx(0, abs=1e-3)
    assert "identity" in edit("report", "--source", SOURCE, "--query", QUERY, "--result", SOURCE).out[0]


def variants(folder: Path) -> dict[str, Path]:
    """The source portrait in the kinds of files people have."""
    source = Image.open(SOURCE).convert("RGB")
    grey = np.asarray(source.convert("L"))
    alpha = source.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(source.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    saved: dict[str, tuple[Image.Image, dict]] = {
        "greyscale.png": (source.convert("L"), {}),
        "rgba.png": (alpha, {}),
        "sixteen.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "cmyk.jpg": (source.convert("CMYK"), {"quality": 95}),
        "palette.gif": (source.quantize(200), {}),
        "exif.png": (source.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
    }
    for name, (picture, options) in saved.items():
        picture.save(folder / name, **options)
    return {name: folder / name for name in saved}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greyscale.png", "rgba.png", "sixteen.png", "cmyk.jpg", "palette.gif", "exif.png"])
def test_odd_files_give_a_correct_result(edit: Callable[..., Run], tmp_path: Path, name: str):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    path = variants(inputs)[name]
    line = ["--yaw", "12"]
    assert edit("edit", "--source", path, *line) == Run(0, ["out.png"], [])
    result = pixels(tmp_path / "out.png")
    assert result.shape[:2] == (384, 384)
    assert edit("edit", "--source", SOURCE, *line, "--output", "plain.png").status == 0
    plain = pixels(tmp_path / "plain.png")
    if name == "exif.png":
        assert np.array_equal(result, plain)  # turned upright
    elif name == "rgba.png":
        assert np.array_equal(result[..., :3], plain)
        assert np.array_equal(result[..., 3], pixels(path)[..., 3])  # transparency is kept
    else:
        one_channel = name in ("greyscale.png", "sixteen.png")
        assert result.ndim == (2 if one_channel else 3)
        grey = np.abs((result if one_channel else result.mean(-1)) - plain.mean(-1))
        assert grey.mean() < 12
        assert np.median(grey) < 10


@pytest.mark.slow
def test_files_of_one_channel_stay_so_while_nothing_coloured_is_taken(edit: Callable[..., Run], tmp_path: Path):
    grey = Image.open(SOURCE).convert("L")
    grey.save(tmp_path / "l.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    for name in ("l", "rgb"):
        for output in (f"{name}_out.png", f"{name}_out.jpg"):
            assert edit("edit", "--source", f"{name}.png", "--smile", "0.5", "--output", output).status == 0
    assert pixels(tmp_path / "rgb_out.png").shape == (384, 384, 3)
    assert pixels(tmp_path / "rgb_out.jpg").shape == (384, 384, 3)
    assert np.array_equal(pixels(tmp_path / "l_out.png"), pixels(tmp_path / "rgb_out.png")[..., 0])
    lost = pixels(tmp_path / "l_out.jpg").astype(int) - pixels(tmp_path / "l_out.png")
    assert lost.shape == (384, 384)
    assert np.abs(lost).mean() < 2
    # another background has colours, which are what was asked for
    assert edit("swap", "--source", "l.png", "--reference", QUERY, "--regions", "background", "--output", "swap.png").status == 0
    coloured = pixels(tmp_path / "swap.png")
    assert coloured.shape == (384, 384, 3)
    assert np.ptp(coloured, axis=-1).mean() > 3


def test_no_face(edit: Callable[..., Run], tmp_path: Path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "plain.png")
    for line in (["--source", "plain.png", "--yaw", "5"], ["--query", "plain.png"]):
        assert "plain.png: no face" in edit("edit", *line).complaint()
    assert files(tmp_path) == ["plain.png"]


@pytest.mark.slow
def test_several_faces(edit: Callable[..., Run], tmp_path: Path):
    both = Image.new("RGB", (896, 512), (90, 90, 90))
    both.paste(Image.open(SOURCE), (0, 64))
    both.paste(Image.open(QUERY), (384, 0))  # the larger face
    both.save(tmp_path / "two.png")
    line = ["edit", "--source", "two.png", "--light-azimuth", "60"]
    run = edit(*line)
    assert run.status == 0
    assert len(run.err) == 1
    assert "2 faces in two.png; using the largest" in run.err[0]
    before, after = pixels(tmp_path / "two.png").astype(int), pixels(tmp_path / "out.png").astype(int)
    assert np.abs(after - before)[:, 384:].mean() > 10 * np.abs(after - before)[:, :384].mean()
    assert edit(*line, "--face", "1") == Run(0, ["out.png"], [])  # a choice needs no remark
    after = pixels(tmp_path / "out.png").astype(int)
    assert np.abs(after - before)[:, :384].mean() > 10 * np.abs(after - before)[:, 384:].mean()
    for face in ("2", "-1"):
        assert f"face {face}" in edit(*line, "--face", face).complaint()


def test_all_faces_in_one_run(edit: Callable[..., Run], tmp_path: Path):
    both = Image.new("RGB", (896, 512), (90, 90, 90))
    both.paste(Image.open(SOURCE), (0, 64))
    both.paste(Image.open(QUERY), (384, 0))  # the larger face
    both.save(tmp_path / "two.png")
    (tmp_path / "faces.json").write_text('[null, {"smile": 0.6}]')
    line = ["edit", "--source", "two.png"]
    before = pixels(tmp_path / "two.png").astype(int)
    assert edit(*line, "--light-azimuth", "60", "--face", "all") == Run(0, ["out.png"], [])
    after = pixels(tmp_path / "out.png").astype(int)
    assert min(np.abs(after - before)[:, half].mean() for half in (slice(384), slice(384, None))) > 0.5
    assert edit(*line, "--face", "all", "--per-face", "faces.json") == Run(0, ["out.png"], [])
    after = pixels(tmp_path / "out.png").astype(int)
    assert np.abs(after - before)[:, 384:].mean() < 0.1 * np.abs(after - before)[:, :384].mean()
    assert "add --face all" in edit(*line, "--per-face", "faces.json").complaint()


@pytest.mark.slow
def test_tiny_and_cut_pictures(edit: Callable[..., Run], tmp_path: Path):
    source = Image.open(SOURCE).convert("RGB")
    source.crop((110, 30, 280, 200)).resize((40, 40), Image.Resampling.LANCZOS).save(tmp_path / "tiny.png")
    source.crop((0, 110, 384, 384)).save(tmp_path / "cut_above.png")
    source.crop((190, 0, 384, 384)).save(tmp_path / "cut_left.png")
    source.crop((100, 0, 300, 150)).save(tmp_path / "cut_below.png")
    for name in ("tiny", "cut_above", "cut_left", "cut_below"):
        run = edit("edit", "--source", f"{name}.png", "--yaw", "8", "--output", f"{name}_out.png")
        if run.status == 0:
            assert pixels(tmp_path / f"{name}_out.png").shape == pixels(tmp_path / f"{name}.png").shape
            assert not np.array_equal(pixels(tmp_path / f"{name}_out.png"), pixels(tmp_path / f"{name}.png"))
        else:
            assert f"{name}.png" in run.complaint()
    assert (tmp_path / "cut_below_out.png").exists()  # a chin outside the frame is no reason to give up


@pytest.mark.slow
def test_huge_picture_within_memory(tmp_path: Path):
    Image.open(SOURCE).convert("RGB").resize((4000, 4000)).crop((-1000, 0, 5000, 4000)).save(tmp_path / "huge.jpg")
    code = (
        "import resource, sys; from difffae.cli import main; status = main(sys.argv[1:])\n"
        "print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    line = ["edit", "--source", "huge.jpg", "--yaw", "10", "--output", "out.jpg"]
    run = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    status, peak = run.stdout.split()[-2:]
    assert status == "0", run.stderr
    assert int(peak) < 4000  # MiB; the picture alone is 275
    assert pixels(tmp_path / "out.jpg").shape == (4000, 6000, 3)


@pytest.mark.slow
def test_nothing_is_left_when_the_edit_fails(edit: Callable[..., Run], model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for error, status in (
        (ConfigError("a: b; c"), 2),
        (MemoryError(), 2),
        (RuntimeError("CUDA out of memory"), 2),
        (KeyboardInterrupt(), 130),
    ):

        def fail(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr(model, "edit", fail)
        assert edit("edit").status == status
        assert files(tmp_path) == []
