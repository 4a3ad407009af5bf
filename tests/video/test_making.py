"""Portraits driven by clips and clips that are edited, from file to file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d
from video_files import background, seconds, sound, talking_frames, write_clip

from difffae import Adjustments, DiffFAE, read_image, write_image
from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError, NoFaceError, VideoError
from difffae.edit.description import Portrait, Sampling
from difffae.head.adjust import adjust
from difffae.head.attributes import FaceAttributes
from difffae.video import analysing, making, rendering
from difffae.video.analysing import follow, squares_of
from difffae.video.keyframes import Keyframes
from difffae.video.making import Change, Driven, along_keyframes, animate, edit_clip
from difffae.video.reading import Clip, Frame, read_frames
from difffae.video.rendering import Followed
from difffae.video.work import Work

MOVED = Sampling(denoise=0)
COUNT = 11
UNEVEN = [3600 * i + (900 if i % 2 else 0) for i in range(COUNT)]


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained(estimator="network")


@pytest.fixture(scope="module")
def me(model: DiffFAE) -> Portrait:
    image, _ = read_image(asset_path("source.png"))
    # an odd size
    return model.analyse(image[:, 20:275, 60:317])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that sways; from frame 7 on there is none."""
    frames = talking_frames(COUNT, jump=7)
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, UNEVEN, sound="aac", crf="14")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (analysing, rendering):
        monkeypatch.setattr(module, "PIECE", 4)


class KilledError(Exception):
    pass


def killed_after(count: int):
    """A progress callback that ends the work."""

    def progress(done: int, total: int) -> None:
        if done >= count:
            raise KilledError

    return progress


def test_a_clip_drives_a_portrait(model: DiffFAE, me: Portrait, clip: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    animate(model, [Driven(me, clip)], tmp_path / "out.mp4", sampling=MOVED, progress=lambda *done: told.append(done))
    before, after = list(read_frames(clip)), list(read_frames(tmp_path / "out.mp4"))
    assert seconds(after, tmp_path / "out.mp4") == seconds(before, clip)
    assert after[0].array().shape == (255, 257, 3)
    assert sound(tmp_path / "out.mp4") == sound(clip)
    assert told[-1] == (2 * COUNT, 2 * COUNT)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    # killed while it looked, killed while it painted, and started again each time: the same bytes, and nothing is done twice
    for kill in (6, COUNT + 6):
        with pytest.raises(KilledError):
            animate(model, [Driven(me, clip)], tmp_path / "again.mp4", sampling=MOVED, progress=killed_after(kill))
        assert not (tmp_path / "again.mp4").exists()
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "again.mp4.parts").iterdir()}
    assert {f"analysis-0000{i}.safetensors" for i in range(3)} | {"pictures-00000.safetensors"} <= set(done)
    told.clear()
    animate(model, [Driven(me, clip)], tmp_path / "again.mp4", sampling=MOVED, progress=lambda *done: told.append(done))
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    assert told[0][0] >= COUNT - 3
    assert len(told) < 2 * COUNT - 8


def test_what_was_done_for_another_edit_is_not_used(tmp_path: Path) -> None:
    first = Work(tmp_path / "out.mp4", {"yaw": 10})
    first.piece("pictures", 0).touch()
    assert len(Work(tmp_path / "out.mp4", {"yaw": 10}).pieces("pictures")) == 1
    assert not Work(tmp_path / "out.mp4", {"yaw": 11}).pieces("pictures")


def test_the_background_is_the_same_in_every_frame(model: DiffFAE, me: Portrait) -> None:
    changes = [Adjustments(yaw=yaw, blink=blink) for yaw, blink in ((0, 0.5), (10, 0), (-8, 1))]
    targets = FaceAttributes.cat([adjust(me.attributes, change, model.head.expression_names) for change in changes])
    # sums round; where the model paints, what it paints near the head is blended with what is around
    for sampling, most in ((MOVED, 0.05), (Sampling(0.2, steps=2), 0.3)):
        frames = torch.stack(list(rendering.driven_pictures(model, [(me, lambda rows: targets[rows])], range(3), sampling)))
        whole = (255 * frames).round()  # what is encoded
        # a difference that is smaller than a step may still cross one: of what is painted by one, at the few pixels of a corner
        steps = 0 if sampling is MOVED else 1
        assert (whole[..., :25] - whole[:1, ..., :25]).abs().max() == 0
        assert (whole[..., -25:] - whole[:1, ..., -25:]).abs().max() <= steps
        assert ((whole[..., -25:] - whole[:1, ..., -25:]) != 0).sum() <= 3 * steps
        spread = 255 * (frames.amax(0) - frames.amin(0)).amax(0)
        assert max(float(spread[:, :25].max()), float(spread[:, -25:].max())) < most
        assert float(spread[100:160, 100:160].max()) > 20


