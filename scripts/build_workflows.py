"""Write the bundled workflows, their API prompts and the subgraph blueprints from their one definition.

python scripts/build_workflows.py                     workflows/*.json, subgraphs/*.json, tests/comfy/workflows/*.json
python scripts/build_workflows.py --check             only compare; exit status 1 if a file is not what would be written
python scripts/build_workflows.py --nodes URL         first take the nodes' inputs and outputs from a running ComfyUI with this pack
python scripts/build_workflows.py --pictures URL      also run every workflow there and make its thumbnail, workflows/*.jpg
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import workflow_blueprints
import workflow_pictures
import workflow_set

ROOT = Path(__file__).resolve().parents[1]
NODES = ROOT / "scripts" / "workflow_nodes.json"
KEPT = ("default", "options", "multiline", "control_after_generate", "forceInput")  # what of an input's options a graph depends on


class Recorder(dict):
    """Remembers which nodes were looked up."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        return super().__getitem__(key)


def trimmed(info: Mapping[str, Any]) -> dict[str, Any]:
    """One node of /object_info without what differs between installations."""

    def spec(one: list) -> list:
        kind, options = one[0], one[1] if len(one) > 1 else {}
        kept = {key: options[key] for key in KEPT if options.get(key) is not None}
        # lists of samplers, schedulers or files grow; a graph needs the first entry only, as the default
        choices = kind if isinstance(kind, list) else kept.pop("options", None)
        if choices is not None and not isinstance(kind, str):
            kind = "COMBO"
        if choices:
            kept.setdefault("default", choices[0])
        if kind == "COMBO":
            kept.setdefault("default", "")
        return [kind, kept] if kept else [kind]

    inputs = {kind: {name: spec(one) for name, one in info["input"].get(kind, {}).items()} for kind in ("required", "optional")}
    order = {kind: list(info["input_order"].get(kind, [])) for kind in ("required", "optional")}
    return {
        "display_name": info["display_name"],
        "input": inputs,
        "input_order": order,
        "output": ["COMBO" if isinstance(kind, list) else kind for kind in info["output"]],
        "output_name": info["output_name"],
    }


def used_nodes(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Of all nodes of a server those that the workflows and blueprints use, trimmed."""
    recorder = Recorder({name: trimmed(info) for name, info in nodes.items()})
    workflow_set.build(recorder)
    workflow_blueprints.build(recorder)
    return {name: dict.__getitem__(recorder, name) for name in sorted(recorder.used)}


def files(nodes: Mapping[str, Any]) -> dict[Path, str]:
    """Everything that is written, but for the thumbnails."""
    made: dict[Path, str] = {}
    for workflow in workflow_set.build(nodes):
        made[ROOT / "workflows" / f"{workflow.name}.json"] = text(workflow.graph.ui())
        made[ROOT / "tests" / "comfy" / "workflows" / f"{workflow.name}.json"] = text(workflow.graph.api())
    for name, blueprint in workflow_blueprints.build(nodes).items():
        made[ROOT / "subgraphs" / f"{name}.json"] = text(blueprint)
    return made


def text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def stale(made: Mapping[Path, str]) -> list[str]:
    """Files that differ from what would be written, are missing, or are left over."""
    wrong = {path for path, content in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != content}
    there = {path for folder in {path.parent for path in made} for path in folder.glob("*.json")}
    thumbnails = {path.with_suffix(".jpg") for path in made if path.parent == ROOT / "workflows"}
    missing = {path for path in thumbnails if not path.is_file()}
    return sorted(str(path.relative_to(ROOT)) for path in wrong | (there - made.keys()) | missing)


def save_pictures(server: str, nodes: Mapping[str, Any]) -> None:
    for workflow in workflow_set.build(nodes):
        path = ROOT / "workflows" / f"{workflow.name}.jpg"
        write(path, workflow_pictures.jpeg(workflow_pictures.thumbnail(server, workflow)))
        print(path.relative_to(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--nodes", metavar="URL")
    parser.add_argument("--pictures", metavar="URL")
    arguments = parser.parse_args()
    if arguments.nodes:
        live = workflow_pictures.call(f"{arguments.nodes.rstrip('/')}/object_info")
        write(NODES, text(used_nodes(live)).encode())
    nodes = json.loads(NODES.read_text(encoding="utf-8"))
    made = files(nodes)
    if arguments.check:
        if wrong := stale(made):
            sys.exit(f"not what the definitions give: {', '.join(wrong)}; run python scripts/build_workflows.py")
        return
    for path, content in made.items():
        write(path, content.encode())
    if arguments.pictures:
        save_pictures(arguments.pictures.rstrip("/"), nodes)


if __name__ == "__main__":
    main()
