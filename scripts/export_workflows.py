"""Write the API prompts of the bundled workflows, tests/comfy/workflows/*.json, as ComfyUI's own page exports them.

.comfyui/venv/bin/python scripts/export_workflows.py           ComfyUI comes from scripts/setup_comfyui.py, and Chromium must be installed
    --check     writes nothing; exit status 1 if a file is not what would be written

workflows/*.json and subgraphs/*.json are made in the page (Workflow > Export) and have no other source. The tests run the prompts, which
are easier to read and to change. The text of all these files is laid out for diffs: what fits a line stands on one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "comfy"))

from app import App, chromium  # noqa: E402
from server import running  # noqa: E402

WORKFLOWS, BLUEPRINTS, TWINS = ROOT / "workflows", ROOT / "subgraphs", ROOT / "tests" / "comfy" / "workflows"
WIDTH = 140


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def in_no_language(value: Any) -> Any:
    """Without the names of inputs and outputs in the language of the page that saved the file."""
    if isinstance(value, dict):
        return {key: in_no_language(part) for key, part in value.items() if key != "localized_name"}
    return [in_no_language(part) for part in value] if isinstance(value, list) else value


def laid_out(value: Any, indent: str = "") -> str:
    """JSON text in which lists and objects that fit a line stand on one, and the others have one line or more for each part."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + line) <= WIDTH or not isinstance(value, (dict, list)):
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {laid_out(part, deeper)}" for key, part in value.items()]
    else:
        parts = [laid_out(part, deeper) for part in value]
    return line[0] + "\n" + ",\n".join(deeper + part for part in parts) + f"\n{indent}{line[-1]}"


def exported() -> dict[Path, Any]:
    """The API prompt of every workflow, under the file that it belongs in."""
    with running() as comfy, chromium() as browser:
        app = App(comfy, browser, vue=False, node_types=["DiffFAELoader"], size=(1400, 900))
        prompts = {}
        for path in sorted(WORKFLOWS.glob("*.json")):
            app.load(path)
            prompts[TWINS / path.name] = app.to_api()
        return prompts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is not as it should be")
    check = parser.parse_args().check
    values = {path: in_no_language(read(path)) for folder in (WORKFLOWS, BLUEPRINTS) for path in folder.glob("*.json")} | exported()
    texts = {path: laid_out(value) + "\n" for path, value in values.items()}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in TWINS.glob("*.json") if path not in texts]
    for path in sorted(stale):
        print(f"{path.relative_to(ROOT)}: {'not as it should be' if check else 'written' if path in texts else 'removed'}")
        if not check and path in texts:
            path.write_text(texts[path], encoding="utf-8")
        elif not check:
            path.unlink()
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