def test_a_clip_is_edited_and_frames_without_the_face_stay(model: DiffFAE, clip: Path, tmp_path: Path) -> None:
    change = Change(Adjustments(smile=0.5), Keyframes.of({"keys": [{"time": 0, "yaw": 0}, {"time": 0.2, "yaw": 12}]}))
    edit_clip(model, clip, tmp_path / "out.mp4", changes={0: change}, sampling=MOVED)
    before, after = list(read_frames(clip)), list(read_frames(tmp_path / "out.mp4"))
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert after[0].array().shape == before[0].array().shape
    assert sound(tmp_path / "out.mp4") == sound(clip)
    difference = [float((a.picture() - b.picture()).abs().mean()) * 255 for a, b in zip(after, before, strict=True)]
    assert min(difference[:7]) > 1.5 * max(difference[7:])
    assert difference[6] > difference[0]  # it turns more and more


def test_heads_that_stay_need_no_structure_behind_them(model: DiffFAE, clip: Path, tmp_path: Path) -> None:
    track = follow(model, Clip.read(clip), Work(tmp_path / "out.mp4", {}))
    change = Adjustments(smile=0.6, light_azimuth=60)

    def pictures(turned: bool) -> torch.Tensor:
        wanted = rendering.Followed(track, lambda rows: adjust(track.numbers[rows], change, model.head.expression_names), turned)
        return torch.stack(list(rendering.edited_frames(model, [wanted], range(2), MOVED)))

    fast, whole = pictures(False), pictures(True)
    assert not torch.equal(fast, whole)
    assert float((fast - whole).abs().amax()) < 1 / 255
    assert float((fast - whole).abs().mean()) < 0.01 / 255


def test_frames_pass_bit_for_bit(model: DiffFAE, clip: Path, tmp_path: Path) -> None:
    track = follow(model, Clip.read(clip), Work(tmp_path / "out.mp4", {}))
    assert track.present.tolist() == [True] * 7 + [False] * 4
    frames = list(rendering.edited_frames(model, [Followed(track, lambda rows: track.numbers[rows])], range(5, COUNT), MOVED))
    assert [type(frame) for frame in frames] == [torch.Tensor] * 2 + [Frame] * 4
    own = [frame.picture() for frame in read_frames(clip)][5:7]
    assert torch.equal(torch.stack(frames[:2]), torch.stack(own))  # nothing was asked of them


def test_the_face_is_followed_from_any_frame_on(model: DiffFAE, clip: Path, tmp_path: Path) -> None:
    whole = follow(model, Clip.read(clip), Work(tmp_path / "a.mp4", {}))
    work = Work(tmp_path / "b.mp4", {})
    with pytest.raises(KilledError):
        follow(model, Clip.read(clip), work, advance=lambda frames: killed_after(1)(len(work.pieces("analysis")), 0))
    assert 0 < len(work.pieces("analysis")) < 3
    again = follow(model, Clip.read(clip), work)
    assert all(torch.equal(a, b) for a, b in zip(whole.numbers.tensors().values(), again.numbers.tensors().values(), strict=True))
    assert torch.equal(whole.landmarks(1), again.landmarks(1))
    assert len({(square.left, square.top, square.side) for square in squares_of(whole, 256)}) <= COUNT


def test_a_still_face_stays_still(model: DiffFAE, tmp_path: Path) -> None:
    """Sensor noise of two grey levels, encoded: the numbers hardly move, nor does what is drawn of them."""
    rng = np.random.default_rng(0)
    picture = talking_frames(1)[0].astype(float)
    noise = [np.clip(np.rint(picture + rng.normal(0, 2, picture.shape)), 0, 255).astype(np.uint8) for _ in range(16)]
    still = write_clip(tmp_path / "still.mp4", noise, crf="18")
    track = follow(model, Clip.read(still), Work(tmp_path / "out.mp4", {}))
    head = model.head
    numbers = track.numbers
    points = head(numbers.shape, numbers.expression, numbers.pose)[:, ::20, :2]
    places = numbers.camera[:, None, :1] * (points + numbers.camera[:, None, 1:]) * Clip.read(still).width / 2
    assert float((places - places.mean(0)).square().sum(-1).mean().sqrt()) < 0.3
    assert len(set(squares_of(track, 256))) == 1


