"""The examples in docstrings, run as a reader would run them."""

from __future__ import annotations

import doctest
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from difffae.edit.editor import DiffFAE

SMALL = (
    "carry.cutout",
    "common.images",
    "common.needs",
    "edit.native",
    "faces.crop",
    "faces.following",
    "faces.quarter_turns",
    "head.adjust",
    "head.attributes",
    "head.morphable",
    "head.render",
    "lab.retrain.budget",
    "video.pipeline",
    "lab.training.progress",
    "source.slots",
    "video.keyframes",
)
WITH_A_MODEL = ("person.prepared", "edit.description", "edit.editor")


@pytest.fixture(scope="module")
def one_model():
    """`DiffFAE.from_pretrained` as usual, but loaded once for all examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffFAE, "from_pretrained", cache(DiffFAE.from_pretrained))
        yield


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in WITH_A_MODEL)])
def test_examples_run_as_they_are_shown(name: str, one_model, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)  # some write a picture
    module = import_module(f"difffae.{name}")
    failed, tried = doctest.testmod(module)
    assert tried > 0, "a module without an example need not be in this list"
    assert not failed, capsys.readouterr().out


def test_every_module_with_examples_is_listed() -> None:
    library = Path(import_module("difffae").__file__ or "").parent
    found = {path for path in library.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")}
    assert {".".join(path.relative_to(library).with_suffix("").parts) for path in found} == {*SMALL, *WITH_A_MODEL}
