"""Train a very small first stage on a folder of portraits, and look at what it makes of one of them: seconds on a CPU.

python docs/examples/train_tiny.py [PORTRAITS [STEPS]]   # writes tiny/last.pt and tiny.png (left a portrait, right through the first stage)

Without a folder it takes the bundled pictures. `python -m difffae train open` trains everything.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from difffae import read_image, write_image
from difffae.common.checkpoint import asset_path
from difffae.diffusion.autoencoder import AutoencoderConfig
from difffae.lab.prepare.shards import write_shard
from difffae.lab.training.autoencoder import AutoencoderTraining, train_autoencoder

BUNDLED = ("source.png", "query.png", "turned.jpg", "surprised.jpg", "side_light.jpg")
SIDE = 128


def squares(paths: list[Path]) -> torch.Tensor:
    """The middle of each picture, (N,3,SIDE,SIDE) in 0..1."""
    found = []
    for path in paths:
        image = read_image(path)[0]
        side = min(image.shape[-2:])
        top, left = ((length - side) // 2 for length in image.shape[-2:])
        square = image[None, :, top : top + side, left : left + side]
        found.append(torch.nn.functional.interpolate(square, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1))
    return torch.cat(found)


def main(folder: str | None = None, steps: str = "300") -> None:
    paths = [asset_path(name) for name in BUNDLED] if folder is None else sorted(Path(folder).glob("*.webp"))
    if not paths:
        sys.exit(f"{folder}: no .webp pictures here; give a folder of portraits, such as `prepare portraits` writes")
    pictures = squares(paths)
    Path("tiny/shards").mkdir(parents=True, exist_ok=True)
    write_shard("tiny/shards/0.safetensors", {"images": (pictures * 255).round().to(torch.uint8)})
    sizes = AutoencoderConfig(width=32, deep_width=48, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    options = AutoencoderTraining(
        shards="tiny/shards", folder="tiny", steps=int(steps), crop=64, batch=8, warmup=20, learning_rate=3e-3, ema=0.98
    )
    first_stage = train_autoencoder(options, sizes)  # goes on from tiny/last.pt, if that is there
    with torch.no_grad():
        again = first_stage(pictures[:1]).clamp(0, 1)
    error = (again - pictures[:1]).square().mean()
    print(f"{len(pictures)} pictures, {steps} steps: {-10 * torch.log10(error):.1f} dB")
    write_image("tiny.png", torch.cat([pictures[0], again[0]], dim=-1))


if __name__ == "__main__":
    main(*sys.argv[1:3])
