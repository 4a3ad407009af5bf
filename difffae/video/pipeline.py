"""Work that goes on in a thread of its own while its results are used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")
END = object()


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """The items in their order, made by a thread, at most `count` before they are asked for. What the thread raises is raised here."""
    # PyTorch's modes belong to a thread
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    waiting: queue.Queue[Any] = queue.Queue(count)
    stop = threading.Event()

    def put(entry: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                for item in items:
                    if not put((item, None)):
                        return
            put((END, None))
        except BaseException as error:  # whatever it is, it belongs to who asked for the items
            put((END, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stop.set()
        thread.join()
