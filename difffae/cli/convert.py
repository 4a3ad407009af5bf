"""`convert`: model files of other people -> one safetensors file of ours."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ..common.errors import ConfigError
from ..common.named_values import checked, parse_pairs
from .options import OneLineParser

# KIND -> (function in difffae.convert, help). It is called as `convert(inputs: list[Path], output: Path, **options) -> None`; its
# keyword-only parameters are the options of `--set`, except `license`, which --license sets; its docstring says which inputs it takes.
KINDS: dict[str, tuple[str, str]] = {
    "flame": ("flame.convert", "FLAME 2020 / 2023 generic_model.pkl, with DECA's data files -> head model"),
    "deca": ("deca.convert", "deca_model.tar -> estimator and detail decoder"),
    "arcface": ("arcface.convert", "arcface_torch's iresnet .pth -> identity network"),
    "kl-f8": ("first_stage.convert_kl", "Stable Diffusion's KL-f8 (single file or diffusers folder) -> first stage"),
    "vq-f8": ("first_stage.convert_vq", "CompVis' VQ-f8 -> first stage"),
    "slots": ("slots.convert", "SlotDiffusion's slot attention with its ResNet -> slots"),
    "unet": ("unet.convert", "Stable Diffusion v1 U-Net (single file or diffusers folder) -> initial denoiser"),
    "gnm": ("gnm.convert", "GNM Head npz -> head model"),
}


def add(subparsers) -> None:
    text = "Turn a model file that you brought into one safetensors file that states its licence. Nothing in the input is executed."
    listing = "kinds:\n" + "\n".join(f"  {kind:<14}{help}" for kind, (_, help) in KINDS.items())
    parser: OneLineParser = subparsers.add_parser(
        "convert",
        help="other people's model files to safetensors",
        description=text,
        epilog=f"{listing}\n\ndocs/own-files.md says where the files come from and what each kind takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="the files, in any order")
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="where to write it")
    parser.add_argument(
        "--license", metavar="TEXT", help="what the file's metadata says about its licence (default: what is known of the kind)"
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="options", metavar="NAME=VALUE", help="an option of the kind; may be repeated"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    output = check_paths(arguments.inputs, arguments.output)
    function = converter(arguments.kind)
    given = parse_pairs(arguments.options) | ({} if arguments.license is None else {"license": arguments.license})
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    function([Path(name) for name in arguments.inputs], output, **checked(given, defaults, f"convert {arguments.kind}"))
    print(f"wrote {output}")


def converter(kind: str) -> Callable[..., None]:
    """The function that converts a kind of file."""
    module, function = KINDS[kind][0].split(".")
    return getattr(import_module(f"..convert.{module}", __package__), function)


def check_paths(inputs: list[str], output: str) -> Path:
    """Raises ConfigError for a missing input, and for an output that is an input, is no .safetensors or has no folder."""
    for name in inputs:
        if not Path(name).exists():
            raise ConfigError(f"{name}: no such file; check the path")
    path = Path(output)
    if path.suffix != ".safetensors":
        raise ConfigError(f"--output {output}: must end in .safetensors; rename it")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: its folder does not exist; create it first")
    if path.is_dir() or any(path.exists() and path.samefile(name) for name in inputs):
        raise ConfigError(f"--output {output}: is a folder or one of the inputs; choose another name")
    return path
