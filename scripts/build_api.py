"""docs/api.md from the docstrings of what programs call: python scripts/build_api.py [--check]

--check writes nothing and fails where the page is not what the docstrings say.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
# title -> module below difffae, "" for the package itself -> its names
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "The package": {
        "": (
            *("DiffFAE", "EditResult", "Adjustments", "FaceAttributes", "Faces", "Portrait", "Edit", "RegionSwap", "Sampling"),
            *("compose", "read_image", "write_image", "DiffFAEError"),
        )
    },
    "The steps of an edit": {
        "edit.analysing": ("analyse",),
        "edit.moving": ("prepare", "move"),
        "edit.conditioning": ("conditions",),
        "edit.pasting": ("paste",),
    },
    "Clips": {
        "video.making": ("Motion", "Change", "Driven", "Order", "animate", "along_keyframes", "edit_clip"),
        "video.keyframes": ("Keyframes", "by_face"),
    },
    "Measuring results": {"report.results": ("Row", "find_results", "measure_pair")},
    "Training": {
        "lab.prepare.portrait_set": ("PortraitOptions", "prepare_portraits"),
        "lab.training.autoencoder": ("AutoencoderTraining", "train_autoencoder"),
        "lab.training.slots": ("SlotsTraining", "train_slots"),
        "lab.training.denoiser": ("DenoiserTraining", "train_denoiser"),
        "lab.training.assemble": ("FirstStageParts", "ModelParts"),
        "lab.retrain.retrain": ("RetrainOptions", "Retraining"),
    },
}
HEAD = """# Python

Written by `scripts/build_api.py` from the docstrings; change those. Examples to start from: [cli.md](cli.md), and the
scripts in `docs/examples/`. Shapes: B pictures or faces, H and W height and width; pictures are RGB (B,3,H,W) or (3,H,W), 0..1.
"""
HEADINGS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:")


class Annotation(str):
    """An annotation that shows without quotes: it is a text (`from __future__ import annotations`)."""

    def __repr__(self) -> str:
        return str(self)


def signature(name: str, thing: Any) -> str:
    """`name(parameters) -> result`, on several lines where it is long; self says nothing."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return name
    found = inspect.signature(thing)
    own = [one for one in found.parameters.values() if one.name != "self"]
    shown = [one.replace(annotation=Annotation(one.annotation)) if isinstance(one.annotation, str) else one for one in own]
    result = f" -> {found.return_annotation}" if isinstance(found.return_annotation, str) and found.return_annotation != "None" else ""
    text = f"{name}{found.replace(parameters=shown, return_annotation=inspect.Signature.empty)}{result}"
    if len(text) <= 120:
        return text
    lines = [re.sub(r"<function (\w+) at \w+>", r"\1", str(one)) for one in shown]
    star = next((index for index, one in enumerate(shown) if one.kind is one.KEYWORD_ONLY), None)
    if star is not None and all(one.kind is not one.VAR_POSITIONAL for one in shown):
        lines.insert(star, "*")
    return f"{name}(\n    " + ",\n    ".join(lines) + f",\n){result}"


def described(thing: Any) -> list[str]:
    """A docstring as Markdown: sections become lists, examples and aligned tables keep their form."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        first, _, rest = block.partition("\n")
        if first in HEADINGS:
            lines += ["", f"*{first.removesuffix(':')}*", "", *_items(textwrap.dedent(rest))]
        elif first.startswith(">>>"):
            lines += ["", "```python", block, "```"]
        elif re.search(r"\w {2,}\S", block):
            lines += ["", "```text", block, "```"]
        else:
            lines += ["", " ".join(block.split())]
    return lines


def _items(text: str) -> list[str]:
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and items:
            items[-1] += " " + line.strip()
        else:
            items.append(line)
    return ["- " + re.sub(r"^([\w, *]+): ", r"`\1`: ", item) for item in items]


def entry(name: str, thing: Any, level: str) -> list[str]:
    """Heading, signature and text of a function, or of a class and what it says of its public methods."""
    lines = ["", f"{level} {name}", "", "```python", signature(name, thing), "```", *described(thing)]
    if not inspect.isclass(thing):
        return lines
    for method, value in vars(thing).items():
        own = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if method.startswith("_") or not (inspect.isfunction(own) or isinstance(own, property)) or not inspect.getdoc(own):
            continue
        shown = f"{thing.__name__}.{method}"
        if isinstance(own, property):
            lines += ["", f"**`{shown}`** (property)", *described(own)]
        else:
            lines += ["", "```python", signature(shown, getattr(thing, method)), "```", *described(own)]
    return lines


def page() -> str:
    lines = [HEAD.rstrip()]
    for title, modules in SECTIONS.items():
        lines += ["", f"## {title}"]
        for module, names in modules.items():
            home = import_module(f"difffae.{module}" if module else "difffae")
            if module:
                lines += ["", f"From `difffae.{module}`:"]
            for name in names:
                lines += entry(name, getattr(home, name), "###")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is out of date")
    arguments = parser.parse_args()
    text = page()
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE.name}: is not what the docstrings say; run python scripts/build_api.py")


if __name__ == "__main__":
    main()
