"""What `evaluate` does for the paper's tables. Imports torch."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..common.errors import ConfigError
from ..edit.description import Sampling
from ..edit.editor import DiffFAE
from ..edit.recipe import file_sha256
from ..lab.tables import report
from ..lab.tables import speed as speeds
from ..lab.tables.comparison import Method
from ..lab.tables.comparison import compare as compare_methods
from ..lab.tables.inception import Inception
from ..lab.tables.judge import Judge
from ..lab.tables.pairs import ENDINGS, read_pairs
from ..lab.tables.produce import RowSampling, write_results
from .options import TAKEABLE
from .work import load_model


def named(text: str) -> tuple[str | None, str]:
    """ "NAME=VALUE" -> both; without a name it is None."""
    name, sign, value = text.partition("=")
    return (name.strip(), value) if sign else (None, text)


def models(arguments: argparse.Namespace) -> Iterator[tuple[str | None, DiffFAE]]:
    """The models of --models, or of --model, one after the other; only one is in memory."""
    for text in arguments.models or [arguments.model]:
        name, path = named(text)
        yield name, load_model(argparse.Namespace(**{**vars(arguments), "model": path}))


def row_name(table: str, model: DiffFAE) -> str:
    """What a row is called where the user gave no name."""
    if table == "slots":
        return str(model.model.slots.config.slot_count)
    if table == "identity":
        return "w/ identity token" if model.model.denoiser.config.adain != "none" else "w/o identity token"
    return model.checkpoint.name if model.checkpoint else model.model.name


def speed(arguments: argparse.Namespace) -> None:
    output = report.check_output(arguments.output)
    rows, minutes = [], _finetuned(arguments)
    sampling = Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed)
    for name, model in models(arguments):
        called = name or row_name("speed", model)
        rows.append(speeds.measure_speed(called, model, sampling, arguments.runs, finetuning=minutes.get(called)))
    finish(output, speeds.markdown(rows, model), speeds.to_dict(rows, model))


def _finetuned(arguments: argparse.Namespace) -> dict[str, float]:
    """Minutes that the training checkpoints of --finetuned took, by name."""
    from ..lab.training.parts import read_training

    found = {}
    for text in arguments.finetuned:
        name, file = named(text)
        if not name:
            raise ConfigError(f"--finetuned {text}: must be NAME=FILE with a training checkpoint (last.pt); correct it")
        if name not in {named(model)[0] for model in arguments.models}:
            raise ConfigError(f"--finetuned {name}: there is no row of this name; name it in --models, as {name}=MODEL")
        found[name] = float(read_training(file)["spent"])
    return found


def compare(arguments: argparse.Namespace) -> None:
    output = report.check_output(arguments.output)
    if arguments.pictures is not None and not arguments.pictures.is_dir():
        raise ConfigError(f"--pictures {arguments.pictures}: no such folder; give the one with sources and queries")
    pairs = read_pairs(arguments.pairs_file, arguments.pictures)
    methods = _others(arguments)
    real = _pictures(arguments.real) if arguments.real is not None else None
    inception = Inception.load(arguments.inception) if arguments.inception is not None else None
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    judge = Judge.load(arguments.judge_head, arguments.judge_deca, arguments.judge_identity, device)
    sampling = RowSampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed, arguments.framing)
    settings: dict[str, Any] = {}
    with ExitStack() as stack:
        keep = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.models or not methods:
            for name, model in models(arguments):
                method = _own(name or row_name(arguments.table, model), keep, methods)
                with tqdm(total=len(pairs), desc=f"edits of {method.name}") as bar:
                    write_results(model, pairs, method.folder, sampling, bar.update)
                checkpoint = model.checkpoint.record() if model.checkpoint else {}
                settings[method.name] = {**checkpoint, **asdict(sampling)}
                methods.append(method)
        with tqdm(total=len(pairs) * len(methods), desc="measuring") as bar:
            network = inception.to(device) if inception is not None else None
            result = compare_methods(judge, pairs, methods, network, real, arguments.common, bar.update)
    if arguments.inception is not None:
        result.inception = f"{arguments.inception.name}, sha256 {file_sha256(arguments.inception)[:12]}"
    layout = report.LAYOUTS[arguments.table]
    finish(output, report.markdown(result, layout, settings), report.to_dict(result, settings))
    if not any(scores.values for scores in result.methods):
        raise ConfigError(f"{arguments.pairs_file}: no result of any method could be scored; the table says why")


def _others(arguments: argparse.Namespace) -> list[Method]:
    """The methods of --results, with what --edits says that they can change."""
    edits: dict[str, tuple[str, ...]] = {}
    for text in arguments.edits:
        name, value = named(text)
        what = tuple(value.replace(",", "+").split("+"))
        if name is None or any(part not in TAKEABLE for part in what):
            raise ConfigError(f"--edits {text}: must be NAME=WHAT, WHAT being {', '.join(TAKEABLE)} joined by +")
        edits[name] = what
    methods = [Method(name, folder, edits.pop(name, TAKEABLE)) for name, folder in results(arguments).items()]
    if edits:
        raise ConfigError(f"--edits {next(iter(edits))}: there are no --results of this name; correct it")
    return methods


def results(arguments: argparse.Namespace) -> dict[str, Path]:
    """The folders of --results by name."""
    folders: dict[str, Path] = {}
    for text in arguments.results:
        name, value = named(text)
        if not name or not Path(value).is_dir():
            raise ConfigError(f"--results {text}: must be NAME=FOLDER with an existing folder; correct it")
        if name in folders:
            raise ConfigError(f"--results {text}: the name is taken; give every method its own")
        folders[name] = Path(value)
    return folders


def _own(name: str, keep: Path, methods: Sequence[Method]) -> Method:
    if any(method.name == name for method in methods):
        raise ConfigError(f"--models: two rows are called '{name}'; name them, as in --models first={name} second=...")
    folder = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip(". ") or "model"
    return Method(name, keep / folder)


def _pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    if len(found) < 2:
        raise ConfigError(f"--real {folder}: holds {len(found)} pictures; give a folder with the real ones")
    return found


def finish(output: Path | None, text: str, data: dict[str, Any]) -> None:
    """Print a report, and write it as Markdown and JSON where there is an output."""
    print(text)
    for path in [] if output is None else report.write(output, text, data):
        print(f"wrote {path}")
