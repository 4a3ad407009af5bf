"""What the numbers were measured on, and what the machine can do at best: memory bandwidth and arithmetic, by two short probes."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from .timing import measure

CPU_COPY, GPU_COPY = 256 << 20, 2 << 30  # bytes, far more than any cache
CPU_SIDE, GPU_SIDE = 2048, 8192  # of the square matrices


@dataclass(frozen=True)
class Machine:
    """What was measured on."""

    device: str  # as a person would name it
    cores: int
    threads: int
    load: float | None  # processes waiting or running over the last minute when the measurements began
    torch: str
    system: str


@dataclass(frozen=True)
class Peaks:
    """What the machine can do at best."""

    bandwidth: float  # bytes per second, read and written by a copy
    arithmetic: float  # floating-point operations per second of a matrix product in the type that is measured

    def floor_ms(self, weight_bytes: float, operations: float) -> tuple[float, float]:
        """Milliseconds that reading the weights once and the arithmetic take at least."""
        return 1000 * weight_bytes / self.bandwidth, 1000 * operations / self.arithmetic


def describe(device: torch.device) -> Machine:
    """This machine as it is now."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return Machine(name, os.cpu_count() or 1, torch.get_num_threads(), load, torch.__version__, f"{platform.system()} {platform.release()}")


def cpu_name() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def probe(device: torch.device, dtype: torch.dtype, scale: float = 1.0) -> Peaks:
    """Measure the peaks; takes about a second. scale below 1 makes the probes smaller, and less certain."""
    gpu = device.type == "cuda"
    count = int((GPU_COPY if gpu else CPU_COPY) * scale) // 4
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    copy = measure(lambda: target.copy_(source), device, 2, 5)
    side = max(64, int((GPU_SIDE if gpu else CPU_SIDE) * scale))
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    product = measure(lambda: torch.mm(a, b, out=out), device, 2, 5)
    return Peaks(2 * 4 * count / (copy.fastest / 1000), 2 * side**3 / (product.fastest / 1000))
