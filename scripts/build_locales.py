"""Write locales/en/nodeDefs.json and the tables of web/docs from the nodes' schemas, and tell what the Chinese texts lack.

.comfyui/venv/bin/python scripts/build_locales.py          exit status 1 and one line for everything that is missing, stale or left over
    --accept    the Chinese texts fit the present English ones: note so in locales/zh/translated.json
Chinese texts are written by hand, in locales/zh/nodeDefs.json; translated.json holds a hash of the English text of each, by which stale
ones are found. The tables of a page stand between its headings "Inputs" and "Outputs" (输入, 输出) and the next heading; the rest of the
page is written by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "comfy"))

from server import running  # noqa: E402

LOCALES, PAGES = ROOT / "locales", ROOT / "web" / "docs"
NUMBERS = ("INT", "FLOAT")
# widgets that the page adds to an input with this option: their name and English text
COMPANIONS = {
    "control_after_generate": ("control_after_generate", "control after generate"),
    "image_upload": ("upload", "choose file to upload"),
}
HEADINGS = {"en": ("## Inputs", "## Outputs"), "zh": ("## 输入", "## 输出")}
COLUMNS = {
    "en": ("| input | what it does |", "| output | what it is |"),
    "zh": ("| 输入 | 作用 |", "| 输出 | 说明 |"),
}
WORDS = {
    "en": {"default": "default {}", "optional": "optional", "choices": "choice", "empty": "empty", "on": "on", "off": "off"},
    "zh": {"default": "默认 {}", "optional": "可选", "choices": "选项", "empty": "空", "on": "开", "off": "关"},
}
Schema = Mapping[str, Any]
Texts = dict[str, Any]


def inputs(schema: Schema) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """(name, type, options, optional), in the node's order."""
    for group in ("required", "optional"):
        for name, definition in schema["input"].get(group, {}).items():
            options = definition[1] if len(definition) > 1 else {}
            kind = "COMBO" if isinstance(definition[0], list) else definition[0]
            yield name, kind, options, group == "optional"


def english(schema: Schema) -> Texts:
    """One node's part of nodeDefs.json."""
    texts: Texts = {}
    for name, _, options, _ in inputs(schema):
        texts[name] = {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
        for option, (companion, label) in COMPANIONS.items():
            if options.get(option):
                texts[companion] = {"name": label}
    outputs = zip(schema["output_name"], schema["output_tooltips"], strict=True)
    return {
        **{"display_name": schema["display_name"], "description": schema["description"], "inputs": texts},
        "outputs": {str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)},
    }


def flat(texts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"DiffFAELoader.inputs.checkpoint.tooltip": text}."""
    result: dict[str, str] = {}
    for key, value in texts.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return result


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def table(schema: Schema, texts: Texts, language: str) -> tuple[str, str]:
    """Markdown of the inputs and of the outputs, in two columns, since the page beside the graph is narrow. Names in another language are
    followed by the node's own."""

    def label(name: str, shown: str) -> str:
        return f"`{name}`" if shown == name else f"{shown} (`{name}`)"

    rows = [COLUMNS[language][0], "|---|---|"]
    for name, kind, options, optional in inputs(schema):
        shown = texts["inputs"][name]
        rows.append(f"| {label(name, shown['name'])} | {shown['tooltip']} *{describe(kind, options, optional, language)}* |")
    ends = [COLUMNS[language][1], "|---|---|"]
    for index, (name, kind) in enumerate(zip(schema["output_name"], schema["output"], strict=True)):
        shown = texts["outputs"][str(index)]
        ends.append(f"| {label(name, shown['name'])} | {shown['tooltip']} *{type_name(kind, language)}* |")
    return "\n".join(rows), "\n".join(ends)


def type_name(kind: str, language: str) -> str:
    """As the page names the type of a socket; a long word would widen the column beyond the page."""
    return read_json(LOCALES / language / "main.json")["dataTypes"].get(kind, kind.replace("_", " "))


def describe(kind: str, options: Mapping[str, Any], optional: bool, language: str) -> str:
    words = WORDS[language]
    parts = [words["choices"] if kind == "COMBO" else type_name(kind, language)]
    if optional:
        parts.append(words["optional"])
    if kind in NUMBERS and "min" in options:
        high = options["max"]
        parts.append(f"{options['min']:g}..{high:g}" if high < 2**32 else f">= {options['min']:g}")
    if "default" in options and not options.get("forceInput"):
        value = options["default"]
        shown = words["on" if value else "off"] if isinstance(value, bool) else f"{value:g}" if kind in NUMBERS else value or words["empty"]
        parts.append(words["default"].format(shown))
    return ", ".join(parts)


def with_tables(page: str, tables: tuple[str, str], language: str) -> str:
    """The page with its two tables replaced. Raises ValueError if a heading is missing."""
    for heading, text in zip(HEADINGS[language], tables, strict=True):
        section = f"{heading}\n\n{text}\n\n".replace("\\", r"\\")  # re reads backslashes
        page, count = re.subn(rf"(?ms)^{heading}\n.*?(?=^## |\Z)", section, page)
        if count != 1:
            raise ValueError(f"has {count} headings '{heading}', 1 is needed")
    return page.rstrip("\n") + "\n"


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def build(schemas: Mapping[str, Schema]) -> tuple[dict[Path, str], list[str]]:
    """Files as they should be, and what is wrong with those written by hand."""
    texts = {"en": {name: english(schemas[name]) for name in sorted(schemas)}, "zh": read_json(LOCALES / "zh" / "nodeDefs.json")}
    files = {LOCALES / "en" / "nodeDefs.json": as_json(texts["en"])}
    here, there, seen = flat(texts["en"]), flat(texts["zh"]), read_json(LOCALES / "zh" / "translated.json")
    problems = [f"locales/zh/nodeDefs.json: {key} is missing; English: {here[key]}" for key in here.keys() - there.keys()]
    problems += [f"locales/zh/nodeDefs.json: {key} is left over; no node has it" for key in there.keys() - here.keys()]
    problems += [
        f"locales/zh/nodeDefs.json: {key} may be stale; English is now: {text}; correct the Chinese, then --accept"
        for key, text in here.items()
        if key in there and seen.get(key) != digest(text)
    ]
    for language in ("en", "zh"):
        for name, schema in schemas.items():
            path = PAGES / f"{name}.md" if language == "en" else PAGES / name / f"{language}.md"
            shown = path.relative_to(ROOT)
            if not path.is_file():
                problems.append(f"{shown}: is missing; every node needs a page")
                continue
            try:
                files[path] = with_tables(path.read_text(encoding="utf-8"), table(schema, texts[language][name], language), language)
            except (ValueError, KeyError) as error:
                problems.append(f"{shown}: {error}")
    return files, sorted(problems)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="note that the Chinese texts fit the English ones")
    options = parser.parse_args()
    with running() as comfy:
        schemas = {name: info for name, info in sorted(comfy.get("/object_info").items()) if name.startswith("DiffFAE")}
    if options.accept:
        current = {key: digest(text) for key, text in flat({name: english(schema) for name, schema in schemas.items()}).items()}
        (LOCALES / "zh" / "translated.json").write_text(as_json(current), encoding="utf-8")
    files, problems = build(schemas)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
