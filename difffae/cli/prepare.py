"""`prepare`: cache what the denoiser's training reads (docs/training.md)."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from .options import fraction, positive

if TYPE_CHECKING:
    from ..diffusion.autoencoder import FirstStage
    from ..edit.model import EditModel
    from ..lab.videos.prepare_videos import Split
    from ..source.slots import SlotEncoder


def add(subparsers) -> None:
    text = (
        "Cache training data, step by step: portraits (any folder of pictures -> manifest, landmarks, splits, fits and labelled regions, "
        "which every stage reads), people (MakeHuman's assets -> pairs of rendered pictures), fit (portraits -> crops and attributes), "
        "codes (those, or rendered pairs -> what the estimator network learns from), roundtrips (-> pairs), synthetic (rendered pairs -> "
        "carried pairs), encode (pairs -> latents); videos (talking heads -> WebDataset shards of frames), clips (MakeHuman's assets -> "
        "such shards of rendered people), pairs (those -> latents), frames (those, or a fitted file -> pictures for the first stage and "
        "the slots). Finished work is kept, so any step can be run again. Needs beyond requirements.txt: scipy for portraits, people and "
        "clips, ray for --ray-address (the extra 'prepare')."
    )
    parser = subparsers.add_parser("prepare", help="cache training data", description=text)
    parser.add_argument("step", choices=tuple(STEPS))
    parser.add_argument("folder", nargs="?", type=Path, metavar="INPUT", help="the same as --input")
    parser.add_argument("--input", type=Path, help="folder of pictures or portraits, fitted file, folder of shards, or of videos")
    parser.add_argument("--output", type=Path, required=True, help="fitted file, or folder of shards")
    parser.add_argument("--split", choices=("train", "dev"), default="train", help="fit: which portraits (default: %(default)s)")
    parser.add_argument("--static", action="store_true", help="fit: without landmark offsets, in order to make them")
    parser.add_argument(
        "--shards", type=positive, default=30, help="roundtrips: how many, each of --per-shard pairs (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="roundtrips, synthetic, encode, pairs: a DiffFAE model; its first stage and slots are used")
    parser.add_argument(
        "--first-stage",
        type=Path,
        metavar="FILE",
        help="in place of --model, with --slots, or for pairs with --joint: a file or checkpoint",
    )
    parser.add_argument("--slots", type=Path, metavar="FILE", help="in place of --model, with --first-stage: a file or checkpoint")
    parser.add_argument("--identity", metavar="FILE", help="encode, videos, clips: identity network, if it is not the bundled one")
    parser.add_argument("--head", metavar="FILE", help="videos, pairs: head model, if it is not the bundled one")
    parser.add_argument("--deca", metavar="FILE", help="videos: DECA's networks, which estimate the numbers of a FLAME head")
    portraits = parser.add_argument_group(
        "portraits: pictures in folders of any depth, the first of which is the person; workers as videos"
    )
    portraits.add_argument("--largest", type=positive, default=512, metavar="PIXELS", help="of a face's square (default: %(default)s)")
    portraits.add_argument("--dev-share", type=fraction, default=0.1, metavar="X", help="of the persons, for tests (default: %(default)s)")
    portraits.add_argument("--no-labels", action="store_true", help="without region labels, which only the slots' training reads")
    _add_videos(parser.add_argument_group("videos: folders person/video/clip.mp4, or FOMM's PERSON#VIDEO#START#END.mp4"))
    clips = parser.add_argument_group("clips: rendered people; workers, size, picture, test and shard options are those of videos")
    clips.add_argument("--people", type=positive, default=500, metavar="N", help="how many (default: %(default)s)")
    clips.add_argument("--frames", type=positive, default=2, metavar="N", help="of every person (default: %(default)s)")
    clips.add_argument("--expressions", metavar="FILE", help=".npz with blendshapes of real faces, such as a portraits' landmarks.npz")
    clips.add_argument("--photographs", metavar="FOLDER", help="pictures for backgrounds")
    people = parser.add_argument_group("people: pairs of rendered pictures; number, expressions and photographs are those of clips")
    people.add_argument(
        "--per-shard", type=positive, default=100, metavar="N", help="people, roundtrips: pairs in a shard (default: %(default)s)"
    )
    people.add_argument("--labelled", type=Path, metavar="FOLDER", help="the same pictures singly, with their labels, for the slots")
    people.add_argument("--geometry", action="store_true", help="keep depth and normals as well")
    pairs = parser.add_argument_group("pairs: two frames of one chunk")
    pairs.add_argument(
        "--joint", action="store_true", help="encode, pairs: keep source and query pictures, for joint training with the slots"
    )
    pairs.add_argument("--per-chunk", type=positive, default=8, metavar="N", help="pairs, frames: how many (default: %(default)s)")
    parser.set_defaults(run=run)


def _add_videos(group) -> None:
    place = group.add_mutually_exclusive_group()
    place.add_argument("--workers", type=positive, default=os.cpu_count(), metavar="N", help="local processes (default: one per core)")
    place.add_argument("--ray-address", metavar="ADDRESS", help="run on this Ray cluster (host:port, or auto)")
    group.add_argument("--size", type=positive, default=256, help="side of the pictures, also of frames from a file (default: %(default)s)")
    group.add_argument("--every", type=positive, default=1, metavar="N", help="keep every Nth frame of a chunk (default: all)")
    group.add_argument("--picture", choices=("jpg", "png"), default="jpg", help="JPEG of quality 95, or PNG (default: %(default)s)")
    group.add_argument("--iou", type=fraction, default=0.25, help="least overlap with a chunk's first box (default: %(default)s)")
    group.add_argument("--min-frames", type=positive, default=64, metavar="N", help="of a chunk (default: %(default)s)")
    group.add_argument("--max-frames", type=positive, default=1024, metavar="N", help="of a chunk (default: %(default)s)")
    group.add_argument("--min-size", type=positive, default=256, metavar="PIXELS", help="of a face in the video (default: %(default)s)")
    group.add_argument("--increase", type=fraction, default=0.1, help="growth of the box on every side (default: %(default)s)")
    group.add_argument("--test-share", type=fraction, default=0.2, metavar="X", help="share of the persons to test on (default: 0.2)")
    group.add_argument("--test-list", type=Path, metavar="FILE", help="names of the persons to test on, one per line, instead")
    group.add_argument("--metadata", type=Path, metavar="CSV", help="FOMM's vox-metadata.csv: what to cut from VIDEO_ID.mp4, and the split")
    group.add_argument("--shard-samples", type=positive, default=1000, metavar="N", help="frames per shard (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    import torch

    if (arguments.input is None) == (arguments.folder is None):
        raise ConfigError(f"prepare {arguments.step}: needs one input; give its path, or --input PATH")
    arguments.input = arguments.input or arguments.folder
    if not arguments.input.exists():
        raise ConfigError(f"--input {arguments.input}: no such file or folder; run the step before it, or correct the path")
    check_output(arguments.output, arguments.step in TO_FILE)
    with torch.no_grad():
        STEPS[arguments.step](arguments)


def check_output(output: Path, to_file: bool) -> None:
    """Make the folder of an output before the work begins. Raises ConfigError if it cannot be written to, or is of the other kind."""
    folder = output.parent if to_file else output
    try:
        if to_file and output.is_dir():
            raise ConfigError(f"--output {output}: is a folder; give the name of a .safetensors file")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror}); choose another place") from error


def _portraits(arguments: argparse.Namespace) -> None:
    from ..lab.prepare.portrait_set import PortraitOptions, prepare_portraits

    a = arguments
    counts = prepare_portraits(a.input, a.output, PortraitOptions(a.largest, a.dev_share, not a.no_labels), workers=a.workers)
    print(f"{a.output}: {', '.join(f'{count} {split}' for split, count in counts.items())}")


def _fit(arguments: argparse.Namespace) -> None:
    from ..estimation.choose import landmark_fit
    from ..estimation.fit import LandmarkFit
    from ..lab.prepare.networks import Networks
    from ..lab.prepare.pairs import fit_portraits

    networks = Networks()
    fit = LandmarkFit(networks.head) if arguments.static else landmark_fit(networks.head)
    fit_portraits(arguments.input, arguments.output, arguments.split, fit, fingerprints=networks.fingerprints("head"))


def _codes(arguments: argparse.Namespace) -> None:
    from ..estimation.choose import landmark_fit
    from ..lab.prepare.codes import write_codes
    from ..lab.prepare.networks import Networks

    n = Networks()
    write_codes(arguments.input, arguments.output, landmark_fit(n.head), n.landmarker, fingerprints=n.fingerprints("head"))


def _carried(arguments: argparse.Namespace) -> None:
    from ..lab.prepare.networks import Networks
    from ..lab.prepare.pairs import write_round_trips, write_synthetic

    a, networks = arguments, Networks()
    slots, known = _trained(a, networks.fingerprints("head"))[1], networks.fingerprints("head")
    if a.step == "roundtrips":
        write_round_trips(a.input, a.output, networks.head, a.shards, slots, a.per_shard, a.seed, known)
    else:
        write_synthetic(a.input, a.output, networks.head, slots, known)


def _encode(arguments: argparse.Namespace) -> None:
    from ..lab.prepare.networks import Networks
    from ..lab.prepare.pairs import encode_shards
    from ..lab.prepare.shards import shards_in, stated_fingerprints
    from ..source.identity_networks import load_identity

    a, shards = arguments, shards_in(arguments.input)
    known = Networks(identity=a.identity).fingerprints("identity")
    first_stage, slots, network = _trained(a, *map(stated_fingerprints, shards), known)
    identity = load_identity(a.identity, network)
    encode_shards(shards, a.output, first_stage, None if a.joint else slots, identity, fingerprints=known)


def _model(arguments: argparse.Namespace) -> EditModel:
    """That of --model, or the bundled one."""
    from ..common.checkpoint import asset_path
    from ..edit.model import EditModel

    return EditModel.load(arguments.model or asset_path("open-256.safetensors"))


def _trained(arguments: argparse.Namespace, *used: dict[str, str]) -> tuple[FirstStage, SlotEncoder, str | None]:
    """First stage, slots and the name of the identity network of --model; or the parts that were given, while there is no model yet.
    used: fingerprints of files that go with it. Raises ConfigError for others than the model was trained with."""
    from ..lab.prepare.networks import agreed
    from ..lab.training.parts import read_first_stage, read_slots

    if arguments.first_stage is None and arguments.slots is None:
        model = _model(arguments)
        for known in used:
            agreed(arguments.model, model.fingerprints, known, "trained")
        return model.autoencoder, model.slots, model.identity
    if arguments.first_stage is None or arguments.slots is None or arguments.model is not None:
        raise ConfigError("--first-stage and --slots: stand in for --model together; give both without it, or neither")
    return read_first_stage(arguments.first_stage), read_slots(arguments.slots), None


def _videos(arguments: argparse.Namespace) -> None:
    from ..lab.videos.clips import ClipRules
    from ..lab.videos.prepare_video import VideoOptions
    from ..lab.videos.prepare_videos import prepare_videos

    a = arguments
    rules = ClipRules(a.iou, a.min_frames, a.max_frames, a.min_size, a.increase)
    options = VideoOptions(a.size, a.every, a.picture, rules, *map(_whole, (a.head, a.deca, a.identity)))
    where = {"workers": a.workers, "ray_address": a.ray_address}
    prepare_videos(a.input, a.output, options, _split(a), a.metadata, **where, shard_samples=a.shard_samples)


def _clips(arguments: argparse.Namespace) -> None:
    from ..lab.videos.prepare_clips import ClipOptions, prepare_clips

    a = arguments
    expressions, photographs, identity = map(_whole, (a.expressions, a.photographs, a.identity))
    options = ClipOptions(str(a.input.resolve()), expressions, photographs, a.size, a.frames, a.picture, identity)
    where = {"workers": a.workers, "ray_address": a.ray_address}
    prepare_clips(a.output, options, _split(a), people=a.people, seed=a.seed, **where, shard_samples=a.shard_samples)


def _whole(name: str | None) -> str | None:
    """The whole path of a file, since workers may run elsewhere; an identity may also be named insightface:NAME."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def _split(arguments: argparse.Namespace) -> Split:
    """Which persons are tested on. Raises ConfigError for a list that cannot be read."""
    from ..lab.videos.prepare_videos import Split

    listed = None
    if arguments.test_list is not None:
        try:
            listed = frozenset(arguments.test_list.read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--test-list {arguments.test_list}: cannot be read ({error}); give a text file of names") from error
    return Split(arguments.test_share, listed)


def _pairs(arguments: argparse.Namespace) -> None:
    from ..head.morphable import HeadModel
    from ..lab.prepare.networks import Networks
    from ..lab.training.parts import read_first_stage
    from ..lab.videos.video_pairs import check_networks, write_pairs

    if arguments.first_stage is not None or arguments.slots is not None:
        if arguments.slots is not None or not arguments.joint or arguments.model is not None:
            raise ConfigError("--first-stage: goes with --joint and without --model; frozen slots come from a model")
        autoencoder, slots, head = read_first_stage(arguments.first_stage), None, None
    else:
        model = _model(arguments)
        check_networks(arguments.input, model.head, model.identity, model.fingerprints)
        autoencoder, slots = model.autoencoder, None if arguments.joint else model.slots
        head = HeadModel.load(arguments.head).requires_grad_(False) if model.denoiser.config.carry else None
        if head is not None and head.name != model.head:
            raise ConfigError(f"--head: is '{head.name}', but the model needs '{model.head}'; give that head's file")
        if head is not None:
            check_networks(arguments.input, model.head, model.identity, Networks(arguments.head).fingerprints("head"))
    write_pairs(arguments.input, arguments.output, autoencoder, slots, head, per_chunk=arguments.per_chunk, seed=arguments.seed)


def _frames(arguments: argparse.Namespace) -> None:
    if arguments.input.is_file():
        from ..lab.prepare.stills import write_stills

        write_stills(arguments.input, arguments.output, arguments.size)
        return
    from ..lab.videos.video_pairs import write_frames

    write_frames(arguments.input, arguments.output, per_chunk=arguments.per_chunk)


def _people(arguments: argparse.Namespace) -> None:
    from ..lab.people.behaviour import load_expressions
    from ..lab.prepare.networks import Networks
    from ..lab.prepare.rendered import write_people
    from ..lab.studio.synthetic import SyntheticPeople

    a, networks = arguments, Networks()
    head, known = networks.head, networks.fingerprints("head")
    table = load_expressions(a.expressions, head.expression_names) if a.expressions else None
    people = SyntheticPeople(a.input, head, expressions=table, photographs=a.photographs)
    if a.labelled is not None:
        check_output(a.labelled, to_file=False)
    more = {"labelled": a.labelled, "geometry": a.geometry, "fingerprints": known}
    write_people(people, a.output, a.people, seed=a.seed, per_shard=a.per_shard, **more)


TO_FILE = ("fit", "codes")  # the others write folders
STEPS = {
    "portraits": _portraits,
    "fit": _fit,
    "codes": _codes,
    "roundtrips": _carried,
    "synthetic": _carried,
    "encode": _encode,
    "videos": _videos,
    "clips": _clips,
    "people": _people,
    "pairs": _pairs,
    "frames": _frames,
}
