"""ComfyUI's page in Chromium.

    app = open_app(node_types=["DiffFAELoader"])     # vue=True: Nodes 2.0 (DOM nodes), otherwise nodes drawn on a canvas
    app.load("example_workflows/edit.json")          # a path or the workflow itself (the page's format, not the API's)
    app.to_api()                                     # the same as an API prompt, as the page would queue it
    result = app.queue()                             # queues as the button does and waits; client.Result without progress and previews
    app.screenshot(tmp_path / "edit.png")            # the nodes are brought into view first (fit=False: leave the view alone)
    assert not app.foreign_requests and not app.errors

page              the playwright page; it opens with an empty graph
errors            messages of console.error and uncaught exceptions
failed_requests   ["404 GET url" or "net::ERR... GET url"] of this server
foreign_requests  [url] asked of any other host, also if the server's content security policy stopped it: must stay empty
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from client import Comfy, Result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Request, Response

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# before its first workflow is open, the page would put that one in the place of a graph that a test loads
READY = """types => window.app?.extensionManager && window.app.canvas && window.LiteGraph
    && !window.app.extensionManager.spinner && window.app.extensionManager.workflow?.activeWorkflow
    && types.every(type => type in window.LiteGraph.registered_node_types)"""
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}
EMPTY_PATH = "workflows/empty.json"
# what the page of ComfyUI 0.30 complains of without any pack
OWN_ERRORS = ("ComfyApp graph accessed before initialization",)
OWN_FAILURES = ("/user.css",)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
POLICY = re.compile(r"Connecting to '([^']+)' violates the following Content Security Policy")


def find_chromium() -> str | None:
    """Its path, or None if it is not installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window, for as long as the block runs."""
    from playwright.sync_api import sync_playwright  # here, so that this module can be imported where it is missing

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=FLAGS)
        yield browser
        browser.close()


def _fnv1a(text: str) -> str:
    """The page's key of a path."""
    value = 2166136261
    for character in text:
        value = (value ^ ord(character)) * 16777619 & 0xFFFFFFFF
    return f"{value:08x}"


def _opened_first() -> dict[str, str]:
    """What the page's storage holds of an empty graph that was open last: the first key is what ComfyUI 0.24 reads, the others are the
    drafts of later pages. Without them the page opens ComfyUI's default workflow and looks its models up on another host."""
    graph, key = json.dumps(EMPTY), _fnv1a(EMPTY_PATH)
    entry = {"path": EMPTY_PATH, "name": "empty", "isTemporary": True, "updatedAt": 1}
    return {
        "workflow": graph,
        "Comfy.Workflow.DraftIndex.v2:personal": json.dumps({"v": 2, "updatedAt": 1, "order": [key], "entries": {key: entry}}),
        f"Comfy.Workflow.Draft.v2:personal:{key}": json.dumps({"data": graph, "updatedAt": 1}),
    }


class App:
    def __init__(self, server: Comfy, browser: Browser, vue: bool, node_types: list[str], size: tuple[int, int]):
        self.server = server
        self.errors: list[str] = []
        self.failed_requests: list[str] = []
        self.foreign_requests: list[str] = []
        server.post("/api/settings", {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": vue})
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.page.add_init_script(f"Object.assign(localStorage, {json.dumps(_opened_first())})")
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_request_failed)
        self.page.on("response", self._on_response)
        self.page.goto(server.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY, arg=list(node_types), timeout=120_000)

    def _is_own(self, url: str) -> bool:
        return not url.startswith(("http:", "https:", "ws:", "wss:")) or urlsplit(url).netloc == urlsplit(self.server.url).netloc

    def _on_request(self, request: Request) -> None:
        if not self._is_own(request.url):
            self.foreign_requests.append(request.url)

    def _on_request_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page changed its mind, or had its answer
            self._on_failure(request.failure or "failed", request)

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._on_failure(str(response.status), response.request)

    def _on_failure(self, why: str, request: Request) -> None:
        if self._is_own(request.url) and urlsplit(request.url).path not in OWN_FAILURES:
            self.failed_requests.append(f"{why} {request.method} {request.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type != "error" or message.text in OWN_ERRORS:
            return
        if stopped := POLICY.search(message.text):
            self.foreign_requests.append(stopped[1])
        elif not message.text.startswith("Failed to load resource"):  # those are in failed_requests
            self.errors.append(message.text)

    def load(self, workflow: str | Path | dict[str, Any]) -> None:
        if not isinstance(workflow, dict):
            workflow = json.loads(Path(workflow).read_text(encoding="utf-8"))
        self.page.evaluate("async workflow => { await window.app.loadGraphData(workflow) }", workflow)

    def to_api(self) -> dict[str, Any]:
        prompt = self.page.evaluate("async () => (await window.app.graphToPrompt()).output")
        for node in prompt.values():
            node["_meta"].pop("cnr_id", None)  # whose node it is; only newer pages say so
        return prompt

    def queue(self, *, expect_error: bool = False, timeout: float = 300) -> Result:
        with self.page.expect_response(lambda response: urlsplit(response.url).path.endswith("/prompt")) as answer:
            self.page.evaluate("async () => { await window.app.queuePrompt(0) }")
        body = answer.value.json()
        if "prompt_id" not in body:
            raise AssertionError(f"the server rejected the page's prompt: {json.dumps(body)[:2000]}")
        return self.server.wait(body["prompt_id"], expect_error=expect_error, timeout=timeout)

    def screenshot(self, path: str | Path, fit: bool = True) -> None:
        if fit:
            self.page.evaluate("async () => { await window.app.extensionManager.command.execute('Comfy.Canvas.FitView') }")
            self.page.wait_for_timeout(700)  # the view glides there
        self.page.screenshot(path=str(path))
