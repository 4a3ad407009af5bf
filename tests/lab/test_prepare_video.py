"""`prepare videos` and `prepare pairs` on videos that are rendered here: FOMM's rules, the same result anywhere, kills, broken files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT, TESTS
from video_files import fatal, talking_frames, write_video

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.fingerprint import fingerprint
from difffae.lab.prepare.json_lines import Journal
from difffae.lab.videos.clips import Box, Chunk, ClipRules, box_overlap, find_chunks, grown_square, nearest_box
from difffae.lab.videos.prepare_video import VideoOptions, decode_frame
from difffae.lab.videos.prepare_videos import Split, _join, _part, prepare_videos
from difffae.lab.videos.resizing import resize
from difffae.lab.videos.sources import find_videos
from difffae.lab.videos.tar_samples import read_tar, write_tar
from difffae.video.pool import run_tasks

STILL: Box = (100.0, 100.0, 400.0, 400.0)
OPTIONS = VideoOptions(every=4, rules=ClipRules(min_frames=8, min_size=60))
FLAGS = ["--every", "4", "--min-frames", "8", "--min-size", "60"]


def test_overlap_counts_pixels_as_fomm_does() -> None:
    # ten by ten pixels each, half of them shared: 50 / 150
    assert box_overlap((0, 0, 9, 9), (5, 0, 14, 9)) == pytest.approx(1 / 3)
    assert box_overlap((0, 0, 9, 9), (10, 0, 19, 9)) == 0


def test_tube_box_grows_to_a_square_by_fomms_formulas() -> None:
    # 100 x 120: the height grows by 0.1 * 120 on both sides to 144, the width by (1.2 * 120 - 100) / 200 = 0.22 of itself
    assert grown_square((100, 100, 200, 220), 0.1) == (78, 88, 222, 232)
    # 120 x 100, the other way round
    assert grown_square((100, 100, 220, 200), 0.1) == (88, 78, 232, 222)
    # truncated towards zero, so that half a pixel outside the frame is inside: 9.5 - 10 -> 0, 109.5 + 10 -> 119
    assert grown_square((9.5, 9.5, 109.5, 109.5), 0.1) == (0, 0, 119, 119)


@pytest.mark.parametrize(
    ("boxes", "chunks", "dropped"),
    [
        ([STILL] * 63, [], {"short": 1}),
        ([STILL] * 64, [(0, 64)], {}),
        ([STILL] * (1024 + 64), [(0, 1024), (1024, 1088)], {}),
        ([STILL] * (1024 + 63), [(0, 1024)], {"short": 1}),
        ([None, None] + [STILL] * 64 + [None] + [STILL] * 64 + [None], [(2, 66), (67, 131)], {}),
        ([(100.0, 100.0, 355.5, 300.0)] * 64, [], {"small": 1}),
        ([(100.0, 100.0, 356.0, 300.0)] * 64, [(0, 64)], {}),
        ([(29.0, 100.0, 329.0, 400.0)] * 64, [], {"outside": 1}),
        ([(30.0, 100.0, 330.0, 400.0)] * 64, [(0, 64)], {}),
        ([(770.0, 100.0, 1070.0, 400.0)] * 64, [(0, 64)], {}),
        ([(771.0, 100.0, 1071.0, 400.0)] * 64, [], {"outside": 1}),
    ],
)
def test_chunk_rules(boxes: list[Box | None], chunks: list[tuple[int, int]], dropped: dict[str, int]) -> None:
    found, reasons = find_chunks(boxes, 1000, 1100, ClipRules())
    assert [(chunk.start, chunk.end) for chunk in found] == chunks
    assert reasons == dropped


def test_chunk_ends_below_a_quarter_of_overlap_with_its_first_box() -> None:
    def wide(left: int) -> Box:  # 500 x 300 pixels
        return (left, 600, left + 499, 899)

    # shifted by 300 of 500: 200 / 800 = 0.25 stays; by 301: 199 / 801 does not
    whole, _ = find_chunks([wide(100)] * 64 + [wide(400)] * 64, 1500, 1100, ClipRules())
    # the tube is 799 x 299: left 100 - 79.9, up 600 - (1.2 * 799 - 299) / 2, right 899 + 79.9, down 899 + 329.9
    assert whole == [Chunk(0, 128, (20, 270, 978, 1228))]
    parts, reasons = find_chunks([wide(100)] * 64 + [wide(401)] * 64, 1500, 1100, ClipRules())
    assert [(chunk.start, chunk.end) for chunk in parts] == [(0, 64), (64, 128)]
    assert reasons == {}


def test_face_nearest_to_the_last_box_is_followed() -> None:
    boxes: list[Box] = [(0, 0, 99, 99), (200, 0, 279, 79)]
    assert nearest_box(boxes, None) == 0
    assert nearest_box(boxes, (210, 0, 289, 79)) == 1
    assert nearest_box(boxes, (500, 500, 600, 600)) == 0


def test_split_is_by_person_and_about_eight_to_two() -> None:
    split = Split()
    tested = [name for name in (f"id{10001 + i}" for i in range(1251)) if split.of(name) == "test"]
    assert abs(len(tested) - 250) < 45  # three standard deviations
    assert Split(listed=frozenset({"a"})).of("a") == "test"
    assert Split(listed=frozenset({"a"})).of(tested[0]) == "train"


def test_line_cut_off_by_a_kill_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"clip": "b"}\n{"clip": "a')
    journal = Journal(path, "clip")
    assert list(journal.rows) == ["b"]
    journal.append({"clip": "a"})
    journal.sort()
    assert path.read_text() == '{"clip": "a"}\n{"clip": "b"}\n'


@pytest.mark.parametrize("moment", ["before", "written", "noted"])
def test_kill_while_parts_are_joined(tmp_path: Path, moment: str) -> None:
    """Killed before, after a shard was written, and after it was noted: never a clip twice or not at all."""
    rows = [{"clip": f"p/v/{name}.mp4", "samples": 2} for name in "abc"]
    for row in rows:
        part = _part(tmp_path, row["clip"])
        part.parent.mkdir(parents=True, exist_ok=True)
        write_tar(part, [(f"{row['clip'][:-4]}/000/{i:06d}", {"txt": row["clip"].encode()}) for i in range(2)])
    saved = shutil.copytree(tmp_path / "parts", tmp_path / "saved")
    if moment != "before":
        _join(tmp_path, "train", rows, 3)
        shutil.rmtree(tmp_path / "parts")
        shutil.copytree(saved, tmp_path / "parts")
        if moment == "written":
            first = (tmp_path / "train/shards.jsonl").read_text().splitlines()[0]
            (tmp_path / "train/shards.jsonl").write_text(first + "\n")
    _join(tmp_path, "train", rows, 3)
    shards = sorted((tmp_path / "train").glob("*.tar"))
    keys = [[key for key, _ in read_tar(shard)] for shard in shards]
    assert keys == [
        ["p/v/a/000/000000", "p/v/a/000/000001", "p/v/b/000/000000", "p/v/b/000/000001"],
        ["p/v/c/000/000000", "p/v/c/000/000001"],
    ]
    assert not list((tmp_path / "parts").rglob("*.tar"))


def test_ray_cluster_that_does_not_answer_is_named() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(ConfigError, match=r"--ray-address 127\.0\.0\.1:1: no Ray cluster answers"):
        list(run_tasks(fatal, ["a"], 1, "127.0.0.1:1"))


def test_layouts_that_cannot_be_prepared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no videos here"):
        find_videos(tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match="no person's folder"):
        find_videos(tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "a.mp4").rename(tmp_path / "p" / "a.mp4")
    (tmp_path / "p" / "a.avi").touch()
    with pytest.raises(ConfigError, match=r"has the name of p/a\.avi"):
        find_videos(tmp_path)


def cropped_frames(count: int, size: int) -> list[np.ndarray]:
    """The talking head cut as closely as FOMM cuts, at its size."""
    frames = (Image.fromarray(frame).crop((105, 60, 225, 180)) for frame in talking_frames(count))
    return [np.asarray(frame.resize((size, size), Image.Resampling.BICUBIC)) for frame in frames]


@pytest.mark.parametrize(
    ("boxes", "side", "chunks", "dropped"),
    [
        ([(30.0, 20.0, 225.0, 235.0)] * 64, 256, [(0, 64)], {}),  # FOMM's own clip
        ([(30.0, 20.0, 150.0, 140.0)] * 64, 256, [], {"small": 1}),  # a small face in a square video
        ([(15.0, 10.0, 200.0, 215.0)] * 64, 224, [], {"small": 1}),  # cut out, but smaller than asked for
        ([(30.0, 20.0, 450.0, 470.0)] * 63, 512, [], {"short": 1}),
    ],
)
def test_what_was_cut_out_already_is_taken_whole(
    boxes: list[Box | None], side: int, chunks: list[tuple[int, int]], dropped: dict[str, int]
) -> None:
    found, reasons = find_chunks(boxes, side, side, ClipRules())
    assert [(chunk.start, chunk.end, chunk.box) for chunk in found] == [(start, end, (0, 0, side, side)) for start, end in chunks]
    assert reasons == dropped


METADATA = "video_id,start,end,bbox,fps,width,height,partition,person_id\n"


def test_fomms_names_and_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("test/id1#aa#000100#000200.mp4", "train/id2#bb#000000#000064.mp4", "cc.mp4", "dd.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = tmp_path / "vox.csv"
    rows = ["cc,50,150,100-0-300-250,25,640,360,test,id3", "cc,0,64,100-0-300-250,25,640,360,test,id3", "bb,0,64,1-1-9-9,25,64,64,test,id2"]
    table.write_text(METADATA + "\n".join([*rows, "gone,0,64,1-1-9-9,25,64,64,train,id9"]) + "\n")
    found = {source.clip: source for source in find_videos(tmp_path, table)}
    assert {clip: (source.file, source.split, len(source.stretches)) for clip, source in found.items()} == {
        "id1/aa/000100-000200.mp4": ("test/id1#aa#000100#000200.mp4", "test", 0),
        "id2/bb/000000-000064.mp4": ("train/id2#bb#000000#000064.mp4", "test", 0),  # the list says so
        "id3/cc/all.mp4": ("cc.mp4", "test", 2),
    }
    assert "2 of 3 videos" in caplog.text
    # at half the size and twice the rate; 200 wide and 250 tall -> 100 and 125, square around the middle, pushed down into the frame
    assert found["id3/cc/all.mp4"].stretches[1].chunk(320, 180, Fraction(50)) == Chunk(100, 300, (37, 0, 162, 125))
    for damage, said in (("video_id,start\n", "no column 'end'"), (METADATA + "cc,x,1,1-1-9-9,25,9,9,test,id3\n", "a row is damaged")):
        table.write_text(damage)
        with pytest.raises(ConfigError, match=said):
            find_videos(tmp_path, table)
    table.write_text(METADATA)
    (tmp_path / "test").joinpath("id1#aa#000100#000200.mp4").unlink()
    (tmp_path / "train").joinpath("id2#bb#000000#000064.mp4").unlink()
    with pytest.raises(ConfigError, match="none of its videos"):
        find_videos(tmp_path, table)


@pytest.mark.slow
def test_voxceleb_as_fomm_publishes_it_needs_no_options(tmp_path: Path) -> None:
    """Clips of 256 pixels that were cut already, and whole videos with the list, give the same pictures of the same face."""
    pytest.importorskip("av")
    write_video(tmp_path / "cut" / "test" / "id1#aa#000000#000066.mp4", cropped_frames(66, 256))
    write_video(tmp_path / "whole" / "aa.mp4", talking_frames(66))
    # two stretches that overlap, of a list that was made at twice the size
    (tmp_path / "vox.csv").write_text(
        METADATA + "aa,0,66,210-120-450-360,25,640,640,train,id1\naa,2,6,210-130-450-350,25,640,640,train,id1\n"
    )
    rows = {}
    for name, more in (("cut", []), ("whole", ["--metadata", str(tmp_path / "vox.csv")])):
        step = ["prepare", "videos", str(tmp_path / name), "--output", str(tmp_path / "out" / name), "--workers", "1", "--every", "33"]
        assert main([*step, *more]) == 0
        (rows[name],) = lines(tmp_path / "out" / name / "manifest.jsonl")
    assert (rows["cut"]["split"], rows["cut"]["samples"], rows["cut"]["chunks"]) == (
        "test",
        2,
        [{"start": 0, "end": 66, "box": [0, 0, 256, 256]}],
    )
    assert [chunk["box"] for chunk in rows["whole"]["chunks"]] == [[105, 60, 225, 180]] * 2
    assert (rows["whole"]["split"], rows["whole"]["samples"]) == ("train", 3)
    cut, whole = (read_tar(next((tmp_path / "out" / name).rglob("*.tar"))) for name in ("cut", "whole"))
    one, other = (decode_frame(dict(next(samples)[1])) for samples in (cut, whole))
    assert (one["landmarks"] - other["landmarks"])[:, :2].norm(dim=-1).mean() < 3  # pixels of 256, of pictures enlarged twice
    assert (one["picture"].float() - other["picture"].float()).abs().mean() < 8


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons to train on and one to test on; two broken files."""
    pytest.importorskip("av")
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "id1/v/a.mp4", talking_frames(9))
    write_video(root / "id1/v/b.mp4", talking_frames(66, 1.0))
    write_video(root / "id2/v/a.mp4", talking_frames(12, 2.0, jump=9))
    whole = write_video(root / "id3/v/a.mp4", talking_frames(9, 3.0)).read_bytes()
    (root / "id2/v/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "id2/v/text.mp4").write_text("no video\n")
    return root


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    prepare_videos(videos, output, OPTIONS, shard_samples=10)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_manifest_lists_finished_and_broken_videos(prepared: Path) -> None:
    manifest = {row["clip"]: row for row in lines(prepared / "manifest.jsonl")}
    assert {clip: (row["split"], row["frames"], row["samples"]) for clip, row in manifest.items()} == {
        "id1/v/a.mp4": ("train", 9, 3),
        "id1/v/b.mp4": ("train", 66, 17),
        "id2/v/a.mp4": ("train", 12, 3),
        "id3/v/a.mp4": ("test", 9, 3),
    }
    assert [(chunk["start"], chunk["end"]) for chunk in manifest["id2/v/a.mp4"]["chunks"]] == [(0, 9)]
    broken = lines(prepared / "errors.jsonl")
    assert [row["clip"] for row in broken] == ["id2/v/cut.mp4", "id2/v/text.mp4"]
    assert all("download it again" in row["error"] and str(prepared) not in row["error"] for row in broken)
    assert [row["clips"] for row in lines(prepared / "train/shards.jsonl")] == [["id1/v/a.mp4", "id1/v/b.mp4"], ["id2/v/a.mp4"]]
    assert not (prepared / "parts").exists()
    assert not list(prepared.rglob("*.tmp"))


@pytest.mark.slow
def test_frames_landmarks_and_renders_agree(prepared: Path) -> None:
    """The landmarks lie on the cut picture's own face, and the render shows the stored numbers."""
    from difffae.estimation.choose import load_estimator
    from difffae.faces.landmarker import FaceLandmarker
    from difffae.head.attributes import FaceAttributes
    from difffae.head.render import render
    from difffae.lab.prepare.pairs import landmark_error

    key, files = next(read_tar(prepared / "test/000000.tar"))
    assert key == "id3/v/a/000/000000"
    frame = decode_frame(files)
    again = FaceLandmarker.load().detect(frame["picture"].float() / 255)[0][0].landmarks
    assert (again[:, :2] - frame["landmarks"][:, :2]).norm(dim=-1).mean() < 1.5
    fields = ("shape", "albedo", "pose", "camera", "expression", "light")
    fit = load_estimator()
    face = FaceAttributes(fit.head.name, *(frame[name][None] for name in fields))
    assert landmark_error(fit, face, frame["landmarks"][None], 256) < 0.06
    with torch.no_grad():
        drawn = render(fit.head, face, 256).image[0].clamp(0, 1) * 255
    assert (drawn - frame["render"].float()).abs().max() <= 0.51
    assert frame["identity"].shape == (128,)


@pytest.mark.slow
def test_webdataset_reads_the_shards(prepared: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted((prepared / "train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("torchrgb8"))
    assert len(samples) == 23
    ours = [key for shard in shards for key, _ in read_tar(shard)]
    assert [sample["__key__"] for sample in samples] == ours
    assert samples[0]["jpg"].shape == samples[0]["render.png"].shape == (3, 256, 256)


@pytest.mark.slow
def test_second_run_changes_nothing_and_other_options_are_refused(videos: Path, prepared: Path) -> None:
    before = contents(prepared)
    shard = prepared / "train/000000.tar"
    written = shard.stat().st_mtime_ns
    prepare_videos(videos, prepared, OPTIONS, shard_samples=10)
    assert contents(prepared) == before
    assert shard.stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="begun with every 4, not 2"):
        prepare_videos(videos, prepared, VideoOptions(every=2, rules=OPTIONS.rules), shard_samples=10)


@pytest.mark.slow
def test_later_videos_come_into_further_shards(videos: Path, prepared: Path, tmp_path: Path) -> None:
    root, output = tmp_path / "videos", tmp_path / "output"
    shutil.copytree(videos, root)
    shutil.copytree(prepared, output)
    shutil.copytree(root / "id3", root / "id0")
    prepare_videos(root, output, OPTIONS, shard_samples=10)
    before, after = contents(prepared), contents(output)
    assert all(after[name] == data for name, data in before.items() if name.endswith(".tar"))
    assert [row["clips"] for row in lines(output / "train/shards.jsonl")][2:] == [["id0/v/a.mp4"]]


def command(videos: Path, output: Path, *where: str) -> list[str]:
    step = [sys.executable, "-m", "difffae", "prepare", "videos", "--input", str(videos), "--output", str(output)]
    return [*step, *FLAGS, "--shard-samples", "10", *where]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_run_again_gives_the_same_files(videos: Path, prepared: Path, tmp_path: Path, workers: int) -> None:
    run = command(videos, tmp_path, "--workers", str(workers))
    process = subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    manifest = tmp_path / "manifest.jsonl"
    deadline = time.monotonic() + 240
    while not (manifest.exists() and manifest.read_text()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    finished = lines(manifest)
    assert 1 <= len(finished) < 4
    written = manifest.stat().st_mtime_ns
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)  # workers end with their parent
    assert manifest.stat().st_mtime_ns == written
    prepare_videos(videos, tmp_path, OPTIONS, shard_samples=10)
    assert contents(tmp_path) == contents(prepared)


def members(group: int) -> list[str]:
    """Processes of a group that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, owner = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(owner) == group and state != "Z":
            found.append(entry.parent.name)
    return found


@pytest.mark.slow
def test_local_processes_give_the_same_files(videos: Path, prepared: Path, tmp_path: Path) -> None:
    subprocess.run(command(videos, tmp_path, "--workers", "2"), cwd=ROOT, check=True, capture_output=True)
    assert contents(tmp_path) == contents(prepared)


@pytest.mark.slow
def test_ray_cluster_of_two_workers_gives_the_same_files(videos: Path, prepared: Path, tmp_path: Path, cluster_address: str) -> None:
    subprocess.run(command(videos, tmp_path, "--ray-address", cluster_address), cwd=ROOT, check=True, capture_output=True)
    assert contents(tmp_path) == contents(prepared)


@pytest.mark.slow
def test_pairs_are_what_the_denoiser_trains_on(prepared: Path, tmp_path: Path) -> None:
    from difffae.edit.model import EditModel
    from difffae.head.morphable import HeadModel
    from difffae.lab.prepare.shards import Shards, stacked
    from difffae.lab.videos.video_pairs import check_networks, fingerprints_of, write_pairs

    model = EditModel.load(asset_path("open-256.safetensors"))
    test = prepared / "test"
    check_networks(test, model.head, model.identity)
    known = {"head": fingerprint(asset_path("open_head.safetensors")), "identity": fingerprint(asset_path("identity.safetensors"))}
    assert fingerprints_of(test) == known
    with pytest.raises(ConfigError, match="the model needs 'flame'"):
        check_networks(test, "flame", model.identity)
    frames = [decode_frame(files) for _, files in read_tar(test / "000000.tar")]
    pictures = torch.stack([frame["picture"] for frame in frames])

    write_pairs(test, tmp_path / "joint", model.autoencoder, per_chunk=2)
    joint = Shards(tmp_path / "joint", ("target", "render", "identity", "source", "query"))
    assert len(joint) == 2
    assert joint.fingerprints == known
    for sample in (joint.sample(0), joint.sample(1)):
        source, query = (int((pictures == sample[name]).flatten(1).all(1).nonzero()) for name in ("source", "query"))
        assert source != query
        torch.testing.assert_close(sample["identity"].float(), frames[source]["identity"], atol=2e-3, rtol=2e-3)
        shown = model.autoencoder.decode(sample["target"].float()[None]).clamp(0, 1)[0]
        assert (shown - pictures[query].float() / 255).square().mean() < 10**-2.8  # 28 dB
        drawn = model.autoencoder.encode(frames[query]["render"][None].float() / 255)[0]
        torch.testing.assert_close(sample["render"].float(), drawn, atol=2e-2, rtol=2e-2)

    head = HeadModel.load().requires_grad_(False)
    write_pairs(test, tmp_path / "frozen", model.autoencoder, model.slots, head, per_chunk=2)
    frozen = Shards(tmp_path / "frozen", ("target", "render", "identity", "tokens", "masks", "carried", "validity"))
    both = [frozen.sample(0), frozen.sample(1)]
    # the pairs are the same ones
    torch.testing.assert_close(stacked(both, "target"), stacked([joint.sample(0), joint.sample(1)], "target"))
    source = torch.stack([joint.sample(i)["source"] for i in range(2)]).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(stacked(both, "tokens"), model.slots(source)[0], atol=5e-3, rtol=5e-3)
    # carrying brings the source nearer to the query where it is valid
    valid = (stacked(both, "validity") > 0.9).float()
    target, carried = stacked(both, "target"), stacked(both, "carried")
    unmoved = model.autoencoder.encode(source)
    assert ((carried - target).square() * valid).sum() < ((unmoved - target).square() * valid).sum()


@pytest.mark.slow
def test_frames_for_the_slots_are_spread_over_each_chunk(prepared: Path, tmp_path: Path) -> None:
    from difffae.lab.prepare.shards import Shards
    from difffae.lab.videos.video_pairs import write_frames

    write_frames(prepared / "train", tmp_path, per_chunk=4)
    frames = dict(read_tar(prepared / "train/000000.tar"))
    shards = Shards(tmp_path, ("images",))
    assert len(shards) == 3 + 4 + 3
    # 17 frames of the long chunk, of which numbers 0, 4, 8 and 12 of every fourth
    for row, index in enumerate((0, 16, 32, 48), start=3):
        assert torch.equal(shards.sample(row)["images"], decode_frame(frames[f"id1/v/b/000/{index:06d}"])["picture"])


@pytest.mark.slow
def test_damaged_shard_is_named(prepared: Path, tmp_path: Path) -> None:
    whole = (prepared / "test/000000.tar").read_bytes()
    (tmp_path / "000000.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"000000\.tar: not a complete shard"):
        list(read_tar(tmp_path / "000000.tar"))


@pytest.mark.parametrize("case", [0, 1, 2], ids=["301x287 to 64", "640x640 to 64", "90x100 to 128"])
def test_crops_are_resized_as_scikit_image_does(case: int) -> None:
    """skimage.transform.resize(..., anti_aliasing=True) of scikit-image 0.26, as bytes, of a picture that is noise: every 11th pixel."""
    golden = json.loads((TESTS / "golden/skimage_resize.json").read_text())[case]
    y, x, c = torch.meshgrid(*(torch.arange(side) for side in (*golden["size"], 3)), indexing="ij")
    picture = ((y * y * 7 + x * x * 13 + y * x * 5 + c * 91) % 256).float().permute(2, 0, 1)[None] / 255
    resized = resize(picture, golden["side"])
    assert resized.shape == (1, 3, golden["side"], golden["side"])
    pixels = torch.tensor(golden["pixels"]).float()
    assert (resized[0].permute(1, 2, 0)[::11, ::11] * 255 - pixels).abs().max() < 0.51  # theirs are rounded


def test_resizing_to_the_same_size_changes_nothing() -> None:
    picture = torch.rand(2, 3, 20, 20)
    assert torch.equal(resize(picture, 20), picture)
    assert torch.allclose(resize(torch.full((1, 3, 50, 60), 0.7), 16), torch.tensor(0.7))


def test_chunk_box_is_cut_out() -> None:
    found, _ = find_chunks([STILL] * 64, 1000, 1000, ClipRules())
    assert found == [Chunk(0, 64, (70, 70, 430, 430))]
