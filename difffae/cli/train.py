"""`train`: one of the training stages; stops and resumes at any time. `assemble`: trained parts in one file."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..common.errors import ConfigError
from ..common.needs import missing
from ..vocabulary import REGIONS
from .options import OneLineParser, positive

# stage -> module of difffae.lab.training, its function and its options, and the module and class of the model's configuration
STAGES = {
    "autoencoder": ("autoencoder", "train_autoencoder", "AutoencoderTraining", "diffusion.autoencoder", "AutoencoderConfig"),
    "slots": ("slots", "train_slots", "SlotsTraining", "source.slots", "SlotsConfig"),
    "denoiser": ("denoiser", "train_denoiser", "DenoiserTraining", "diffusion.denoiser", "DenoiserConfig"),
    "estimator": ("estimator", "train_estimator", "EstimatorTraining", "estimation.network", "EncoderConfig"),
}

WHOLE = "open"  # in a stage's place: all stages of the open profile, from portraits to a model's file
OF_WHOLE = ("portraits", "budget", "output", "start", "name", "license", "seed", "workers", "device")  # its own options
PARTS = ("first-stage", "slots", "denoiser")
PRECISIONS = ("8-bit", "half", "full")


def add(subparsers) -> None:
    _add_assemble(subparsers)
    text = (
        "Train one stage, or with `open` all that the open profile needs, from a folder of portraits to a model's file and its card, "
        "within a budget of time. Run the same command again to go on from the last checkpoint in its folder. Needs beyond "
        "requirements.txt: accelerate for several processes, tensorboard for tensorboard=true, transformers for encoders MAE and CLIP (the "
        "extra 'train'); scipy for the region labels of `open` (the extra 'prepare')."
    )
    parser = subparsers.add_parser("train", help="train one stage, or the whole open profile", description=text)
    parser.add_argument("stage", choices=(*STAGES, WHOLE), help=f"{', '.join(STAGES)}, or {WHOLE}: all that open-256 is made of")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help='paper-256, an ablation such as no-acr (docs/training.md), or a .json file with {"training": {...}, "model": {...}}; '
        "each is laid over those before it",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="training options, over the configurations'")
    parser.add_argument("--model-set", nargs="+", default=[], metavar="NAME=VALUE", help="model options, over the configurations'")
    parser.add_argument(
        "--num-processes", type=positive, default=1, metavar="N", help="train in N processes of this machine; needs accelerate"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="do a few steps, print data, sizes, memory and time of the run, and write nothing"
    )
    _add_whole(parser.add_argument_group(f"{WHOLE}: the whole profile"))
    parser.set_defaults(run=run)


def _add_whole(group) -> None:
    group.add_argument("--portraits", type=Path, metavar="FOLDER", help="pictures of people, or what `prepare portraits` made of them")
    group.add_argument("--budget", metavar="TIME", help="how long everything may take: 3h, 14m, 1h30m")
    group.add_argument("--output", type=Path, metavar="FOLDER", help=f"where everything is written (default: runs/{WHOLE})")
    group.add_argument("--start", metavar="FILE", help="go on from this model's weights, such as open-256's, instead of from nothing")
    group.add_argument("--name", metavar="NAME", help="of the model and its file (default: open-256)")
    group.add_argument("--license", metavar="TEXT", help="of the model's file (default: what the portraits' manifest says)")
    group.add_argument("--seed", type=int, metavar="N", help="of all random numbers (default: 0)")
    group.add_argument("--workers", type=positive, metavar="N", help="processes that prepare portraits (default: one per core)")
    group.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one, else cpu")


def _add_assemble(subparsers) -> None:
    text = (
        "Put trained parts into one file that --model and ComfyUI's loader read. A FILE is a training checkpoint (last.pt), a part's own "
        ".safetensors file, or a whole model. Without --denoiser: the first stage alone, for the other stages' training."
    )
    parser: OneLineParser = subparsers.add_parser("assemble", help="trained parts in one file", description=text)
    parts = parser.add_argument_group("parts")
    parts.add_argument("--first-stage", type=Path, required=True, metavar="FILE", help="of `train autoencoder` or `convert kl-f8`, `vq-f8`")
    parts.add_argument("--decoder", type=Path, metavar="FILE", help="a later first stage, whose decoder replaces the first one's")
    scale = parts.add_mutually_exclusive_group()
    scale.add_argument("--latent-scale", type=float, metavar="X", help="one over the latents' standard deviation (default: the file's)")
    scale.add_argument("--scale-on", type=Path, metavar="FOLDER", help="measure it on the pictures of these shards")
    parts.add_argument(
        "--sharpen", type=float, metavar="X", help="fine detail that the decoder's pictures get on top (default: the file's)"
    )
    parts.add_argument("--slots", type=Path, metavar="FILE", help="of `train slots` (default: those trained together with the denoiser)")
    parts.add_argument("--denoiser", type=Path, metavar="FILE", help="of `train denoiser`")
    parts.add_argument("--raw", nargs="+", choices=PARTS, default=[], metavar="PART", help="parts whose weights are not averaged ones")
    parts.add_argument("--finish", type=float, metavar="X", help="share of the noise at which samplers end (default: as trained)")
    order = parser.add_argument_group("which slot is which region (default: as trained)")
    order.add_argument("--order", nargs="+", choices=REGIONS, default=[], metavar="REGION", help=f"one per slot: {', '.join(REGIONS)}")
    order.add_argument("--labels", type=Path, metavar="FOLDER", help="labelled shards to measure it on")
    about = parser.add_argument_group("what the file says of itself")
    about.add_argument("--name", default="unnamed", metavar="NAME", help="of the model")
    about.add_argument("--head", default="open", metavar="NAME", help="head model that the renders were made with, or its file")
    about.add_argument("--identity", default="dlib-resnet-v1", metavar="NAME", help="network that made the identity tokens, or its file")
    about.add_argument("--deca", type=Path, metavar="FILE", help="DECA's networks, if they estimated the numbers of the training")
    about.add_argument("--license", required=True, metavar="TEXT", help="of the file; those of converted parts are added")
    about.add_argument("--source", required=True, metavar="TEXT", help="where the weights come from")
    parser.add_argument("--precision", choices=PRECISIONS, default="half", help="of the stored weights (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="where to write it")
    parser.set_defaults(run=assemble)


def run(arguments: argparse.Namespace) -> None:
    if arguments.stage == WHOLE:
        retrain(arguments)
        return
    if given := [name for name in OF_WHOLE if getattr(arguments, name) is not None]:
        raise ConfigError(f"--{given[0]}: belongs to `train {WHOLE}`; a stage takes --set {given[0]}=... if it has such an option")
    from importlib import import_module

    from ..common.named_values import build
    from ..lab.training.presets import read_configs

    stage_module, function, options_class, model_module, config_class = STAGES[arguments.stage]
    stage = import_module(f"difffae.lab.training.{stage_module}")
    model = import_module(f"difffae.{model_module}")
    training, shape = read_configs(arguments.config, arguments.stage, arguments.set, arguments.model_set)
    if arguments.dry_run:
        if arguments.num_processes > 1:
            raise ConfigError("--dry-run: measures one process; leave --num-processes out")
        training["dry_run"] = True
    options = build(getattr(stage, options_class), training, f"train {arguments.stage}")
    shape_class = getattr(model, config_class)
    if arguments.stage == "autoencoder" and "kind" in shape:
        shape_class = first_stage_class(shape.pop("kind"))
    config = build(shape_class, shape, f"train {arguments.stage} model") if shape or shape_class.__name__ != config_class else None
    if arguments.num_processes > 1 and "WORLD_SIZE" not in os.environ:
        launch(arguments)
    getattr(stage, function)(options, config)


def retrain(arguments: argparse.Namespace) -> None:
    """Carry out `train open`. Raises ConfigError."""
    a = arguments
    if a.config or a.set or a.model_set or a.num_processes > 1 or a.dry_run:
        raise ConfigError(f"train {WHOLE}: --config, --set, --model-set, --num-processes, --dry-run are of single stages; leave them out")
    if a.portraits is None or a.budget is None:
        raise ConfigError(f"train {WHOLE}: needs --portraits FOLDER and --budget TIME, such as --budget 3h")
    if not a.portraits.is_dir():
        raise ConfigError(f"--portraits {a.portraits}: no such folder; give one of pictures")
    import torch

    from ..lab.retrain.budget import seconds_of
    from ..lab.retrain.retrain import Retraining, RetrainOptions

    if a.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device; use cpu")
    device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    more = {name: value for name in ("start", "name", "license", "seed", "workers") if (value := getattr(a, name)) is not None}
    options = RetrainOptions(a.portraits, a.output or Path("runs") / WHOLE, seconds_of(a.budget), device, **more)
    print(Retraining(options).run())


def first_stage_class(kind: str) -> type:
    """The class of the configuration of a kind of first stage. Raises ConfigError."""
    from ..diffusion.first_stages import KINDS

    if kind not in KINDS:
        raise ConfigError(f"kind={kind}: no such first stage; choose from {', '.join(KINDS)}")
    return KINDS[kind][0]


def launch(arguments: argparse.Namespace) -> None:
    """Become the launcher that runs this command in several processes. Raises ConfigError without accelerate."""
    count = arguments.num_processes
    if find_spec("accelerate") is None:
        raise missing(f"--num-processes {count}", ModuleNotFoundError(name="accelerate"), "train in one process")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m", "difffae", "train"]
    command.append(arguments.stage)
    for name, values in (("--config", arguments.config), ("--set", arguments.set), ("--model-set", arguments.model_set)):
        command += [name, *values] if values else []
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.execv(sys.executable, command)


def assemble(arguments: argparse.Namespace) -> None:
    """Carry out `assemble`."""
    from ..lab.training.assemble import PRECISIONS, FirstStageParts, ModelParts, licence_of, save_first_stage
    from .convert import check_paths

    a = arguments
    given = {"first-stage": a.first_stage, "decoder": a.decoder, "slots": a.slots, "denoiser": a.denoiser, "deca": a.deca}
    output = check_paths([str(path) for path in given.values() if path is not None], a.output)
    first = FirstStageParts(a.first_stage, a.decoder, a.latent_scale, "first-stage" in a.raw, a.sharpen)
    if a.scale_on is not None:
        from ..lab.training.latent_scale import measure_latent_scale

        first = replace(first, latent_scale=round(measure_latent_scale(first.read(), a.scale_on), 4))
    if a.denoiser is None:
        if a.slots is not None or a.order or a.labels is not None or set(a.raw) - {"first-stage"}:
            raise ConfigError("assemble: there is no denoiser; add --denoiser, or leave the slots' options out for the first stage alone")
        license = licence_of(a.license, {"first stage": first.files()})
        save_first_stage(first.read(), output, license=license, source=a.source, precision=a.precision)
    else:
        about = (a.name, a.head, a.identity, a.deca, a.finish, a.order, a.labels, a.raw)
        parts = ModelParts(first, a.denoiser, a.slots, *about)
        options = {"eight_bit": False, "half": False} | PRECISIONS[a.precision]
        parts.assemble().save(output, license=licence_of(a.license, parts.files()), source=a.source, **options)
    print(f"wrote {output}")
