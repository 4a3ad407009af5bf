"""A ComfyUI graph written down once, as the page's format and as an API prompt.

    graph = Graph(nodes)                                        # nodes: what the server's /object_info says, see build_workflows.py
    portrait = graph.node("DiffFAEExamplePortrait", picture="astronaut")
    save = graph.node("SaveImage", images=portrait["image"], filename_prefix="a")
    graph.group("1  Picture", BLUE, [portrait, save])           # one column; groups stand side by side, `graph.row()` starts below
    graph.ui(), graph.api()

Inputs that are not given get their defaults. Positions are pixels of the canvas, x right, y down.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

GREY, BLUE, GREEN, AMBER, RED, VIOLET = "#555f66", "#3f6f8f", "#4f7f55", "#96732f", "#8f4b44", "#6b5591"
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTES = ("MarkdownNote", "Note")
# room for what a node shows once it has run; samplers show their progress
PICTURE_HEIGHT = dict.fromkeys(("PreviewImage", "MaskPreview", "PreviewAny"), 240)
PICTURE_HEIGHT |= dict.fromkeys(("SaveImage", "SaveAnimatedWEBP", "DiffFAESaveImage"), 260)
PICTURE_HEIGHT |= dict.fromkeys(("DiffFAESampler", "KSampler", "SamplerCustomAdvanced"), 260)
PICTURE_HEIGHT |= {"DiffFAEAdjustAttributes": 360}
TITLE, SLOT, WIDGET, LINES = 36, 24, 34, 90  # heights that hold in canvas mode and in Nodes 2.0
COLUMN, GAP, PAD, HEAD = 320, 70, 24, 60
MUTED = 2
NAMESPACE = uuid.UUID("6f1c8a5e-1d0e-4c0e-9d6b-0d1ff1fae000")
INPUT_NODE, OUTPUT_NODE = -10, -20  # ids of a subgraph's own inputs and outputs in the page's format


@dataclass(frozen=True)
class Out:
    """An output socket. `node` None: an input of the subgraph."""

    node: Node | None
    slot: int
    type: str


@dataclass(eq=False)
class Node:
    id: int
    type: str
    info: Mapping[str, Any]
    values: dict[str, Any]
    links: dict[str, Out]
    title: str | None = None
    size: tuple[int, int] = (0, 0)
    place: tuple[int, int] = (0, 0)
    muted: bool = False

    def __getitem__(self, name: str) -> Out:
        names = self.info["output_name"]
        if names.count(name) != 1:
            raise KeyError(f"{self.type} has no output {name!r}, only {names}")
        slot = names.index(name)
        return Out(self, slot, self.info["output"][slot])

    @property
    def sockets(self) -> list[str]:
        return [name for name, spec in _inputs(self.info) if not is_widget(spec)]

    @property
    def widgets(self) -> list[str]:
        return [name for name, spec in _inputs(self.info) if is_widget(spec)]


def _inputs(info: Mapping[str, Any]) -> Iterable[tuple[str, list]]:
    for kind in ("required", "optional"):
        specs = info["input"].get(kind, {})
        yield from ((name, specs[name]) for name in info["input_order"].get(kind, []))


def is_widget(spec: list) -> bool:
    options = spec[1] if len(spec) > 1 else {}
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options.get("forceInput")


def _default(spec: list) -> Any:
    options = spec[1] if len(spec) > 1 else {}
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        return choices[0]
    raise KeyError("has no default")


class Graph:
    def __init__(self, nodes: Mapping[str, Any], name: str = "") -> None:
        self.known, self.name = nodes, name
        self.nodes: list[Node] = []
        self.groups: list[dict[str, Any]] = []
        self.inputs: list[tuple[str, str, Any]] = []  # of a subgraph: name, type, value of a widget
        self.outputs: list[tuple[str, Out]] = []
        self._x, self._top, self._bottom = 0, 0, 0

    def node(
        self, type_: str, *, title: str | None = None, size: tuple[int, int] | None = None, muted: bool = False, **inputs: Any
    ) -> Node:
        info = self.known[type_]
        specs = dict(_inputs(info))
        if unknown := inputs.keys() - specs.keys():
            raise KeyError(f"{type_} has no inputs {sorted(unknown)}, only {sorted(specs)}")
        links = {name: value for name, value in inputs.items() if isinstance(value, Out)}
        values = {
            name: inputs.get(name) if name in inputs else _default(spec)
            for name, spec in specs.items()
            if is_widget(spec) and name not in links
        }
        if missing := [name for name in info["input_order"].get("required", []) if name not in values | links and not muted]:
            raise KeyError(f"{type_} needs {missing}")
        node = Node(len(self.nodes) + 1, type_, info, values, links, title, muted=muted)
        node.size = size or self._size(node)
        self.nodes.append(node)
        return node

    def note(self, text: str, title: str = "Read me") -> Node:
        """Markdown in a box that its text fills."""
        info = {"input": {}, "input_order": {}, "output": [], "output_name": []}
        lines = sum(-(-len(line) // 72) if line else 0.8 for line in text.strip().splitlines())
        node = Node(len(self.nodes) + 1, "MarkdownNote", info, {"text": text.strip()}, {}, title, (440, 80 + round(17 * lines)))
        self.nodes.append(node)
        return node

    @staticmethod
    def _size(node: Node) -> tuple[int, int]:
        lines = sum(bool(spec[1].get("multiline")) for name, spec in _inputs(node.info) if name in node.widgets and len(spec) > 1)
        rows = max(len(node.sockets), len(node.info["output"])) * SLOT + len(node.widgets) * WIDGET + lines * (LINES - WIDGET)
        return COLUMN, TITLE + rows + PICTURE_HEIGHT.get(node.type, 0)

    def group(self, title: str, colour: str, *columns: list[Node]) -> None:
        """Nodes in columns inside a coloured box, right of the group before."""
        left, bottom = self._x, self._top
        x = left + PAD
        for column in columns:
            y = self._top + HEAD + 30
            for node in column:
                node.place = (x, y)
                y += node.size[1] + 30 + GAP // 2
            bottom = max(bottom, y)
            x += max(node.size[0] for node in column) + GAP
        self._x = x - GAP + PAD + GAP
        self._bottom = max(self._bottom, bottom)
        box = [left, self._top, x - GAP + PAD - left, bottom - self._top]
        self.groups.append({"title": title, "bounding": box, "color": colour, "font_size": 32, "flags": {}})

    def row(self, under: int = 0) -> None:
        """What follows stands below what is there, from the left edge of the group of this number on."""
        self._x, self._top = self.groups[under]["bounding"][0], self._bottom + GAP

    def input(self, name: str, type_: str, value: Any = None) -> Out:
        """Of a subgraph. `value`: for a widget, what it shows at first."""
        self.inputs.append((name, type_, value))
        return Out(None, len(self.inputs) - 1, type_)

    def output(self, name: str, out: Out) -> None:
        self.outputs.append((name, out))

    def api(self) -> dict[str, Any]:
        """The prompt that the page sends."""
        prompt = {}
        for node in self.nodes:
            if node.type in NOTES or node.muted:
                continue
            wired = {name: [str(out.node.id), out.slot] for name, out in node.links.items() if out.node is not None and not out.node.muted}
            prompt[str(node.id)] = {
                "inputs": {name: (node.values | wired)[name] for name, _ in _inputs(node.info) if name in node.values or name in wired},
                "class_type": node.type,
                "_meta": {"title": node.title or node.info["display_name"] or node.type},
            }
        return prompt

    def ui(self) -> dict[str, Any]:
        """The page's format, version 0.4."""
        links = self._links()
        return {
            "id": str(uuid.uuid5(NAMESPACE, self.name)),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": self._ui_nodes(links),
            "links": [list(link) for link in links],
            "groups": [{"id": number, **group} for number, group in enumerate(self.groups, 1)],
            "config": {},
            "extra": {"ds": self._view()},
            "version": 0.4,
        }

    def subgraph(self, description: str) -> dict[str, Any]:
        """A blueprint: one node that stands for this graph."""
        identity = str(uuid.uuid5(NAMESPACE, "subgraph " + self.name))
        links = self._links()
        left = min(node.place[0] for node in self.nodes) - 260
        right = max(node.place[0] + node.size[0] for node in self.nodes) + 120
        ends = [
            {"id": INPUT_NODE, "bounding": [left, 0, 160, 40 + 20 * len(self.inputs)]},
            {"id": OUTPUT_NODE, "bounding": [right, 0, 160, 40 + 20 * len(self.outputs)]},
        ]
        ports = {
            side: [
                {
                    "id": str(uuid.uuid5(NAMESPACE, f"{self.name} {side} {name}")),
                    "name": name,
                    "type": type_,
                    "linkIds": [link[0] for link in links if link[at : at + 2] == (end, slot)],
                    "pos": [x, 20 + 20 * slot],
                }
                for slot, (name, type_) in enumerate(named)
            ]
            for side, end, at, x, named in (
                ("inputs", INPUT_NODE, 1, left + 140, [(name, type_) for name, type_, _ in self.inputs]),
                ("outputs", OUTPUT_NODE, 3, right + 20, [(name, out.type) for name, out in self.outputs]),
            )
        }
        promoted = [
            [str(node.id), name]
            for slot, (_, _, value) in enumerate(self.inputs)
            for node in self.nodes
            for name, out in node.links.items()
            if value is not None and out.node is None and out.slot == slot
        ]
        inner = {
            "id": identity,
            "version": 1,
            "state": {"lastGroupId": len(self.groups), "lastNodeId": len(self.nodes), "lastLinkId": len(links), "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.name,
            "description": description,
            "category": "DiffFAE",
            "inputNode": ends[0],
            "outputNode": ends[1],
            **ports,
            "widgets": [],
            "nodes": self._ui_nodes(links),
            "groups": [{"id": number, **group} for number, group in enumerate(self.groups, 1)],
            "links": [
                dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True)) for link in links
            ],
            "extra": {},
        }
        outer = {
            "id": 1,
            "type": identity,
            "pos": [0, 0],
            "size": [360, 60 + 26 * max(len(self.inputs), len(self.outputs))],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [
                {"name": name, "type": type_, "link": None} | ({} if value is None else {"widget": {"name": name}})
                for name, type_, value in self.inputs
            ],
            "outputs": [{"name": name, "type": out.type, "links": []} for name, out in self.outputs],
            "title": self.name,
            "properties": {"proxyWidgets": promoted},
            "widgets_values": [],
        }
        return {
            "revision": 0,
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [outer],
            "links": [],
            "version": 0.4,
            "definitions": {"subgraphs": [inner]},
            "extra": {},
        }

    def _links(self) -> list[tuple[int, int, int, int, int, str]]:
        """(id, from node, its output, to node, its input, type)."""
        wires = [
            (INPUT_NODE if out.node is None else out.node.id, out.slot, node.id, (node.sockets + node.widgets).index(name), out.type)
            for node in self.nodes
            for name, out in sorted(node.links.items(), key=lambda item, node=node: (node.sockets + node.widgets).index(item[0]))
        ]
        wires += [(out.node.id, out.slot, OUTPUT_NODE, slot, out.type) for slot, (_, out) in enumerate(self.outputs) if out.node]
        return [(number, *wire) for number, wire in enumerate(wires, 1)]

    def _ui_nodes(self, links: list[tuple[int, int, int, int, int, str]]) -> list[dict[str, Any]]:
        into = {(link[3], link[4]): link[0] for link in links}
        out_of: dict[tuple[int, int], list[int]] = {}
        for link in links:
            out_of.setdefault((link[1], link[2]), []).append(link[0])
        made = []
        for order, node in enumerate(self.nodes):
            specs = dict(_inputs(node.info))
            inputs = []
            for slot, name in enumerate(node.sockets + node.widgets):
                kind = specs[name][0]
                entry = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": into.get((node.id, slot))}
                inputs.append(entry | ({"widget": {"name": name}} if name in node.widgets else {}))
            ends = zip(node.info["output_name"], node.info["output"], strict=True)
            outputs = [{"name": name, "type": kind, "links": out_of.get((node.id, slot), [])} for slot, (name, kind) in enumerate(ends)]
            one = {
                **{"id": node.id, "type": node.type, "pos": list(node.place), "size": list(node.size), "flags": {}},
                **{"order": order, "mode": MUTED if node.muted else 0, "inputs": inputs, "outputs": outputs},
                **{"properties": self._properties(node), "widgets_values": self._widget_values(node, specs)},
            }
            if node.title:
                one["title"] = node.title
            if node.type in NOTES:
                one |= {"color": "#432", "bgcolor": "#000"}
            made.append(one)
        return made

    @staticmethod
    def _properties(node: Node) -> dict[str, str]:
        if node.type in NOTES:
            return {}
        return {"Node name for S&R": node.type, "cnr_id": "difffae" if node.type.startswith("DiffFAE") else "comfy-core"}

    def _widget_values(self, node: Node, specs: Mapping[str, list]) -> list[Any]:
        if node.type in NOTES:
            return [node.values["text"]]
        values = []
        for name in node.widgets:
            linked = node.links.get(name)
            promoted = self.inputs[linked.slot][2] if linked is not None and linked.node is None else None
            values.append(node.values[name] if name in node.values else promoted if promoted is not None else _default(specs[name]))
            if len(specs[name]) > 1 and specs[name][1].get("control_after_generate"):
                values.append("fixed")
        return values

    def _view(self) -> dict[str, Any]:
        """All of it in a window of 1600 x 900."""
        right = max((group["bounding"][0] + group["bounding"][2] for group in self.groups), default=1600)
        bottom = max((group["bounding"][1] + group["bounding"][3] for group in self.groups), default=900)
        scale = round(min(1480 / right, 780 / bottom, 1.0), 3)
        return {"scale": scale, "offset": [round(60 / scale), round(70 / scale)]}


@dataclass
class Picture:
    """What a workflow's thumbnail shows, left to right: titles of nodes whose pictures the run gave, or names of example portraits.
    A list of them stands one above the other. Of animations some frames stand in a row."""

    parts: list[str | list[str]]


@dataclass
class Workflow:
    name: str
    graph: Graph
    picture: Picture = field(default_factory=lambda: Picture([]))
