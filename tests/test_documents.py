"""The pages: the one that is written from docstrings, and the commands that others show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import build_api
import pytest
from PIL import Image
from places import ROOT

from difffae.cli import build_parser
from difffae.cli.train import STAGES, WHOLE, first_stage_class
from difffae.common.named_values import build
from difffae.lab.tables.pairs import read_pairs
from difffae.lab.training.presets import read_configs

PAGES = ("reproduce.md", "training.md")
COMMAND = "python -m difffae "


def commands(page: str) -> list[list[str]]:
    """Every command of the library that a page shows in a block of code, as words."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    " + COMMAND)]
    split = [shlex.split(line.removeprefix(COMMAND), comments=True) for line in lines]
    return [words for words in split if "--help" not in words]


def test_the_api_page_is_what_the_docstrings_say():
    assert build_api.PAGE.read_text(encoding="utf-8") == build_api.page(), "run python scripts/build_api.py"


def test_sections_become_lists_and_tables_stay():
    def documented() -> None:
        """First line.

        a   aligned
        bb  table

        Args:
            one, two: what
                they are.
        """

    assert build_api.described(documented) == [
        *("", "First line.", "", "```text", "a   aligned\nbb  table", "```"),
        *("", "*Args*", "", "- `one, two`: what they are."),
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_shown_exists(page: str):
    """Commands, options, choices, configurations and stage options are asked of the parsers that read them."""
    from importlib import import_module

    shown = commands(page)
    assert len(shown) >= 12
    for words in shown:
        arguments = build_parser().parse_args(words)
        if arguments.command != "train" or arguments.stage == WHOLE:
            continue
        module, _, options, model_module, model = STAGES[arguments.stage]
        training, sizes = read_configs(arguments.config, arguments.stage, arguments.set, arguments.model_set)
        build(getattr(import_module(f"difffae.lab.training.{module}"), options), training, "training")
        shape = first_stage_class(sizes.pop("kind")) if "kind" in sizes else getattr(import_module(f"difffae.{model_module}"), model)
        build(shape, sizes, "model")


def test_the_way_to_table_1_is_complete():
    """Each file that a step reads is a licensed one of the page's table, a folder of the reader's, or written by a step before it."""
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    given = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)) | {"VOXCELEB", "pairs.csv", "test-frames"}
    made: set[str] = set()
    for words in commands("reproduce.md"):
        named = [word.rpartition("=")[2] for word in words if re.search(r"[/.](?!\d)|[A-Z]{4}", word) and not word.startswith("--")]
        at = words.index("--output") + 1 if "--output" in words else None
        outputs = {words[at]} if at else {word.removeprefix("folder=") for word in words if word.startswith("folder=")}
        for name in set(named) - outputs:
            if " " in name:
                continue  # the text of a licence
            known = name in given or any(name == one or name.startswith(f"{one}/") for one in made)
            assert known, f"{' '.join(words)}: {name} comes from no step before it"
        made |= outputs
    assert "table.md" in made


def test_pairs_for_table_1_are_of_different_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The page's own code, on the frames of three persons."""
    monkeypatch.chdir(tmp_path)
    for place in ("a/v/c/0", "a/v/c/1", "b/v/c/0", "c/v/c/0"):
        folder = tmp_path / "test-frames" / place
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(folder / f"{number:05d}.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "reproduce.md", "exec"), {})  # noqa: S102
    pairs = read_pairs(Path("pairs.csv"))
    assert len(pairs) == 2000
    assert {pair.source.name for pair in pairs} == {"00001.jpg"}
    assert all(pair.source.parts[1] != pair.query.parts[1] for pair in pairs)
