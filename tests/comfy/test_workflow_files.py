"""The files of the bundled workflows and subgraph blueprints: whole, laid out for diffs, true to the nodes' schemas, and equal to their API
prompts. That a prompt is also what the page exports is told in test_templates.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client import ROOT, Comfy
from export_workflows import BLUEPRINTS, TWINS, WORKFLOWS, in_no_language, laid_out, read

FILES = sorted([*WORKFLOWS.glob("*.json"), *BLUEPRINTS.glob("*.json")])
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
ANY = ("*", "COMFY_MATCHTYPE_V3")  # what takes and gives every type
NOTES = ("MarkdownNote", "Note")
MUTED = 2
# what the person who uses a workflow brings: no list of this ComfyUI has it
BROUGHT = {
    ("CheckpointLoaderSimple", "ckpt_name"),
    ("UNETLoader", "unet_name"),
    ("DualCLIPLoader", "clip_name1"),
    ("DualCLIPLoader", "clip_name2"),
    ("VAELoader", "vae_name"),
}
INPUT_NODE, OUTPUT_NODE = -10, -20  # what ids of links call a blueprint's own inputs and outputs


def nodes_of(path: Path) -> list[dict[str, Any]]:
    """All but notes; of a blueprint those inside."""
    file = read(path)
    graphs = file["definitions"]["subgraphs"] if path.parent == BLUEPRINTS else [file]
    return [node for graph in graphs for node in graph["nodes"] if node["type"] not in NOTES]


def links_of(path: Path) -> dict[int, list[Any]]:
    """Id -> [from node, its output, to node, its input, type]."""
    if path.parent == BLUEPRINTS:
        (graph,) = read(path)["definitions"]["subgraphs"]
        return {
            link["id"]: [link[key] for key in ("origin_id", "origin_slot", "target_id", "target_slot", "type")] for link in graph["links"]
        }
    return {link[0]: link[1:] for link in read(path)["links"]}


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """By name. The page keeps them in a list, and after a seed what happens to it after a run."""
    values = iter(node["widgets_values"])
    named = {}
    for entry in node["inputs"]:
        if "widget" in entry:
            value = next(values)
            if entry["type"] == "IMAGEUPLOAD":  # a button that the page adds
                continue
            named[entry["name"]] = value
            if entry["name"] in ("seed", "noise_seed"):
                assert next(values) == "fixed"
    assert list(values) == []
    return named


def widgets_of(info: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, type or list of choices, options of the inputs that have a widget, in the node's order."""
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, options = (*info["input"][group][name], {})[:2]
            if (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput"):
                yield name, kind, options


def test_every_node_stands_in_a_workflow():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py")]
    own = {name for text in sources for name in re.findall(r'node_id="(DiffFAE\w+)"', text)}
    assert own - {node["type"] for path in WORKFLOWS.glob("*.json") for node in nodes_of(path)} == set()


def test_every_workflow_has_its_prompt_and_its_thumbnail():
    assert len(NAMES) >= 8
    assert sorted(path.name for path in TWINS.iterdir()) == [f"{name}.json" for name in NAMES]
    assert sorted(path.name for path in WORKFLOWS.iterdir()) == sorted(f"{name}.{kind}" for name in NAMES for kind in ("json", "jpg"))


@pytest.mark.parametrize("path", [*FILES, *sorted(TWINS.glob("*.json"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_laid_out_for_diffs(path: Path):
    assert path.read_text(encoding="utf-8") == laid_out(in_no_language(read(path))) + "\n", "run scripts/export_workflows.py"


def test_layout_changes_no_value_but_the_page_language():
    assert in_no_language([{"localized_name": "图像", "name": "image"}]) == [{"name": "image"}]
    value = {"a": [1, 2.5, None, "ü" * 200], "b": {}, "c": {"d": [[1, 2], [3] * 200], "e": True}, "f": []}
    assert json.loads(laid_out(value)) == value
    assert laid_out({"a": [1, {"b": 2}]}) == '{"a": [1, {"b": 2}]}'
    assert laid_out({"long": "x" * 140, "short": [1]}) == '{\n "long": "' + "x" * 140 + '",\n "short": [1]\n}'


@pytest.mark.parametrize("name", NAMES)
def test_prompt_says_what_the_workflow_says(name: str):
    path, twin = WORKFLOWS / f"{name}.json", read(TWINS / f"{name}.json")
    links = links_of(path)
    active = {node["id"]: node for node in nodes_of(path) if node["mode"] != MUTED}
    assert twin.keys() == {str(key) for key in active}
    for key, node in active.items():
        wired = {entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        inputs = {entry: [str(link[0]), link[1]] for entry, link in wired.items() if link[0] in active}
        assert twin[str(key)]["class_type"] == node["type"]
        assert twin[str(key)]["inputs"] == widget_values(node) | inputs, key
        assert node.get("title") in (None, twin[str(key)]["_meta"]["title"])


def _fits(kind: str, entry: dict[str, Any]) -> bool:
    return entry["type"] in (kind, *ANY) or kind in ANY


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_join_what_they_say(path: Path):
    nodes, links = {node["id"]: node for node in nodes_of(path)}, links_of(path)
    ends = {(node["id"], slot): entry["link"] for node in nodes.values() for slot, entry in enumerate(node["inputs"])}
    starts = {(node["id"], slot): entry["links"] for node in nodes.values() for slot, entry in enumerate(node["outputs"])}
    for number, (origin, output, target, slot, kind) in links.items():
        assert origin == INPUT_NODE or (number in starts[origin, output] and nodes[origin]["outputs"][output]["type"] == kind), number
        assert target == OUTPUT_NODE or (ends[target, slot] == number and _fits(kind, nodes[target]["inputs"][slot])), number
    used = {link for link in ends.values() if link is not None} | {link for several in starts.values() for link in several}
    assert used <= links.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nodes_are_as_their_schemas_say(comfy_each: Comfy, path: Path):
    """A page maps values to widgets by their order alone, and silently drops what it does not know."""
    for node in nodes_of(path):
        info = comfy_each.object_info(node["type"])
        known = {**info["input"]["required"], **info["input"].get("optional", {})}
        entries = {entry["name"]: entry for entry in node["inputs"] if entry["name"] != "upload"}  # a button that the page adds
        assert entries.keys() == known.keys(), node["type"]
        assert [name for name, entry in entries.items() if "widget" in entry] == [name for name, *_ in widgets_of(info)], node["type"]
        outputs = list(zip(info["output_name"], info["output"], strict=True))
        assert len(outputs) == len(node["outputs"]) or not node["type"].startswith("DiffFAE")  # core's nodes get more with time
        for slot, entry in enumerate(node["outputs"]):
            assert not entry["links"] or outputs[slot] == (entry["name"], entry["type"]), node["type"]
        if node["mode"] == MUTED:
            continue
        values = widget_values(node)
        for name, kind, options in widgets_of(info):
            choices = kind if isinstance(kind, list) else options.get("options")
            assert choices is None or values[name] in choices or (node["type"], name) in BROUGHT, (node["type"], name)
            assert kind not in ("INT", "FLOAT") or options["min"] <= values[name] <= options["max"], (node["type"], name)
        unwired = {name for name in info["input"]["required"] if "widget" not in entries[name] and entries[name]["link"] is None}
        assert unwired == set(), node["type"]
