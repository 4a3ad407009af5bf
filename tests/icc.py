"""Small colour profiles (ICC.1:2004), which say one thing and are called another."""

from __future__ import annotations

import struct

# the colorants of sRGB, adapted to D50, in XYZ
SRGB = {b"rXYZ": (0.43607, 0.22249, 0.01392), b"gXYZ": (0.38515, 0.71687, 0.09708), b"bXYZ": (0.14307, 0.06061, 0.7141)}
D50 = (0.9642, 1.0, 0.8249)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _description(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {key: value + b"\0" * (-len(value) % 4) for key, value in tags.items()}
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for key, value in tags.items():
        table += key + struct.pack(">II", offset + len(data), len(value))
        data += value
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0\0\0\0", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _xyz(D50)[8:]
    return header.ljust(128, b"\0") + body


def rgb(gamma: float, name: str) -> bytes:
    """A display with sRGB's colorants and another curve."""
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    points = {key: _xyz(value) for key, value in SRGB.items()}
    return _profile(b"RGB ", b"XYZ ", b"mntr", {b"desc": _description(name), b"wtpt": _xyz(D50)} | points | curves)


def grey(gamma: float, name: str) -> bytes:
    """One channel with its curve."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"desc": _description(name), b"wtpt": _xyz(D50), b"kTRC": _curve(gamma)})


def cmyk(name: str) -> bytes:
    """A printer of which only the black ink prints, and its lightness L* falls evenly."""
    identity = b"".join(struct.pack(">i", 65536 if row == column else 0) for row in range(3) for column in range(3))
    ramp = bytes(range(256))
    grid = b"".join(bytes((255 * (1 - index % 2), 128, 128)) for index in range(16))  # the last channel, black, varies fastest
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"desc": _description(name), b"wtpt": _xyz(D50), b"A2B0": table})