def test_along_keyframes_alone(model: DiffFAE, me: Portrait, tmp_path: Path) -> None:
    keys = Keyframes.of({"keys": [{"time": 0, "yaw": 0}, {"time": 0.2, "yaw": 15}]})
    along_keyframes(model, [(me, Change(None, keys))], tmp_path / "out.mp4", sampling=MOVED, order=making.Order(ping_pong=True))
    frames = [frame.picture() for frame in read_frames(tmp_path / "out.mp4")]
    assert len(frames) == 10  # 6 forwards, 4 backwards
    assert Clip.read(tmp_path / "out.mp4").rate == 25
    far = [float((frame - frames[0]).abs().mean()) for frame in frames]
    assert far.index(max(far)) == 5
    assert far[:6] == sorted(far[:6])
    with pytest.raises(ConfigError, match="give at least one face keyframes"):
        along_keyframes(model, [(me, Change(Adjustments(yaw=5)))], tmp_path / "out.mp4")


def test_clips_without_a_face_and_broken_ones_are_named(model: DiffFAE, me: Portrait, clip: Path, tmp_path: Path) -> None:
    empty = write_clip(tmp_path / "empty.mp4", [background()] * 3)
    with pytest.raises(NoFaceError, match=r"empty\.mp4: no frame shows a face"):
        animate(model, [Driven(me, empty)], tmp_path / "out.mp4")
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError, match=r"cut\.mp4: .*frame \d"):
        animate(model, [Driven(me, tmp_path / "cut.mp4")], tmp_path / "out.mp4")


