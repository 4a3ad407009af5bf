"""Fixtures that run the real ComfyUI with this pack, and its page in Chromium. The head of client.py lists them.

Without a ComfyUI (or Chromium) the tests are skipped with the reason; DIFFFAE_REQUIRE_COMFY=1 makes that a failure.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app import App, chromium, find_chromium
from client import Comfy
from server import SETUP, Missing, find, start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        used = set(getattr(item, "fixturenames", ()))
        if used & {"comfy", "comfy_floor", "comfy_each", "pack"}:
            item.add_marker("comfy")
        if used & {"browser", "open_app"}:
            item.add_marker("comfy")
            item.add_marker("browser")


def _missing(reason: str) -> None:
    if os.environ.get("DIFFFAE_REQUIRE_COMFY") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _need_module(name: str, package: str) -> None:
    if importlib.util.find_spec(name) is None:
        _missing(f"{package} is not installed: run `{SETUP}` and its Python, or pip install -r requirements-comfy-tests.txt")


def _server(factory: pytest.TempPathFactory, floor: bool) -> Iterator[Comfy]:
    _need_module("websocket", "websocket-client")
    try:
        installation = find(floor)
    except Missing as error:
        _missing(str(error))
    with start(installation, factory.mktemp("comfy-floor" if floor else "comfy")) as client:
        yield client


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    yield from _server(tmp_path_factory, floor=False)


@pytest.fixture(scope="session")
def comfy_floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    yield from _server(tmp_path_factory, floor=True)


@pytest.fixture(scope="session", params=["comfy", "comfy_floor"])
def comfy_each(request: pytest.FixtureRequest) -> Comfy:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory):
    try:
        installation = find()
    except Missing as error:
        _missing(str(error))
    import inprocess  # here, because it needs torch

    if (reason := inprocess.missing_for(installation)) is not None:
        _missing(reason)
    return inprocess.Pack(installation, tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="session")
def browser() -> Iterator:
    _need_module("playwright", "playwright")
    if find_chromium() is None:
        _missing("no Chromium: apt-get install chromium, or set CHROMIUM to its path")
    with chromium() as running:
        yield running


@pytest.fixture
def open_app(request: pytest.FixtureRequest, browser) -> Iterator[Callable[..., App]]:
    opened: list[App] = []

    def open_(vue: bool = False, node_types=(), size: tuple[int, int] = (1400, 900), server: Comfy | None = None) -> App:
        server = server or request.getfixturevalue("comfy")
        opened.append(App(server, browser, vue, list(node_types), size))
        return opened[-1]

    yield open_
    for app in opened:
        app.page.close()
