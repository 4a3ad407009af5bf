"""`evaluate --card`: everything that the model card needs, in one folder. Imports torch."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..common.errors import ConfigError
from ..edit.editor import DiffFAE
from ..lab.bench.machine import describe
from ..lab.card import blocks
from ..lab.card import slot_quality as quality
from ..lab.card.card import Card
from ..lab.card.groups import read_groups
from ..lab.card.rows import Record
from ..lab.card.table import pair_names
from ..lab.prepare.portraits import dev_files
from ..lab.tables.report import write
from .work import load_model

SWAP_PAIRS = 24
SYNTHETIC_PAIRS = 50
SYNTHETIC_SLOTS = 100  # pairs, two pictures each
Measured = dict[str, list[Record]]


def run(arguments: argparse.Namespace) -> None:
    folder = _folder(arguments)
    model = load_model(arguments)
    pairs = pair_names(arguments.portraits, sorted(dev_files()), arguments.pairs)
    card = Card.load(folder / "card.json", _settings(model, arguments))
    subjects = blocks.Subjects(model, arguments.portraits, pairs, arguments.steps, arguments.sampler, arguments.seed)
    subjects.synthetic, subjects.synthetic_count = arguments.synthetic, min(SYNTHETIC_PAIRS, arguments.pairs)
    labels = read_groups(arguments.groups)
    for name, (measure, ticks) in _parts(subjects, arguments).items():
        done = any(block["part"] == name for block in card.blocks.values())
        if done if arguments.only is None else name not in arguments.only:
            continue
        start = time.monotonic()
        with tqdm(total=ticks, desc=name) as bar:
            subjects.tick = bar.update
            measured = measure()
        note = {
            "part": name,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": _machine(model),
            "seconds": round((time.monotonic() - start) / max(1, len(measured)), 1),
        }
        for block, records in measured.items():
            card.blocks[block] = note | {"records": records}
        card.groups = {source: labels.get(source, {}) for source, _ in pairs}
        write(folder / "card", card.markdown(), card.to_dict())  # an interrupted run goes on from here
    paths = write(folder / "card", card.markdown(), card.to_dict())
    print(card.markdown())
    for path in paths:
        print(f"wrote {path}")


def _parts(subjects: blocks.Subjects, arguments: argparse.Namespace) -> dict[str, tuple[Callable[[], Measured], int]]:
    """Name -> what measures it, and how often it ticks. Those that lack their data are left out."""
    count, sources, names = len(subjects.pairs), len({source for source, _ in subjects.pairs}), len(subjects.names())
    few = min(arguments.sampler_pairs, count)
    synthetic = subjects.synthetic_count if subjects.synthetic is not None else 0

    def samplers() -> Measured:
        found: Measured = {}
        for kind, (sampler, steps) in (("fast", blocks.FAST), ("slow", blocks.SLOW)):
            part = subjects.with_sampler(sampler, steps, few)
            found |= {f"{kind} {name}": records for name, records in blocks.sampled(part).items()}
        return found

    def carry() -> Measured:
        found: Measured = {}
        part = subjects.with_sampler(arguments.sampler, arguments.steps, few)
        for name, mode in (("no-carry", "no carry"), ("preview", "preview"), *((name, name) for name in blocks.LESS)):
            found |= {f"{name} {block}": records for block, records in blocks.ablation(part, mode).items()}
        return found

    def slots() -> Measured:
        found: Measured = {"slots-moved": quality.moved_masks(subjects)}
        if arguments.labels is not None:
            found["slots-real"] = quality.against_labels(subjects, arguments.labels)
        if arguments.synthetic is not None:
            found["slots-synthetic"] = quality.against_labels(subjects, arguments.synthetic, SYNTHETIC_SLOTS)
        return found

    few_sources = len({source for source, _ in subjects.pairs[:few]})
    parts: dict[str, tuple[Callable[[], Measured], int]] = {
        "first-stage": (lambda: {"first-stage": blocks.first_stage(subjects)}, names),
        "self": (lambda: {"self": blocks.self_edits(subjects)}, sources),
        "edit": (lambda: {"edit": blocks.cross_edits(subjects)}, count),
        "drift": (lambda: {"drift": blocks.single_takes(subjects)}, count),
        "synthetic": (lambda: {"synthetic": blocks.synthetic_pairs(subjects)}, synthetic),
        "carry": (carry, (2 + len(blocks.LESS)) * (few_sources + few + min(few, synthetic))),
        "samplers": (samplers, 2 * (few_sources + 2 * few + min(few, synthetic))),
        "slots": (slots, names),
        "swaps": (lambda: {"swaps": quality.swaps(replace(subjects, pairs=subjects.pairs[:SWAP_PAIRS]))}, min(count, SWAP_PAIRS)),
    }
    if subjects.synthetic is None:
        del parts["synthetic"]
    if not subjects.model.model.denoiser.config.carry:
        del parts["carry"]
    if not subjects.model.model.has_slots:
        del parts["slots"], parts["swaps"]
    return parts


def _folder(arguments: argparse.Namespace) -> Path:
    for name in ("synthetic", "labels"):
        path = getattr(arguments, name)
        if path is not None and not path.is_dir():
            raise ConfigError(f"--{name} {path}: no such folder; give the one with the shards")
    if arguments.output is None:
        raise ConfigError("--card: give --output FOLDER for card.md and card.json")
    folder = Path(arguments.output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be made ({error.strerror}); give a folder in an existing one") from error
    return folder


def _settings(model: DiffFAE, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all blocks of one card must share."""
    return {
        "checkpoint": model.checkpoint.record() if model.checkpoint else {"name": model.model.name},
        "pairs": arguments.pairs,
        "steps": arguments.steps,
        "sampler": arguments.sampler,
        "seed": arguments.seed,
        "sampler_pairs": arguments.sampler_pairs,
        "estimator": type(model.estimator).__name__,
        "identity": model.model.identity,
    }


def _machine(model: DiffFAE) -> str:
    machine = describe(model.device)
    return f"{machine.device}, {machine.threads} of {machine.cores} threads, torch {machine.torch}"
