"""Work in local processes, of which some die."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

import pytest
from video_files import fatal

from difffae.video.pool import run_tasks


def test_a_clip_that_kills_its_process_is_reported_and_others_go_on() -> None:
    results = dict(run_tasks(fatal, ["a", "die", "b", "c"], 2, None))
    assert results == {"die": None} | {name: {"done": name} for name in "abc"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_process_that_dies_while_the_next_one_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of several processes would then wait for the second one for ever."""
    start, started = BaseProcess.start, 0

    def slow_start(process: BaseProcess) -> None:
        nonlocal started
        started += 1
        if started == 2:
            time.sleep(0.5)
        start(process)
        if started == 1:
            os.kill(process.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(BaseProcess, "start", slow_start)
    results: dict[str, Any] = {}
    thread = Thread(target=lambda: results.update(run_tasks(fatal, ["a", "b", "c"], 2, None)), daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    assert results == {name: {"done": name} for name in "abc"}
