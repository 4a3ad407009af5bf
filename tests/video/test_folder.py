"""Folders of clips: in processes, on a cluster, and after a kill, with the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT
from video_files import background, talking_frames, write_clip

from difffae.common.errors import ConfigError, VideoError
from difffae.video.folder import clips_in, for_each_clip, videos_of

COUNT = 6


def copied(clip: str, video: str) -> None:
    """A job that fails for one clip."""
    if "bad" in clip:
        raise VideoError(f"{clip}: is broken")
    Path(video).write_bytes(Path(clip).read_bytes() + b"!")


def counted(clip: str, video: str) -> None:
    """A job that leaves a note of every clip it does."""
    with open(Path(video).parent / "log.txt", "a") as file:
        file.write(f"{Path(clip).name}\n")
    copied(clip, video)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("b.mp4", "a.mov", "c.avi", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_every_clip_of_a_folder_gives_a_video(files: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    videos = for_each_clip(copied, files, tmp_path / "out", {}, 1, progress=lambda *done: told.append(done))
    assert [path.name for path in videos] == ["a.mov", "b.mp4", "c.mp4"]
    assert (tmp_path / "out" / "c.mp4").read_bytes() == b"c.avi!"
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mov", "b.mp4", "c.mp4"]


def test_a_broken_clip_is_told_of_and_the_others_are_done_once(files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (files / "bad.mp4").write_bytes(b"x")
    out = tmp_path / "out"
    with pytest.raises(VideoError, match=r"in: 1 of 4 clips could not be done; the others are in .*out"):
        for_each_clip(counted, files, out, {}, 1)
    assert "bad.mp4: is broken" in caplog.text
    assert (out / "log.txt").read_text().split() == ["a.mov", "b.mp4", "bad.mp4", "c.avi"]
    (files / "bad.mp4").rename(files / "good.mp4")
    (files / "b.mp4").write_bytes(b"another")  # is done anew
    for_each_clip(counted, files, out, {}, 1)
    assert (out / "log.txt").read_text().split()[4:] == ["b.mp4", "good.mp4"]
    for_each_clip(counted, files, out, {"yaw": 1}, 1)  # all are finished, so all are wanted again
    assert len((out / "log.txt").read_text().split()) == 10


def test_folders_that_cannot_be_are_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: holds no clip"):
        clips_in(tmp_path / "empty")
    with pytest.raises(ConfigError, match="in: holds the clips themselves"):
        videos_of(clips_in(files), files)
    with pytest.raises(ConfigError, match=r"notes\.txt: is a file"):
        videos_of(clips_in(files), files / "notes.txt")
    (files / "c.mp4").touch()
    with pytest.raises(ConfigError, match=r"c\.mp4: two clips"):
        videos_of(clips_in(files), tmp_path / "out")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a face, and one without."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(2):
        write_clip(folder / f"{index}.mp4", talking_frames(COUNT, index), sound="aac", crf="14")
    write_clip(folder / "empty.mp4", [background()] * 3)
    return folder


def command(clips: Path, output: Path, *options: str) -> list[str]:
    common = ["--estimator", "network", "--output", str(output)]
    return [sys.executable, "-m", "difffae", "animate", "--driving", str(clips), *common, *options]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.mp4")}


@pytest.fixture(scope="module")
def made(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips' videos, by one process."""
    output = tmp_path_factory.mktemp("made") / "out"
    result = subprocess.run(command(clips, output, "--workers", "1"), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "empty.mp4: no frame shows a face" in result.stderr
    assert "1 of 3 clips could not be done" in result.stderr
    assert sorted(contents(output)) == ["0.mp4", "1.mp4"]
    return output


@pytest.mark.slow
def test_processes_that_are_killed_lose_nothing(clips: Path, made: Path, tmp_path: Path) -> None:
    """The one that works, and the main one: the same files in the end."""
    run = subprocess.Popen(command(clips, tmp_path / "out", "--workers", "2"), cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    try:
        wait_for(tmp_path / "out", "*.mp4.parts/analysis-00000.safetensors")
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    again = subprocess.Popen(command(clips, tmp_path / "out", "--workers", "2"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (workers := workers_of(again.pid)) and again.poll() is None:
        time.sleep(0.1)
    os.kill(workers[0], signal.SIGKILL)
    _, errors = again.communicate(timeout=1200)
    assert again.returncode == 2, errors  # for the clip without a face
    assert contents(tmp_path / "out") == contents(made)


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_same_files(clips: Path, made: Path, tmp_path: Path, cluster_address: str) -> None:
    run = subprocess.Popen(command(clips, tmp_path / "out", "--ray-address", cluster_address), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "out", "*.mp4.parts")
    killed = [pid for pid, name in processes() if name.startswith("ray::_call") and os.getpid() in owners_of(pid)]
    os.kill(killed[0], signal.SIGKILL)
    _, errors = run.communicate(timeout=1200)
    assert run.returncode == 2, errors
    assert contents(tmp_path / "out") == contents(made)


def wait_for(folder: Path, pattern: str) -> None:
    for _ in range(18000):
        if any(folder.glob(pattern)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder}: no {pattern} came")


def processes() -> list[tuple[int, str]]:
    """Numbers and command lines of all processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((int(entry.parent.name), entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")))
        except OSError:
            continue
    return found


def owners_of(pid: int) -> list[int]:
    """The process that started a process, the one that started that, and so on."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def workers_of(owner: int) -> list[int]:
    """A process's own workers, without what keeps track of resources."""
    return [pid for pid, name in processes() if "spawn_main" in name and "--multiprocessing-fork" in name and owner in owners_of(pid)[:1]]
