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
# where the choice is made whether the model paints
SWITCHES = {"DiffFAEEditFace": "diffusion", "DiffFAEAnimatePortrait": "denoise", "DiffFAEEditVideo": "denoise", "ComfySwitchNode": "switch"}
SAMPLED = ("10_native_ksampler", "15_paper_pipeline")  # workflows about the sampler itself
INPUT_NODE, OUTPUT_NODE = -10, -20  # what ids of links call a blueprint's own inputs and outputs


def graphs_of(path: Path) -> list[tuple[list[dict[str, Any]], dict[int, list[Any]]]]:
    """Nodes but notes, and links by id as [from node, its output, to node, its input, type], of every graph in a file: a workflow's own,
    and those of the subgraphs in it. A blueprint is its subgraph."""
    file, keys = read(path), ("origin_id", "origin_slot", "target_id", "target_slot", "type")
    found = [] if path.parent == BLUEPRINTS else [(file["nodes"], {link[0]: link[1:] for link in file["links"]})]
    for graph in subgraphs_of(path).values():
        found.append((graph["nodes"], {link["id"]: [link[key] for key in keys] for link in graph["links"]}))
    return [([node for node in nodes if node["type"] not in NOTES], links) for nodes, links in found]


def subgraphs_of(path: Path) -> dict[str, dict[str, Any]]:
    """The definitions in a file, by the type that their nodes have."""
    return {graph["id"]: graph for graph in (read(path).get("definitions") or {}).get("subgraphs", [])}


def nodes_of(path: Path) -> list[dict[str, Any]]:
    """All that do something, also inside subgraphs."""
    kinds = subgraphs_of(path)
    return [node for nodes, _ in graphs_of(path) for node in nodes if node["type"] not in kinds]


def wired(path: Path) -> dict[str, tuple[dict[str, Any], dict[str, list[Any]]]]:
    """The active nodes of a workflow by the id that the queue knows them by, "3" or "7:3" inside subgraph node 7, and what their inputs are
    wired to. The sockets of subgraph nodes are followed to what is inside or before them."""
    kinds, (nodes, links) = subgraphs_of(path), graphs_of(path)[0]
    active = {node["id"]: node for node in nodes if node["mode"] != MUTED}
    inner = {kind: {link["id"]: link for link in graph["links"]} for kind, graph in kinds.items()}

    def source(number: int | None) -> list[Any] | None:
        origin, slot = links[number][:2] if number is not None else (None, 0)
        if origin not in active:
            return None
        if (kind := active[origin]["type"]) not in kinds:
            return [str(origin), slot]
        (link,) = kinds[kind]["outputs"][slot]["linkIds"]
        return [f"{origin}:{inner[kind][link]['origin_id']}", inner[kind][link]["origin_slot"]]

    def inside(node: dict[str, Any], number: int) -> list[Any] | None:
        link = inner[node["type"]][number]
        if link["origin_id"] == INPUT_NODE:
            return source(node["inputs"][link["origin_slot"]]["link"])
        return [f"{node['id']}:{link['origin_id']}", link["origin_slot"]]

    found = {}
    for key, node in active.items():
        if node["type"] not in kinds:
            found[str(key)] = node, {entry["name"]: source(entry["link"]) for entry in node["inputs"]}
            continue
        for part in kinds[node["type"]]["nodes"]:
            entries = {entry["name"]: inside(node, entry["link"]) for entry in part["inputs"] if entry["link"] is not None}
            found[f"{key}:{part['id']}"] = part, entries
    return {key: (node, {name: link for name, link in inputs.items() if link is not None}) for key, (node, inputs) in found.items()}


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


@pytest.mark.parametrize("name", NAMES)
def test_diffusion_is_one_switch_in_sight_and_off(name: str):
    """The photograph alone: people found what the model paints over it no better (MODEL_CARD.md)."""
    prompt, path = read(TWINS / f"{name}.json"), WORKFLOWS / f"{name}.json"
    states = [node["inputs"][SWITCHES[node["class_type"]]] for node in prompt.values() if node["class_type"] in SWITCHES]
    samplers = [key for key, node in prompt.items() if node["class_type"] == "DiffFAESampler"]
    if name in SAMPLED:
        assert states == []
        return
    assert not any(states)
    assert bool(states) == (bool(samplers) or path.stem[:2] in ("01", "08", "14"))
    for key in samplers:
        assert {node["class_type"] for node in prompt.values() if [key, 0] in node["inputs"].values()} == {"ComfySwitchNode"}
    kinds, (nodes, _) = subgraphs_of(path), graphs_of(path)[0]
    shown = [node for node in nodes if node["type"] in SWITCHES]
    shown += [node for node in nodes if node["type"] in kinds and "diffusion" in {entry["name"] for entry in node["inputs"]}]
    assert len(shown) == len(states)


def test_the_first_workflow_is_readable():
    """In full size, at once, and whole on a screen of 1400x900: the photograph, the node, the result."""
    file = read(WORKFLOWS / f"{NAMES[0]}.json")
    scale, (left, top) = file["extra"]["ds"]["scale"], file["extra"]["ds"]["offset"]
    assert scale >= 0.9
    for node in file["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        assert 60 <= (x + left) * scale < (x + left + width) * scale <= 1400, node["type"]
        assert 80 <= (y + top) * scale < (y + top + height) * scale <= 900, node["type"]
    first, last = (next(node for node in file["nodes"] if node["type"] == kind) for kind in ("LoadImage", "DiffFAESaveImage"))
    assert first["pos"][0] < last["pos"][0]  # before, and after


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
    twin, active = read(TWINS / f"{name}.json"), wired(WORKFLOWS / f"{name}.json")
    assert twin.keys() == active.keys()
    for key, (node, inputs) in active.items():
        assert twin[key]["class_type"] == node["type"]
        assert twin[key]["inputs"] == widget_values(node) | inputs, key
        assert node.get("title") in (None, twin[key]["_meta"]["title"])


def test_subgraphs_in_workflows_are_the_blueprints():
    """And are used: a workflow that does the usual steps with a portrait shows them as one node."""
    (known, *others) = [subgraphs_of(path) for path in sorted(BLUEPRINTS.glob("*.json"))]
    for other in others:
        assert not known.keys() & other.keys()
        known = known | other
    used = {path.stem: subgraphs_of(path) for path in sorted(WORKFLOWS.glob("*.json"))}
    assert [(name, key) for name, graphs in used.items() for key, graph in graphs.items() if graph != known[key]] == []
    assert len([name for name, graphs in used.items() if graphs]) >= 10
    # ids that meet nobody else's, or the page gives new ones to those inside
    inside = [node["id"] for graph in known.values() for node in graph["nodes"]]
    assert len(set(inside)) == len(inside)
    assert max(node["id"] for name in NAMES for node in read(WORKFLOWS / f"{name}.json")["nodes"]) < min(inside)
    for name, graphs in used.items():
        for node in read(WORKFLOWS / f"{name}.json")["nodes"]:
            if node["type"] in graphs:
                for side in ("inputs", "outputs"):
                    entries = [(entry["name"], entry["type"]) for entry in node[side]]
                    assert entries == [(entry["name"], entry["type"]) for entry in graphs[node["type"]][side]], (name, node["id"])


def _fits(kind: str, entry: dict[str, Any]) -> bool:
    return entry["type"] in (kind, *ANY) or kind in ANY


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_join_what_they_say(path: Path):
    for all_nodes, links in graphs_of(path):
        nodes = {node["id"]: node for node in all_nodes}
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
