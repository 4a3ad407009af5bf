"""`train open`: the parts in their order, within a budget, resumed after a kill."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.files import remove_leftovers
from ...edit.model import EditModel
from ..prepare.json_lines import claim
from ..prepare.networks import Networks
from ..prepare.portrait_set import PortraitOptions, known_pictures, prepare_portraits
from ..prepare.portraits import files_of, read_manifest
from ..prepare.shards import Shards
from ..training.assemble import PRECISIONS, FirstStageParts, ModelParts, save_first_stage
from ..training.autoencoder import train_autoencoder
from ..training.denoiser import train_denoiser
from ..training.latent_scale import measure_latent_scale
from ..training.loop import LoopOptions
from ..training.parts import read_first_stage, read_slots, read_training
from ..training.progress import duration
from ..training.slots import train_slots
from .budget import PARTS, Budget
from .pair_making import PairMaker, read_fitted
from .stages import FINISH, SHARPEN, Stages
from .trial import measure_model, write_card

log = logging.getLogger(__name__)
FEWEST = 16  # portraits that are prepared whatever the time is
MOST_PAIRS = 40_000  # 2.5 GB of latents, kept on a GPU
DEV_PAIRS = 64  # as many as the denoiser's dev loss reads
SCALE_SAMPLES = 64
Note = dict[str, Any]


@dataclass(frozen=True)
class RetrainOptions:
    """What `train open` is asked for.

    portraits  a folder of pictures, or one that `prepare portraits` wrote
    folder     everything is written there
    budget     seconds
    device     "cpu" or "cuda"
    start      a whole model whose weights are gone on from; "" trains from nothing
    license    of the model's file; "" says what the portraits' manifest says
    workers    processes that prepare portraits; None: one per core
    """

    portraits: Path
    folder: Path
    budget: float
    device: str = "cpu"
    start: str = ""
    name: str = "open-256"
    license: str = ""
    seed: int = 0
    workers: int | None = None


def is_prepared(folder: Path) -> bool:
    """Whether a folder is one that `prepare portraits` has finished, labels and all."""
    return (folder / "fit_train.safetensors").is_file() and any((folder / "labels" / "train").glob("*.safetensors"))


def _check(options: RetrainOptions) -> None:
    """What would otherwise fail after hours."""
    if Path(options.name).name != options.name:
        raise ConfigError(f"--name {options.name}: is no file name; give one without folders")
    if options.folder.resolve().is_relative_to(options.portraits.resolve()):
        raise ConfigError(f"--output {options.folder}: lies in the portraits' folder; choose one beside it")
    if options.start:
        EditModel.load(options.start)
    if not is_prepared(options.portraits):
        from ..prepare import region_labels  # noqa: F401  it needs scipy

        known_pictures(options.portraits)


class Retraining:
    """One run. `run` does what is left of it."""

    def __init__(self, options: RetrainOptions) -> None:
        """Raises ConfigError for a folder of another run, or one without pictures, and CheckpointError for a start that is no model;
        nothing is written then."""
        self.options, self.folder = options, options.folder
        self.portraits = options.portraits if is_prepared(options.portraits) else options.folder / "portraits"
        _check(options)
        about = {"format": "difffae-retraining/1", "portraits": str(options.portraits.resolve()), "start": options.start}
        claim(self.folder, about | {"name": options.name, "seed": options.seed})
        remove_leftovers(self.folder)
        self.budget = Budget(self.folder, options.budget)
        self.stages = Stages(self.portraits, self.folder, options.device, options.seed, options.start)
        self.latents, self.dev_latents = self.folder / "latents", self.folder / "latents_dev"
        self.first_stage, self.model = self.folder / "first_stage.safetensors", self.folder / f"{options.name}.safetensors"

    def run(self) -> Path:
        """Do every part that is not done; returns the model's file, beside which its card lies."""
        work: dict[str, Callable[[float], Note]] = {
            "portraits": self._portraits, "first stage": self._first_stage, "decoder": self._decoder, "slots": self._slots,
            "pairs": self._pairs, "denoiser": self._denoiser, "card": self._card,
        }  # fmt: skip
        for place, part in enumerate(PARTS, start=1):
            label = f"[{place} of {len(PARTS)}] {part.name}"
            if self.budget.done(part.name):
                log.info("%s: done before", label)
                continue
            seconds = self.budget.begin(part.name, self._kept(part.name))
            ends = datetime.now() + timedelta(seconds=self.budget.left)
            log.info("%s: about %s; everything until about %s", label, duration(seconds), ends.strftime("%H:%M:%S"))
            note = work[part.name](seconds)
            self.budget.end(note)
            log.info("%s: %s", label, self._told(part.name, part.unit))
        return self.model

    def _told(self, name: str, unit: str) -> str:
        """A finished part in one line: how much, how long, how fast, and its other numbers."""
        part = self.budget.parts[name]
        note, seconds = dict(part["note"]), part["seconds"]
        count = note.pop("count")
        line = f"{count:,} {unit} in {duration(seconds)}, {count / max(seconds, 1e-3):.3g} a second"
        return line + "".join(f", {key} {value:.4g}" for key, value in note.items())

    def _kept(self, name: str) -> float | None:
        """Seconds that the last checkpoint of an interrupted stage holds; None where `progress.json` knows."""
        checkpoint = self.folder / "runs" / name.replace(" ", "_") / "last.pt"
        return 60 * read_training(checkpoint)["spent"] if checkpoint.exists() else None

    def _portraits(self, seconds: float) -> Note:
        if not is_prepared(self.portraits):
            count = len(known_pictures(self.options.portraits))
            workers = max(
                1, min(self.options.workers or os.cpu_count() or 1, count // 50, round(seconds / 10))
            )  # each takes seconds to start
            asked = iter(range(count))
            enough = lambda: next(asked) >= FEWEST and self.budget.over()  # noqa: E731
            prepare_portraits(self.options.portraits, self.portraits, PortraitOptions(), workers=workers, over=enough)
        if not is_prepared(self.portraits):
            raise ConfigError(f"{self.options.portraits}: no portrait is left to train on; give pictures of more people")
        return {"count": sum(len(files_of(self.portraits, split)) for split in ("train", "dev"))}

    def _first_stage(self, seconds: float) -> Note:
        options = self.stages.first_stage(seconds)
        train_autoencoder(options)
        return _trained(options, "psnr")

    def _decoder(self, seconds: float) -> Note:
        options = self.stages.decoder(seconds, self.stages.first_stage(0).checkpoint)
        train_autoencoder(options)
        self._write_first_stage(options.checkpoint)
        return _trained(options, "psnr")

    def _write_first_stage(self, trained: Path) -> None:
        """The file that the other stages read. A start's scale stays, as its denoiser knows it."""
        parts = FirstStageParts(trained, sharpen=SHARPEN)
        if not self.options.start:
            scale = measure_latent_scale(parts.read(), self.portraits / "labels" / "train", SCALE_SAMPLES)
            parts = replace(parts, latent_scale=round(scale, 4))
        save_first_stage(parts.read(), self.first_stage, license=self._license(), source=self._source(), precision="full")

    def _slots(self, seconds: float) -> Note:
        options = self.stages.slots(seconds)
        train_slots(options)
        return _trained(options, "masks")

    def _pairs(self, seconds: float) -> Note:
        pace, seed = self.stages.pace, self.options.seed
        first_stage, slots = read_first_stage(self.first_stage), read_slots(self.stages.slots(0).checkpoint)
        maker = PairMaker(self.options.device, first_stage, slots, Networks(), pace.pairs)
        fitted, dev = (read_fitted(self.portraits / f"fit_{split}.safetensors", maker.fingerprints) for split in ("train", "dev"))
        assert fitted is not None  # `is_prepared`
        begun = self.budget.parts["pairs"]["seconds"]
        path = self.dev_latents / "roundtrip_0000.safetensors"
        if dev is not None and not path.exists():
            path.parent.mkdir(exist_ok=True)
            started = self.budget.spent
            maker.write(dev, path, DEV_PAIRS, 77, lambda: self.budget.spent - started + begun > 0.1 * seconds)
            self.budget.keep()
        self.latents.mkdir(exist_ok=True)
        number = 0
        while number * pace.shard < MOST_PAIRS:
            path = self.latents / f"roundtrip_{number:04d}.safetensors"
            if not path.exists():
                if number and self.budget.over():
                    break
                maker.write(fitted, path, pace.shard, seed * 100_003 + number, self.budget.over)
                self.budget.keep()
            number += 1
        return {"count": len(Shards(self.latents, ("target",)))}

    def _denoiser(self, seconds: float) -> Note:
        dev = self.dev_latents if self.dev_latents.is_dir() else None
        options = self.stages.denoiser(seconds, self.latents, dev)
        train_denoiser(options)
        self._assemble().save(self.model, license=self._license(), source=self._source(), **PRECISIONS["8-bit"])
        return _trained(options, "diffusion", "dev_diffusion")

    def _assemble(self) -> EditModel:
        slots, denoiser = self.stages.slots(0).checkpoint, self.stages.denoiser(0, self.latents, None).checkpoint
        return ModelParts(FirstStageParts(self.first_stage), denoiser, slots, self.options.name, finish=FINISH).assemble()

    def _card(self, seconds: float) -> Note:
        trial = measure_model(self.model, self.portraits, self.options.device, self.budget.over)
        write_card(self.folder / "card", self.options.name, self.budget, self._license(), self._groups(), trial)
        return {"count": len(trial.edits)}

    def _license(self) -> str:
        """As given, or as the portraits' manifest says."""
        stated = ", ".join(sorted({name for _, name in self._groups()} - {""}))
        return self.options.license or f"as the portraits' licences allow: {stated or 'not stated in their manifest'}"

    def _source(self) -> str:
        return "trained by `python -m difffae train open`" + (f", from {Path(self.options.start).name}" if self.options.start else "")

    def _groups(self) -> dict[tuple[str, str], int]:
        """(source, licence) -> how many portraits of the train split."""
        rows = read_manifest(self.portraits)
        found: dict[tuple[str, str], int] = {}
        for name in files_of(self.portraits, "train"):
            key = (rows[name].get("source") or "", rows[name].get("licence") or "")
            found[key] = found.get(key, 0) + 1
        return dict(sorted(found.items()))


def _trained(options: LoopOptions, *numbers: str) -> Note:
    """How many samples a stage has seen, and the last values of some numbers of its log."""
    note: Note = {"count": read_training(options.checkpoint)["step"] * options.batch}
    path = Path(options.folder) / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    for name in numbers:
        values = [line[name] for line in lines if name in line]
        note |= {name: values[-1]} if values else {}
    return note
