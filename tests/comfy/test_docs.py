"""Pages and texts of the nodes: complete in both languages, equal to the schemas, and shown by ComfyUI."""

from __future__ import annotations

import json
import re

import build_locales
import pytest
from client import ROOT, Comfy
from PIL import Image

NODES = sorted(re.findall(r'node_id="(DiffFAE\w+)"', "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))))
PAGES = {node: {"en": ROOT / "web/docs" / f"{node}.md", "zh": ROOT / "web/docs" / node / "zh.md"} for node in NODES}
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def schemas(comfy: Comfy) -> dict:
    return {name: info for name, info in comfy.get("/object_info").items() if name.startswith("DiffFAE")}


@pytest.mark.parametrize("node", NODES)
def test_every_node_has_a_page_with_a_picture_in_both_languages(node):
    for language, path in PAGES[node].items():
        text = path.read_text(encoding="utf-8")
        assert bool(CHINESE.search(text)) == (language == "zh")
        ((alt, name),) = PICTURE.findall(text)
        assert alt
        # both pages: the app looks pictures up beside the English page
        picture = ROOT / "web/docs" / name
        assert picture.stat().st_size < 60_000
        with Image.open(picture) as image:
            assert image.width >= 480
            image.load()


def test_nothing_is_left_over_beside_the_pages():
    pages = {path for own in PAGES.values() for path in own.values()}
    shown = {name for page in pages for _, name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert shown <= {f"{node}.webp" for node in NODES}
    expected = pages | {ROOT / "web/docs" / name for name in shown}
    files = {path for path in (ROOT / "web/docs").rglob("*") if path.is_file()}
    assert files == expected
    assert len({path.read_bytes() for path in files}) == len(files)  # none is there twice


def test_locale_files_suit_the_page():
    for path in sorted((ROOT / "locales").rglob("*.json")):
        texts = build_locales.flat(json.loads(path.read_text(encoding="utf-8")))
        assert texts
        assert [key for key, text in texts.items() if not text.strip()] == []
        # vue-i18n reads these as placeholders, links and plurals
        assert [f"{path.parent.name} {key}: {text}" for key, text in texts.items() if re.search(r"[{}@|]", text)] == []


def test_chinese_texts_are_chinese():
    texts = build_locales.flat(json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8")))
    names = {"VAE", "Latent", "cfg"}  # ComfyUI's own Chinese texts keep these
    assert [f"{key}: {text}" for key, text in texts.items() if not CHINESE.search(text) and text not in names] == []


def test_texts_and_tables_are_those_of_the_schemas(schemas):
    """The failure names every key that is missing, stale or left over; scripts/build_locales.py writes what can be written."""
    files, problems = build_locales.build(schemas)
    for path, text in files.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(ROOT)}: differs from the schemas; run scripts/build_locales.py")
    assert not problems, "\n".join(problems)
    assert sorted(schemas) == NODES


def test_a_missing_and_a_stale_translation_are_named(schemas):
    loader = json.loads(json.dumps(schemas["DiffFAELoader"]))
    loader["description"] += " New."
    loader["input"]["required"]["fresh"] = ["INT", {"default": 1, "min": 0, "max": 2, "tooltip": "A new one."}]
    _, problems = build_locales.build(schemas | {"DiffFAELoader": loader})
    assert any("DiffFAELoader.description may be stale" in problem for problem in problems)
    assert any("DiffFAELoader.inputs.fresh.tooltip is missing; English: A new one." in problem for problem in problems)
    gone = {name: schema for name, schema in schemas.items() if name != "DiffFAESampler"}
    assert any("DiffFAESampler.display_name is left over" in problem for problem in build_locales.build(gone)[1])


def test_comfyui_serves_the_texts(comfy):
    served = comfy.get("/i18n")
    for language in ("en", "zh"):
        own = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {name: served[language]["nodeDefs"][name] for name in own} == own


@pytest.mark.parametrize(
    ("language", "vue", "node", "title", "word"),
    [
        ("en", False, "DiffFAESampler", "DiffFAE Sampler", "Paints the edited square"),
        ("zh", True, "DiffFAECropFace", "裁剪人脸（DiffFAE）", "找到人脸"),
    ],
)
def test_the_info_tab_shows_the_page(comfy, open_app, tmp_path, language, vue, node, title, word):
    settings = {"Comfy.Locale": language, "Comfy.RightSidePanel.IsOpen": False}
    comfy.post("/api/settings", settings)
    try:
        app = open_app(vue=vue, node_types=[node])
        page = app.page
        place = page.evaluate(
            """node => {
                const made = LiteGraph.createNode(node);
                made.pos = [150, 200];
                app.graph.add(made);
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = [150, 50];
                app.canvas.setDirty(true, true);
                const box = app.canvas.canvas.getBoundingClientRect();
                return [box.left + 150 + 150 + 90, box.top + 200 + 50 - 15, made.title, made.inputs.map(input => input.localized_name)];
            }""",
            node,
        )
        assert place[2] == title
        assert all(bool(CHINESE.search(name)) == (language == "zh") for name in place[3] if name != "vae" and name not in ("VAE", "Latent"))
        page.wait_for_timeout(1000)
        page.mouse.click(place[0], place[1])
        page.locator('[aria-label="Node Info"], [aria-label="节点信息"]').first.click()
        shown = page.locator(".node-help-content")
        shown.get_by_text(word).first.wait_for()
        page.wait_for_function("() => document.querySelector('.node-help-content img')?.naturalWidth > 400")
        app.screenshot(tmp_path / "info.png", fit=False)
        assert app.foreign_requests == []
        # the app asks for the page of its own language first; the English one lies where every other language falls back to
        assert [failed for failed in app.failed_requests if not failed.endswith(f"/docs/{node}/en.md")] == []
    finally:
        comfy.post("/api/settings", {"Comfy.Locale": "en", "Comfy.RightSidePanel.IsOpen": False})