def test_each_face_has_its_own_driver_or_none(model: DiffFAE, clip: Path, tmp_path: Path) -> None:
    """Two people side by side: what one does, they do as if they were alone, and who has no driver keeps every bit."""
    image, _ = read_image(asset_path("source.png"))
    small = torch.nn.functional.interpolate(image[None], (256, 256), mode="area")[0]
    two = torch.cat([small, small.flip(-1)], -1)
    left, right = (model.analyse(two, face) for face in sorted((0, 1), key=lambda face: model.analyse(two, face).crop.left))
    numbers = [adjust(left.attributes, Adjustments(blink=1, jaw_open=jaw), model.head.expression_names) for jaw in (0.3, 0.5)]
    moved, still = FaceAttributes.cat(numbers), right.attributes.expand(2)
    mine, theirs = (left, lambda rows: moved[rows]), (right, lambda rows: still[rows])
    alone, both = (torch.stack(list(rendering.driven_pictures(model, cast, range(2), MOVED))) for cast in ([mine], [theirs, mine]))
    assert torch.equal(alone, both)
    assert torch.equal(alone[..., 340:], two[None, ..., 340:].expand(2, -1, -1, -1))
    assert float((alone[..., :256] - two[None, ..., :256]).abs().amax()) > 0.2
    # both move: each side is as if the other had stayed, but for where their squares meet
    also = adjust(right.attributes, Adjustments(blink=1), model.head.expression_names).expand(2)
    theirs_alone, together = (
        torch.stack(list(rendering.driven_pictures(model, cast, range(2), MOVED)))
        for cast in ([(right, lambda rows: also[rows])], [(right, lambda rows: also[rows]), mine])
    )
    assert torch.equal(together[..., 340:], theirs_alone[..., 340:])
    assert float((together[..., :172] - alone[..., :172]).abs().amax()) < 2 / 255


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512x256: two people side by side, of whom the left one is the larger."""
    image, _ = read_image(asset_path("source.png"))
    both = torch.full((3, 256, 512), 0.5)
    both[:, :, :256] = torch.nn.functional.interpolate(image[None], (256, 256), mode="area")[0]
    both[:, 16:240, 272:496] = torch.nn.functional.interpolate(image[None].flip(-1), (224, 224), mode="area")[0]
    write_image(path := tmp_path_factory.mktemp("pair") / "two.png", both)
    return path


def shown(path: Path) -> torch.Tensor:
    return torch.stack([frame.picture() for frame in read_frames(path)])


def test_each_face_has_its_own_keyframes_on_the_command_line(pair: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A list of keyframes does to each face what its own keyframes alone do, and faces without keep still."""
    yaw, jaw = (
        {"keys": [{"frame": 0, "yaw": 0}, {"frame": 2, "yaw": 12}]},
        {"keys": [{"frame": 0, "jaw_open": 0}, {"frame": 1, "jaw_open": 0.5}]},
    )

    def moved(keys: object, *options: str) -> torch.Tensor:
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        command = ["animate", "--source", str(pair), "--keyframes", str(tmp_path / "keys.json"), "--output", str(tmp_path / "out.mp4")]
        assert main([*command, *options]) == 0
        return shown(tmp_path / "out.mp4")

    both = moved([yaw, jaw])
    left, right = moved([yaw]), moved([None, jaw])
    assert [len(frames) for frames in (both, left, right)] == [3, 3, 2]  # to the last key of all
    spread = [255 * (frames.amax(0) - frames.amin(0)).amax(0) for frames in (both, left, right)]
    assert float(spread[0][:, :200].max()) > 40
    assert float(spread[0][:, 300:].max()) > 40
    for own, still in ((spread[1][:, :200], spread[1][:, 300:]), (spread[2][:, 300:], spread[2][:, :200])):
        assert float(own.max()) > 40
        assert float(still.max()) < 4  # what H.264 does
    # each moves as alone, but for H.264
    for alone, side, least, most in ((left, slice(200), 4, 0.5), (right, slice(300, 512), 0.6, 0.35)):
        mine, theirs = ((frames - frames[:1])[..., side] for frames in (both[: len(alone)], alone))
        assert 255 * float(mine[1:].abs().mean()) > least
        assert 255 * float((mine - theirs)[1:].abs().mean()) < most
    assert torch.equal(moved([yaw, jaw], "--face", "0", "1"), both)
    assert float((moved(yaw, "--face", "0", "1")[..., 300:] - both[..., 300:]).abs().mean()) > 0.5 / 255  # one for both
    assert main(["report", str(tmp_path / "out.mp4")]) == 0
    assert "keyframes" in capfd.readouterr().out
    command = ["animate", "--source", str(pair), "--keyframes", str(tmp_path / "keys.json"), "--output", str(tmp_path / "no.mp4")]
    for keys, options, message in (
        ([yaw, jaw], ["--face", "0"], "the list has some for face 1, but what moves is face 0; name it, too"),
        ([None, None], [], "keys.json: keyframes: the list changes no face"),
        ([None, None, yaw], [], "two.png: face 2 was asked for, but it shows 2"),
        ({"keys": [{"time": 0}]}, [], "keys.json: keyframes: no key has a number"),
    ):
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        assert main([*command, *options]) == 2
        told = capfd.readouterr().err
        assert message in told, told
        assert not (tmp_path / "no.mp4").exists()


