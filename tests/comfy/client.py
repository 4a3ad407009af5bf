"""Client of a running ComfyUI: queues prompts, listens to the web socket, and hands back what happened.

Fixtures (tests/comfy/conftest.py)
    comfy         Comfy, session: ComfyUI 0.30 with this pack as custom_nodes/difffae.
    comfy_floor   Comfy, session: ComfyUI 0.24, the oldest one supported.
    comfy_each    Comfy, session: both, one after the other; for the few tests that must hold on both.
    pack          Pack, session: the nodes inside the tests' own process, without a server; see inprocess.py.
    browser       playwright Browser (Chromium), session.
    open_app      open_app(vue=False, node_types=(), size=(1400, 900), server=None) -> App: ComfyUI's page in the browser, see app.py.
Tests get the markers `comfy` and `browser` from the fixtures that they use.

Comfy
    url, base, log                                       address, base directory (input/, output/, models/ ...), path of the log
    get(path) -> JSON; post(path, obj) -> JSON or None   CallFailed(status, body) unless the server says 2xx
    object_info(node) -> dict; node_ids() -> set         what the server knows; KeyError names a node that it does not know
    upload(image, name=None) -> name for LoadImage       image: a path or a PIL image (stored as PNG); equal pictures get equal names
    run(prompt, *, expect_error=False, on_event=None, timeout=300, extra_data=None, partial_execution_targets=None) -> Result
                                                         RunFailed with the node's message, unless expect_error
    queue(prompt, client_id=None, extra_data=None, partial_execution_targets=None) -> prompt id     PromptRejected if it is not valid
    wait(prompt_id, *, expect_error=False, timeout=300) -> Result    of a prompt that somebody else queued; from the history alone
    interrupt(); free(); history(prompt_id) -> dict      free() also empties the cache of results
    image(entry) -> PIL image                            entry: {"filename", "subfolder", "type"} as in Result.outputs[node]["images"]
    log_text() -> str; pid                               everything logged so far; process id of the server
Result
    status            "success", "error", "interrupted" or "rejected" (the prompt was not valid, nothing ran)
    outputs           {node id: ui output}, also of cached nodes; images(node) -> PIL images; text(node) -> strings
    executed, cached  node ids in the order in which they ran; those taken from the cache
    progress          [Progress(value, max, node, seconds)]
    previews          [Preview(image, node, seconds)], the pictures shown while a node runs
    texts             {node id: text}, what the page shows on nodes
    error             None, or Failure(node_id, exception_type, exception_message, node_type, traceback)
    node_errors       the server's own report {node id: {...}} of inputs that are not valid
    seconds, node_seconds    of the whole run; {node id: seconds}
    events            every (type, data, seconds) as it came
A prompt is ComfyUI's API format: {"1": {"class_type": "LoadImage", "inputs": {"image": name}}, ...}; a link is ["1", 0].

Example
    from client import ROOT, Comfy


    def invert(name):
        return {
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }


    def test_invert(comfy: Comfy):
        result = comfy.run(invert(comfy.upload(ROOT / "difffae/assets/source.png")))
        assert result.executed == ["1", "2", "3"]
        (picture,) = result.images("3")
        failed = comfy.run(invert("missing.png"), expect_error=True)
        assert failed.status == "rejected" and failed.error.node_id == "1"
        assert "missing.png" in failed.error.exception_message
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # binary messages of the web socket (ComfyUI's protocol.py)


class CallFailed(AssertionError):
    """The server answered with something else than 2xx."""

    def __init__(self, path: str, status: int, body: str):
        super().__init__(f"{path}: HTTP {status}: {body[:2000]}")
        self.status, self.body = status, body


class PromptRejected(AssertionError):
    """The server found the prompt not valid; `node_errors` is its report."""

    def __init__(self, failure: Failure, node_errors: dict[str, Any]):
        super().__init__(f"prompt rejected: {failure}")
        self.failure, self.node_errors = failure, node_errors


class RunFailed(AssertionError):
    """A run that did not succeed; `result` is what there is of it."""

    def __init__(self, result: Result):
        super().__init__(f"{result.status}: {result.error}")
        self.result = result


@dataclass(frozen=True)
class Failure:
    node_id: str | None
    exception_type: str
    exception_message: str
    node_type: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        where = f"node {self.node_id} ({self.node_type}): " if self.node_id is not None else ""
        return f"{where}{self.exception_type}: {self.exception_message}\n{self.traceback}".rstrip()


@dataclass(frozen=True)
class Progress:
    value: float
    max: float
    node: str | None
    seconds: float


@dataclass(frozen=True)
class Preview:
    image: Image.Image
    node: str | None
    seconds: float


@dataclass
class Result:
    fetch: Callable[[dict[str, str]], Image.Image] = field(repr=False)
    prompt_id: str = ""
    status: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    error: Failure | None = None
    node_errors: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    node_seconds: dict[str, float] = field(default_factory=dict)
    events: list[tuple[str, Any, float]] = field(default_factory=list, repr=False)
    _node_start: float = field(default=0.0, repr=False)

    def images(self, node: str) -> list[Image.Image]:
        return [self.fetch(entry) for entry in self.outputs[node]["images"]]

    def text(self, node: str) -> list[str]:
        return list(self.outputs[node]["text"])

    def _end_node(self, seconds: float) -> None:
        if self.executed and self.executed[-1] not in self.node_seconds:
            self.node_seconds[self.executed[-1]] = seconds - self._node_start

    def take(self, kind: str, data: Any, seconds: float) -> bool:
        """Takes in one event of this run; True if it is the last."""
        self.events.append((kind, data, seconds))
        if kind == "execution_cached":
            self.cached = list(data["nodes"])
        elif kind == "executing":
            self._end_node(seconds)
            if data["node"] is None:
                self.seconds = seconds
                return True
            self.executed.append(data["node"])
            self._node_start = seconds
        elif kind == "progress":
            self.progress.append(Progress(data["value"], data["max"], data["node"], seconds))
        elif kind == "preview":
            self.previews.append(Preview(data["image"], data["node"], seconds))
        elif kind == "text":
            self.texts[data["node"]] = data["text"]
        else:
            self._take_status(kind, data)
        return False

    def _take_status(self, kind: str, data: Any) -> None:
        if kind == "execution_success":
            self.status = "success"
        elif kind == "execution_interrupted":
            self.status = "interrupted"
            self.error = Failure(data["node_id"], "interrupted", "interrupted", data["node_type"])
        elif kind == "execution_error":
            self.status = "error"
            self.error = Failure(
                data["node_id"],
                data["exception_type"],
                data["exception_message"].strip(),
                data["node_type"],
                "".join(data.get("traceback", [])),
            )


def _validation_failure(answer: dict[str, Any]) -> Failure:
    """The first complaint of a rejected prompt. Its message joins all that the server says about that node."""
    for node_id, report in answer.get("node_errors", {}).items():
        errors = report["errors"]
        message = "; ".join(f"{error['message']}: {error['details']}" for error in errors)
        return Failure(node_id, errors[0]["type"], message, report["class_type"])
    error = answer.get("error", {})
    node_id = error.get("extra_info", {}).get("node_id")
    return Failure(node_id, error.get("type", "unknown"), f"{error.get('message')}: {error.get('details')}")


class Comfy:
    def __init__(self, url: str, base: Path, log: Path, pid: int):
        self.url, self.base, self.log, self.pid = url, base, log, pid

    # HTTP
    def _call(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        request = urllib.request.Request(self.url + path, body, {"content-type": content_type} if body is not None else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise CallFailed(path, error.code, error.read().decode(errors="replace")) from None
        except OSError as error:
            raise AssertionError(f"{path}: {error}; the log ends with\n{self.log_text()[-4000:]}") from None

    def get(self, path: str) -> Any:
        return json.loads(self._call(path))

    def post(self, path: str, obj: Any = None) -> Any:
        answer = self._call(path, json.dumps({} if obj is None else obj).encode())
        return json.loads(answer) if answer.strip() else None

    def object_info(self, node: str) -> dict[str, Any]:
        return self.get("/object_info/" + urllib.parse.quote(node, safe=""))[node]

    def node_ids(self) -> set[str]:
        return set(self.get("/object_info"))

    def upload(self, image: str | Path | Image.Image, name: str | None = None) -> str:
        if isinstance(image, Image.Image):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            content, suffix = buffer.getvalue(), ".png"
        else:
            content, suffix = Path(image).read_bytes(), Path(image).suffix
        name = name or hashlib.sha256(content).hexdigest()[:16] + suffix
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        tail = f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{boundary}--\r\n'
        body = head.encode() + content + tail.encode()
        return json.loads(self._call("/upload/image", body, f"multipart/form-data; boundary={boundary}"))["name"]

    def image(self, entry: dict[str, str]) -> Image.Image:
        picture = Image.open(io.BytesIO(self._call("/view?" + urllib.parse.urlencode(entry))))
        picture.load()
        return picture

    def history(self, prompt_id: str) -> dict[str, Any]:
        """The history entry of a finished prompt, or {}."""
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self) -> None:
        self.post("/interrupt")

    def free(self) -> None:
        self.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(1)  # the worker only looks at this request when no prompt waits, so one sent at once would come before it

    def log_text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(encoding="utf-8", errors="replace"))

    # running prompts
    def queue(
        self,
        prompt: dict[str, Any],
        client_id: str | None = None,
        extra_data: dict[str, Any] | None = None,
        partial_execution_targets: list[str] | None = None,
    ) -> str:
        return self._queue(prompt, client_id, extra_data, partial_execution_targets)["prompt_id"]

    def _queue(self, prompt, client_id, extra_data, partial_execution_targets) -> dict[str, Any]:
        given = {"client_id": client_id, "extra_data": extra_data, "partial_execution_targets": partial_execution_targets}
        try:
            return self.post("/prompt", {"prompt": prompt, **{key: value for key, value in given.items() if value is not None}})
        except CallFailed as error:
            if error.status != 400:
                raise
            answer = json.loads(error.body)
            raise PromptRejected(_validation_failure(answer), answer.get("node_errors", {})) from None

    def run(
        self,
        prompt: dict[str, Any],
        *,
        expect_error: bool = False,
        on_event: Callable[[str, Any], None] | None = None,
        timeout: float = 300,
        extra_data: dict[str, Any] | None = None,
        partial_execution_targets: list[str] | None = None,
    ) -> Result:
        """Queues `prompt` and listens until it ends. `on_event(type, data)` is called at once for every event of this run
        ("executing", "progress", "preview", ...), so a test can, say, interrupt at the first progress."""
        import websocket  # websocket-client; here, so that this module can be imported where it is missing

        client_id = uuid.uuid4().hex
        socket = websocket.create_connection(f"{self.url.replace('http', 'ws', 1)}/ws?clientId={client_id}", timeout=60)
        try:
            # asks for previews that say which node they come from; the answer shows that the server has taken it in
            socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            while True:
                first = socket.recv()
                if isinstance(first, str) and json.loads(first)["type"] == "feature_flags":
                    break
            result = Result(fetch=self.image)
            start = time.perf_counter()
            try:
                answer = self._queue(prompt, client_id, extra_data, partial_execution_targets)
            except PromptRejected as error:
                result.status, result.error, result.node_errors = "rejected", error.failure, error.node_errors
                return self._checked(result, expect_error)
            result.prompt_id, result.node_errors = answer["prompt_id"], answer["node_errors"]
            self._listen(socket, result, on_event, start, timeout)
        finally:
            socket.close()
        result.outputs = self.history(result.prompt_id).get("outputs", {})
        return self._checked(result, expect_error)

    def _listen(self, socket, result: Result, on_event, start: float, timeout: float) -> None:
        import websocket

        node = None
        socket.settimeout(1.0)
        while True:
            if time.perf_counter() - start > timeout:
                self.interrupt()
                raise AssertionError(f"the prompt did not end in {timeout} s; it was at node {node}")
            try:
                message = socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            except (websocket.WebSocketConnectionClosedException, OSError) as error:
                raise AssertionError(f"the server went away ({error}); its log ends with\n{self.log_text()[-4000:]}") from None
            if isinstance(message, bytes):
                (event,) = struct.unpack(">I", message[:4])
                data = _decode_text(message) if event == TEXT else _decode_preview(message, node)
                if data is None:
                    continue
                kind = "text" if event == TEXT else "preview"
            else:
                parsed = json.loads(message)
                kind, data = parsed["type"], parsed["data"]
                if data.get("prompt_id") != result.prompt_id:
                    continue
                if kind == "executing":
                    node = data["node"]
            last = result.take(kind, data, time.perf_counter() - start)
            if on_event is not None:
                on_event(kind, data)
            if last:
                return

    def wait(self, prompt_id: str, *, expect_error: bool = False, timeout: float = 300) -> Result:
        """The result of a prompt that somebody else (the page) queued: no progress and no previews, those go to who queued it."""
        end = time.perf_counter() + timeout
        while not (entry := self.history(prompt_id)):
            if time.perf_counter() > end:
                raise AssertionError(f"prompt {prompt_id} did not end in {timeout} s")
            time.sleep(0.05)
        result = Result(fetch=self.image, prompt_id=prompt_id, outputs=entry["outputs"])
        for kind, data in entry["status"]["messages"]:
            result.take(kind, data, 0.0)
        return self._checked(result, expect_error)

    @staticmethod
    def _checked(result: Result, expect_error: bool) -> Result:
        """A prompt of which the server only ran the valid half did not succeed either."""
        if result.error is None and result.node_errors:
            result.error = _validation_failure({"node_errors": result.node_errors})
        if not expect_error and (result.status != "success" or result.error is not None):
            raise RunFailed(result)
        if expect_error and result.error is None:
            raise AssertionError("an error was expected, but the run succeeded")
        return result


def _decode_text(message: bytes) -> dict[str, Any]:
    """{"node", "text"} of a binary message."""
    (length,) = struct.unpack(">I", message[4:8])
    return {"node": message[8 : 8 + length].decode(), "text": message[8 + length :].decode()}


def _decode_preview(message: bytes, node: str | None) -> dict[str, Any] | None:
    """{"image", "node"} of a binary message, or None if it carries no picture."""
    (event,) = struct.unpack(">I", message[:4])
    if event == PREVIEW_WITH_METADATA:
        (length,) = struct.unpack(">I", message[4:8])
        node = json.loads(message[8 : 8 + length]).get("node_id", node)
        content = message[8 + length :]
    elif event == PREVIEW:
        content = message[8:]
    else:
        return None
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return {"image": picture, "node": node}
