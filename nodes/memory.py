"""Memory that networks leave goes back to the system."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref

DELAY = 1.0  # seconds, in which what else was freed with an owner is gone


def hand_back_after(owner: object) -> None:
    """Once `owner` is gone. glibc keeps what a process has freed for what that may need next: after ComfyUI freed its models, several
    hundred megabytes that nothing uses. Elsewhere nothing is done."""
    if sys.platform == "linux":
        weakref.finalize(owner, _soon).atexit = False


def _soon() -> None:
    timer = threading.Timer(DELAY, _hand_back)
    timer.daemon = True
    timer.start()


def _hand_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)
