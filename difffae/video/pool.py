"""Where videos and portraits are worked on: in this process, in local processes, or on a Ray cluster. All of them yield the same records.

A process that dies (killed for memory, crashed in a decoder) loses its own task only: that one is tried once more alone, and reported as
broken if it takes its process down again.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from ..common.errors import ConfigError
from ..common.needs import missing

Task = TypeVar("Task")
Work = Callable[[Task], dict[str, Any]]
CRASHED = "its process died twice; it may need more memory than there is, or crash the decoder"


def run_tasks(work: Work, tasks: Sequence[Task], workers: int, ray_address: str | None) -> Iterator[tuple[Task, dict[str, Any] | None]]:
    """Do tasks side by side.

    Args:
        work: Called once for each task; both must pickle.
        tasks: Its arguments.
        workers: Local processes; 1 is this one.
        ray_address: As for ray.init, in their place.

    Yields:
        Tasks with what `work` returned, in the order of completion; None for a task that takes its process down.

    Raises:
        ConfigError: If Ray is missing or does not answer, or worker processes cannot live.
    """
    if ray_address is not None:
        yield from _on_ray(work, tasks, ray_address)
    elif workers == 1:
        for task in tasks:
            yield task, work(task)
    else:
        yield from _in_processes(work, tasks, workers)


def _in_processes(work: Work, tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, dict[str, Any] | None]]:
    rest = list(tasks)[::-1]
    while rest:
        lost: list[Task] = []
        running: dict[Future, tuple[ProcessPoolExecutor, Task]] = {}
        with ExitStack() as stack:
            # One pool for each process: where several share one, Python 3.11 waits for ever if the first dies while the next is started
            idle = [stack.enter_context(_pool()) for _ in range(min(workers, len(rest)))]
            while running or (rest and not lost):
                while rest and idle and not lost:
                    pool, task = idle.pop(), rest.pop()
                    try:
                        running[pool.submit(work, task)] = pool, task
                    except BrokenProcessPool:  # it died while it had nothing to do
                        lost.append(task)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    pool, task = running.pop(future)
                    try:
                        record = future.result()
                    except BrokenProcessPool:
                        lost.append(task)
                        continue
                    idle.append(pool)
                    yield task, record
        for task in lost:
            yield task, _alone(work, task)


def _alone(work: Work, task: Task) -> dict[str, Any] | None:
    """`work` in a process of its own, or None if that dies."""
    with _pool() as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise ConfigError("--workers: worker processes die before they begin; free memory, or use --workers 1") from error
        try:
            return pool.submit(work, task).result()
        except BrokenProcessPool:
            return None


def _pool() -> ProcessPoolExecutor:
    # spawned, since torch's threads do not survive a fork
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker: end when the main process does, even if it is killed; else orphans would wait for work for ever."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(work: Work, task: Task) -> dict[str, Any]:
    return work(task)


def import_ray() -> Any:
    """The Ray module. Raises ConfigError if it is missing."""
    try:
        import ray
    except ImportError as error:
        raise missing("--ray-address", error, "use --workers") from error
    return ray


def _on_ray(work: Work, tasks: Sequence[Task], address: str) -> Iterator[tuple[Task, dict[str, Any] | None]]:
    ray = import_ray()
    started = not ray.is_initialized()
    if started:
        try:
            host, _, port = address.rpartition(":")
            if host and "//" not in host:
                # Ray itself would go on trying for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=address, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--ray-address {address}: no Ray cluster answers there; start one with `ray start`") from error
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=1)(_call)
        rest = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        while rest or running:
            # more than the cluster can run at once, so that nobody waits, but not all: clusters grow and shrink
            while rest and len(running) < 2 * int(ray.cluster_resources().get("CPU", 1)) + 2:
                index, task = rest.pop()
                running[remote.remote(work, task)] = index
            done, _ = ray.wait(list(running), num_returns=1)
            index = running.pop(done[0])
            try:
                yield tasks[index], ray.get(done[0])
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                yield tasks[index], None
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
    finally:
        if started:
            ray.shutdown()
