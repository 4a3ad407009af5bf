"""Schemas: every node can be found, explains itself and has defaults that work, alike on the oldest ComfyUI and the present one."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from client import ROOT, Comfy

KINDS = {
    "INT",
    "FLOAT",
    "STRING",
    "BOOLEAN",
    "COMBO",
    "IMAGE",
    "MASK",
    "MODEL",
    "VAE",
    "LATENT",
    "CONDITIONING",
    "MESH",
    "VIDEO",
    "BOUNDING_BOX",
    "FACE_LANDMARKS",
    "SEGS",
    "FLAME_PARAMS",
}
OURS = {"DIFFFAE", "DIFFFAE_CROP", "FACE_ATTRIBUTES", "SLOT_TOKENS", "IDENTITY_TOKEN", "DIFFFAE_CARRY", "DIFFFAE_REPORT"}
SOURCES = sorted((ROOT / "nodes").glob("*.py"))
NODES = sorted(
    name for path in SOURCES for name in re.findall(r"^class (DiffFAE\w+)\(io\.ComfyNode\)", path.read_text("utf-8"), re.MULTILINE)
)
SAME = ("input_order", "output", "output_name", "output_tooltips", "output_node", "description", "search_aliases", "display_name")


@pytest.fixture(scope="module")
def schemas(comfy: Comfy) -> dict[str, dict[str, Any]]:
    return own(comfy)


def own(comfy: Comfy) -> dict[str, dict[str, Any]]:
    return {name: info for name, info in comfy.get("/object_info").items() if info["python_module"] == "custom_nodes.difffae"}


def inputs(info: dict[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (type or list of options, options of the widget)."""
    both = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {name: (value[0], value[1] if len(value) > 1 else {}) for name, value in both.items()}


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def says_something(tooltip: str | None, name: str) -> bool:
    """At least 15 characters, ends as a sentence, and has words beyond the name's."""
    return bool(tooltip) and len(tooltip) >= 15 and tooltip[-1] in ".!" and len(words(tooltip) - words(name)) >= 2


def test_all_nodes_are_there(schemas: dict) -> None:
    assert len(NODES) >= 19
    assert sorted(schemas) == NODES


@pytest.mark.parametrize("name", NODES)
def test_node_can_be_found(schemas: dict, name: str) -> None:
    info = schemas[name]
    assert name.startswith("DiffFAE")
    assert info["name"] == name
    assert "DiffFAE" in info["display_name"]
    assert info["category"] in ("DiffFAE", "DiffFAE/attributes")
    assert len(info["description"]) >= 40
    assert info["description"][-1] == "."
    aliases = info["search_aliases"]
    assert len(aliases) >= 3
    assert len({alias.lower() for alias in aliases}) == len(aliases)
    assert not any(info.get(flag) for flag in ("deprecated", "experimental", "dev_only"))


def test_names_are_distinct(schemas: dict) -> None:
    assert len({info["display_name"] for info in schemas.values()}) == len(schemas)
    assert len({info["description"] for info in schemas.values()}) == len(schemas)


@pytest.mark.parametrize("name", NODES)
def test_inputs_and_outputs_explain_themselves(schemas: dict, name: str) -> None:
    info = schemas[name]
    for field, (_, options) in inputs(info).items():
        assert says_something(options.get("tooltip"), field), field
    assert len(info["output_tooltips"]) == len(info["output"])
    for field, tooltip in zip(info["output_name"], info["output_tooltips"], strict=True):
        assert says_something(tooltip, field), field


@pytest.mark.parametrize("name", NODES)
def test_types_are_known(schemas: dict, name: str) -> None:
    info = schemas[name]
    for field, (kind, _) in inputs(info).items():
        assert isinstance(kind, list) or kind in KINDS | OURS, field
    assert set(info["output"]) <= KINDS | OURS
    assert len(set(info["output_name"])) == len(info["output_name"])


@pytest.mark.parametrize("name", NODES)
def test_defaults_are_valid(schemas: dict, name: str) -> None:
    for field, (kind, options) in inputs(schemas[name]).items():
        if isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else options["options"]
            assert len(set(choices)) == len(choices)
            if not options.get("image_upload"):
                assert options["default"] in choices, field
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], field
            assert options["step" if kind == "FLOAT" else "min"] is not None
            if kind == "FLOAT":
                steps = (options["default"] - options["min"]) / options["step"]
                assert abs(steps - round(steps)) < 1e-6, field  # else the first touch of the widget changes it
        elif kind in ("BOOLEAN", "STRING"):
            assert isinstance(options["default"], bool if kind == "BOOLEAN" else str), field


def without_core(info: dict[str, Any]) -> dict[str, Any]:
    """What the pack says itself: another ComfyUI has other samplers and other files."""
    plain = json.loads(json.dumps(info))
    for name, (kind, options) in inputs(plain).items():
        if name in ("sampler_name", "scheduler", "checkpoint", "image"):
            options.pop("options", None)
            if isinstance(kind, list):
                kind.clear()
    return plain


def test_both_comfyuis_get_the_same(comfy: Comfy, comfy_floor: Comfy) -> None:
    new, old = own(comfy), own(comfy_floor)
    assert sorted(new) == sorted(old)
    for name in new:
        ours, theirs = without_core(new[name]), without_core(old[name])
        for key in SAME:
            assert ours[key] == theirs[key], (name, key)
        before, after = inputs(theirs), inputs(ours)
        assert list(before) == list(after)
        for field, (kind, options) in before.items():
            assert kind == after[field][0], (name, field)
            for option in set(options) & set(after[field][1]):
                assert options[option] == after[field][1][option], (name, field, option)
            lost = set(options) ^ set(after[field][1])
            assert lost.isdisjoint({"default", "min", "max", "step", "tooltip", "options", "advanced"}), (name, field)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nodes_are_thin(path: Path) -> None:
    """One node a file; what it computes stands elsewhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [item for item in tree.body if isinstance(item, ast.ClassDef) and item.name.startswith("DiffFAE") and _is_node(item)]
    assert len(nodes) <= 1
    for item in nodes:
        for work in (part for part in item.body if isinstance(part, ast.FunctionDef) and part.name != "define_schema"):
            assert work.end_lineno - work.lineno < 20, work.name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def _is_node(item: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Attribute) and base.attr == "ComfyNode" for base in item.bases)