@pytest.mark.slow
def test_faces_of_clips_have_their_own_keyframes_on_the_command_line(
    pair: Path, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = (255 * read_image(pair)[0]).round().byte().permute(1, 2, 0).numpy()
    two = write_clip(tmp_path / "two.mp4", [picture] * 3, crf="14")
    yaw, smile = {"keys": [{"time": 0, "yaw": 12}]}, {"keys": [{"time": 0, "smile": 0.8}]}

    def change(keys: object, *options: str) -> tuple[float, float]:
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        common = ["--keyframes", str(tmp_path / "keys.json"), "--estimator", "network", "--output", str(tmp_path / "out.mp4")]
        assert main(["edit", "--source", str(two), *common, *options]) == 0
        far = 255 * (shown(tmp_path / "out.mp4") - shown(two)).abs().mean((0, 1))
        return float(far[:, :180].mean()), float(far[:, 300:].mean())

    left, right = change([None, yaw])
    assert 3 * left < right
    both = change([smile, yaw], "--face", "all")
    assert both[0] > 2 * left
    assert both[1] == pytest.approx(right, rel=0.1)
    for keys, option, message in (
        ([None, None, yaw], "all", "keys.json: has numbers for 3 faces, but {} shows 2; give one per face"),
        ([None, yaw], "0", "keyframes: the list has some for face 1, but what moves is face 0"),
    ):
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        command = ["edit", "--source", str(two), "--keyframes", str(tmp_path / "keys.json"), "--output", str(tmp_path / "no.mp4")]
        assert main([*command, "--face", option]) == 2
        assert message.format(two) in capfd.readouterr().err
    # a driven portrait: whom the list leaves out keeps still
    command = ["animate", "--source", str(pair), "--driving", str(clip), "--keyframes", str(tmp_path / "keys.json")]
    (tmp_path / "keys.json").write_text(json.dumps([None, smile]))
    assert main([*command, "--estimator", "network", "--output", str(tmp_path / "driven.mp4")]) == 0
    # one piece: each is encoded by itself. In cells of 4 pixels, since a codec changes single pixels of a still by up to 10 steps
    spread = avg_pool2d(255 * shown(tmp_path / "driven.mp4")[:4], 4).std(0).mean(0)
    assert float(spread[:, :45].max()) < 2
    assert float(spread[:, 75:].max()) > 20


@pytest.mark.slow
def test_memory_does_not_grow_with_a_clip(tmp_path: Path) -> None:
    """A whole run of the command in a process of its own: its peak is that of a clip a quarter as long, but for what allocators keep."""
    peaks = []
    for count in (40, 160):
        driving = write_clip(tmp_path / f"{count}.mp4", (talking_frames(40) * 4)[:count])
        command = ["animate", "--driving", str(driving), "--output", str(tmp_path / f"out{count}.mp4"), "--only", "eyes"]
        command += ["--denoise", "0", "--estimator", "network", "--device", "cpu"]
        script = "import resource, sys; from difffae.cli import main; main(sys.argv[1:]); "
        script += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        told = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True).stdout
        peaks.append(int(told.split()[-1]) / 1024)
        assert Clip.read(tmp_path / f"out{count}.mp4").frames == count
    assert peaks[1] < peaks[0] + 40  # MB; the 120 further frames are 18 as they are decoded, 147 as floats


def test_results_do_not_depend_on_how_many_cores_there_are(model: DiffFAE, me: Portrait, clip: Path, tmp_path: Path) -> None:
    cores, written = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            animate(model, [Driven(me, clip)], tmp_path / f"{count}.mp4", sampling=MOVED)
            assert torch.get_num_threads() == count
            written.append((tmp_path / f"{count}.mp4").read_bytes())
    finally:
        torch.set_num_threads(cores)
    assert written[0] == written[1]


@pytest.mark.slow
def test_commands(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"time": 0, "smile": 0}, {"time": 0.3, "smile": 0.5}]}))
    common = ["--estimator", "network", "--output", str(tmp_path / "out.mp4")]
    motion = ["--relative", "--multiply", "yaw=0.5", "--only", "eyes", "--keyframes", str(keys)]
    assert main(["animate", "--driving", str(clip), *motion, *common]) == 0
    assert len(list(read_frames(tmp_path / "out.mp4"))) == COUNT
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "out.mp4")
    assert f"{2 * COUNT}/{2 * COUNT}" in err
    assert main(["report", str(tmp_path / "out.mp4")]) == 0
    assert "animate: take pose expression, relative True" in capfd.readouterr().out
    assert main(["edit", "--source", str(clip), "--light-from", str(asset_path("query.png")), "--yaw", "5", *common]) == 0
    assert len(list(read_frames(tmp_path / "out.mp4"))) == COUNT


def test_commands_say_what_is_missing(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["animate", "--output", "out.mp4"], "nothing moves the portrait"),
        (["animate", "--driving", str(clip), "--output", str(tmp_path / "out.png")], "is no video that can be written"),
        (["animate", "--driving", str(clip), "--multiply", "yawn=2", "--output", str(tmp_path / "out.mp4")], "did you mean yaw"),
        (["animate", "--driving", str(clip), str(clip)], "--driving: 2 were given, and --face names 1"),
        (["animate", "--driving", str(clip), "--driving-face", "0", "1"], "--driving-face: 2 were given"),
        (["animate", "--driving", str(clip.parent)], "give one for the results with --output"),
        (["animate", "--driving", str(clip.parent), str(clip), "--output", "x"], "is a folder, whose clips are done one after another"),
        (["edit", "--source", str(clip.parent), "--output", str(clip.parent)], "holds the clips themselves"),
        (["edit", "--source", str(clip)], "nothing to change"),
        (["edit", "--source", str(clip), "--yaw", "5", "--output", str(clip)], "would overwrite an input"),
        (["edit", "--keyframes", "keys.json"], "use `animate --keyframes`"),
    ):
        assert main(arguments) == 2
        assert message in capfd.readouterr().err
