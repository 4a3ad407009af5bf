"""Work that goes on in threads while its results are used."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
END = object()
MOST = 4  # threads: Python itself runs one at a time, and each holds a few frames with all that is made of them in memory


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
        finally:
            if isinstance(items, Generator):
                items.close()

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


@contextmanager
def one_core(device: torch.device) -> Iterator[int]:
    """PyTorch uses one core in this thread, and in those that begin meanwhile, so that results do not depend on how many there are. Yields
    how many threads it has else; 1 and no change for a device that does the work itself.
    """
    if device.type != "cpu":
        yield 1
        return
    cores = torch.get_num_threads()  # also lets a new thread take its number, which it does at its first look
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


class Workers:
    """Threads that work side by side, in each of which PyTorch uses one core, as in the thread that enters: frames are small, and
    PyTorch's own threads, which share one operation, win little on them.

    >>> import torch
    >>> from difffae.video.pipeline import Workers
    >>> with Workers(torch.device("cpu")) as workers:
    ...     list(workers.map(lambda number: number**2, [1, 2, 3]))
    [1, 4, 9]
    """

    def __init__(self, device: torch.device) -> None:
        """As many as PyTorch has threads for a device, up to MOST."""
        self._stack = ExitStack()
        self._device = device
        self.count = 1

    def __enter__(self) -> Workers:
        self.count = min(self._stack.enter_context(one_core(self._device)), MOST)
        self._pool = ThreadPoolExecutor(self.count, "difffae", initializer=torch.get_num_threads)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def submit(self, work: Callable[..., R], *arguments: Any) -> Future[R]:
        """Work in one of the threads, in the caller's modes of PyTorch."""
        inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def run() -> R:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                return work(*arguments)

        return self._pool.submit(run)

    def map(self, work: Callable[[T], R], items: Iterable[T], spare: int = 1) -> Generator[R, None, None]:
        """What comes of the items, in their order; so many more are asked for than are worked on."""
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self.submit(work, item))
                if len(waiting) >= self.count + spare:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
