"""`evaluate --portraits`: the short table, or with --card everything that the model card needs, in one folder. Imports torch."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..common.errors import ConfigError
from ..common.files import atomic_write
from ..edit.editor import DiffFAE
from ..estimation.network import EncoderFit
from ..head.axes import COEFFICIENTS
from ..head.morphable import HeadModel
from ..lab.bench.machine import describe
from ..lab.card import blocks, number_rows, numbers
from ..lab.card import slot_quality as quality
from ..lab.card.card import Card
from ..lab.card.estimator_table import compare
from ..lab.card.groups import read_groups
from ..lab.card.rows import DEV_TABLE, Record
from ..lab.prepare.portraits import files_of
from ..lab.tables.report import check_output, write
from .tables import finish, named
from .work import load_model

SWAP_PAIRS = 24
SYNTHETIC_PAIRS = 50
SYNTHETIC_SLOTS = 100  # pairs, two pictures each
Measured = dict[str, list[Record]]


def dev_table(arguments: argparse.Namespace) -> None:
    """`evaluate --portraits` without --card: one short table of cross edits."""
    output = check_output(arguments.output)
    subjects = _subjects(arguments)
    with tqdm(total=len(subjects.pairs), desc="pairs") as bar:
        subjects.tick = bar.update
        records = blocks.cross_edits(subjects, take=arguments.take)
    numbers = {name: statistic(records) for name, statistic in DEV_TABLE.items()}
    for name, value in numbers.items():
        print(f"{name:52s} " + (f"{value:9.3f}" if isinstance(value, float) else f"{'/' if value is None else value:>9}"))
    if output:
        with atomic_write(output) as temporary:
            temporary.write_text(json.dumps(numbers, indent=2) + "\n")


@torch.no_grad()
def estimators(arguments: argparse.Namespace) -> None:
    """`evaluate --portraits --estimators`. Every time is of one thread."""
    head = HeadModel.load()
    output = check_output(arguments.output)
    torch.set_num_threads(1)
    readers = {"network": EncoderFit.load(head)}
    for text in arguments.networks:
        name, path = named(text)
        readers[name or Path(path).stem] = EncoderFit.load(head, path)
    comparison = compare(readers, head)
    seen = comparison.portraits(arguments.portraits, arguments.limit)
    comparison.times(next(iter(seen.values())))
    comparison.steadiness(arguments.portraits, seen, arguments.steady)
    if arguments.synthetic:
        comparison.synthetic(arguments.synthetic)
    if arguments.tones:
        comparison.tones(arguments.tones, arguments.makehuman, arguments.people)
    finish(output, comparison.markdown(), {"format": "difffae-estimators/1", "rows": comparison.rows})


def run(arguments: argparse.Namespace) -> None:
    """`evaluate --card`."""
    folder = _folder(arguments)
    subjects = _subjects(arguments)
    card = Card.load(folder / "card.json", _settings(subjects.model, arguments))
    subjects.synthetic, subjects.synthetic_count = arguments.synthetic, min(SYNTHETIC_PAIRS, arguments.pairs)
    labels = read_groups(arguments.groups)
    parts = _parts(subjects, arguments) | _by_numbers(subjects, card, folder, arguments)
    for name, (measure, ticks) in parts.items():
        done = any(block["part"] == name and not block.get("unfinished") for block in card.blocks.values())
        if done if arguments.only is None else name not in arguments.only:
            continue
        start = time.monotonic() - _unfinished(card, name).get("seconds", 0)
        with tqdm(total=ticks, desc=name) as bar:
            subjects.tick = bar.update
            measured = measure()
        note = _note(subjects.model, name, (time.monotonic() - start) / max(1, len(measured)), arguments)
        card.blocks |= {block: note | {"records": records} for block, records in measured.items()}
        card.groups = {source: labels.get(source, {}) for source, _ in subjects.pairs}
        write(folder / "card", card.markdown(), card.to_dict())  # an interrupted run goes on from here
    finish(folder / "card", card.markdown(), card.to_dict())


def _subjects(arguments: argparse.Namespace) -> blocks.Subjects:
    pairs = blocks.pair_names(arguments.portraits, files_of(arguments.portraits, "dev"), arguments.pairs)
    model = load_model(arguments)
    return blocks.Subjects(model, arguments.portraits, pairs, arguments.steps, arguments.sampler, arguments.seed, arguments.denoise)


def _parts(subjects: blocks.Subjects, arguments: argparse.Namespace) -> dict[str, tuple[Callable[[], Measured], int]]:
    """Name -> what measures it, and how often it ticks. Those that lack their data are left out."""
    count, sources, names = len(subjects.pairs), len({source for source, _ in subjects.pairs}), len(subjects.names())
    few = min(arguments.sampler_pairs, count)
    few_sources = len({source for source, _ in subjects.pairs[:few]})
    synthetic = subjects.synthetic_count if subjects.synthetic is not None else 0

    def few_steps() -> Measured:
        found: Measured = {}
        for kind, (sampler, steps) in (("few", blocks.FEW_STEPS), ("many", blocks.MANY_STEPS)):
            part = subjects.with_sampler(sampler, steps, few, denoise=1.0)
            found |= {f"{kind} {name}": records for name, records in blocks.sampled(part).items()}
        return found

    def carry() -> Measured:
        found: Measured = {}
        part = subjects.with_sampler(arguments.sampler, arguments.steps, few)
        for name in ("no-carry", "painted", *blocks.LESS):
            found |= {f"{name} {block}": records for block, records in blocks.ablation(part, name).items()}
        return found

    def slots() -> Measured:
        found: Measured = {"slots-moved": quality.moved_masks(subjects)}
        if arguments.labels is not None:
            found["slots-real"] = quality.against_labels(subjects, arguments.labels)
        if arguments.synthetic is not None:
            found["slots-synthetic"] = quality.against_labels(subjects, arguments.synthetic, SYNTHETIC_SLOTS)
        return found

    def one(name: str, measure: Callable[[blocks.Subjects], list[Record]], ticks: int) -> tuple[Callable[[], Measured], int]:
        return lambda: {name: measure(subjects)}, ticks

    parts: dict[str, tuple[Callable[[], Measured], int]] = {
        "first-stage": one("first-stage", blocks.first_stage, names),
        "self": one("self", blocks.self_edits, sources),
        "edit": one("edit", blocks.cross_edits, count),
        "drift": one("drift", blocks.single_takes, count),
    }
    if synthetic:
        parts["synthetic"] = one("synthetic", blocks.synthetic_pairs, synthetic)
    if subjects.model.model.denoiser.config.carry:
        parts["carry"] = carry, (2 + len(blocks.LESS)) * (few_sources + few + min(few, synthetic))
    parts["few-steps"] = few_steps, 2 * (few_sources + 2 * few + min(few, synthetic))
    if subjects.model.model.has_slots:
        parts["slots"] = slots, names
        parts["swaps"] = (lambda: {"swaps": quality.swaps(replace(subjects, pairs=subjects.pairs[:SWAP_PAIRS]))}), min(count, SWAP_PAIRS)
    return parts


def _by_numbers(
    subjects: blocks.Subjects, card: Card, folder: Path, arguments: argparse.Namespace
) -> dict[str, tuple[Callable[[], Measured], int]]:
    """The part of that name, which is kept after every person; none for a model that carries nothing, or without ARKit's coefficients."""
    model, name = subjects.model, number_rows.BLOCK
    if model.carry_options is None or not set(COEFFICIENTS) <= set(model.head.expression_names):
        return {}
    people = subjects.names()[: arguments.limit or numbers.PEOPLE]

    def measure() -> Measured:
        before, start = _unfinished(card, name), time.monotonic()
        known = before.get("records", []) if before.get("denoise") == _denoise(arguments) else []

        def keep(records: list[Record]) -> None:
            seconds = before.get("seconds", 0) + time.monotonic() - start
            card.blocks[name] = _note(model, name, seconds, arguments) | {"unfinished": True, "records": records}
            path = folder / "card.json"
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(card.to_dict(rows_too=False), indent=2) + "\n", encoding="utf-8")

        return {name: numbers.by_numbers(subjects, people, _denoise(arguments), known, keep)}

    return {name: (measure, len(people))}


def _unfinished(card: Card, name: str) -> dict[str, Any]:
    """What an interrupted run left of a part."""
    block = card.blocks.get(name, {})
    return block if block.get("unfinished") else {}


def _denoise(arguments: argparse.Namespace) -> float:
    """By numbers, the moved photographs alone are measured unless asked for otherwise."""
    return 0.0 if arguments.denoise is None else arguments.denoise


def _note(model: DiffFAE, part: str, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """When, where and how a part was measured."""
    date = datetime.now(timezone.utc).date().isoformat()
    note = {"part": part, "date": date, "machine": _machine(model), "seconds": round(seconds, 1)}
    return note | ({"denoise": _denoise(arguments)} if part == number_rows.BLOCK else {})


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
        "denoise": arguments.denoise,
        "sampler_pairs": arguments.sampler_pairs,
        "estimator": type(model.estimator).__name__,
        "identity": model.model.identity,
    }


def _machine(model: DiffFAE) -> str:
    machine = describe(model.device)
    return f"{machine.device}, {machine.threads} of {machine.cores} threads, torch {machine.torch}"
