"""Bad inputs, made from good ones by a seeded generator: every run of the tests sees the same."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
# what stands in place of a number: its limits are far inside
NUMBERS = ("nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "9" * 400, "-0", "0x10", "1,5", "", " ", "None", "1e", "٣", "½", "1_0")


def encoded(picture: Image.Image, kind: str) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Some bytes of a file changed, lost, repeated or added."""
    content = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 8, 40))):
        place = generator.randrange(max(1, len(content)))
        # headers decide more than pixels
        place = place % 64 if generator.random() < 0.5 else place
        match generator.randrange(6):
            case 0:
                content[place : place + 1] = bytes([generator.randrange(256)])
            case 1:
                del content[place : place + generator.choice((1, 4, 300))]
            case 2:
                content[place:place] = generator.randbytes(generator.choice((1, 4, 300)))
            case 3:
                del content[place:]
            case 4:
                content[place : place + 4] = generator.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff"))
            case _:
                end = place + generator.choice((2, 16, 100))
                content[place:end] = content[place:end][::-1]
    return bytes(content)


def bad_pictures(count: int, picture: Image.Image, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of picture files, of every format in turn."""
    generator = random.Random(seed)
    files = {kind: encoded(picture, kind) for kind in FORMATS}
    for index in range(count):
        kind = FORMATS[index % len(FORMATS)]
        yield f"{index:03}.{kind.lower()}", mutated(files[kind], generator)


def noise_picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A small picture without a face."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def bad_json(good: str, count: int, seed: int) -> Iterator[str]:
    """Texts that nearly are the JSON that was given: other values in it, other keys, or bytes changed."""
    generator = random.Random(seed)
    odd: tuple[Any, ...] = (
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "é",
        [],
        [[]],
        {},
        {"a": 1},
        [None],
        [1e40],
        [[1, 2], [3]],
    )
    for _ in range(count):
        data = json.loads(good)
        if generator.random() < 0.3:
            yield mutated(good.encode(), generator).decode("utf-8", "replace")
            continue
        for _ in range(generator.choice((1, 1, 3))):
            node: Any = data
            # some levels down, then one value, or the key, is another
            while True:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                if not keys:
                    break
                key = generator.choice(keys)
                if isinstance(node[key], dict | list) and generator.random() < 0.6:
                    node = node[key]
                    continue
                if generator.random() < 0.25:
                    del node[key]
                else:
                    node[key] = generator.choice(odd)
                break
        yield json.dumps(data)
