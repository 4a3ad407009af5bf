"""Edit a portrait: turn the head and smile by numbers, then take the light of another picture.

python docs/examples/edit.py [SOURCE QUERY]          # writes turned.png and lit.png; the bundled pictures stand in for missing ones
"""

from __future__ import annotations

import sys

from difffae import Adjustments, DiffFAE, Sampling, read_image, write_image
from difffae.common.checkpoint import asset_path


def main(source: str, query: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    me = model.analyse(read_image(source)[0])  # found and measured once, for any number of edits
    turned = model.edit(me, adjust=Adjustments(yaw=15, smile=0.6))
    write_image("turned.png", turned.image)
    lit = model.edit(me, read_image(query)[0], take=["light"], sampling=Sampling(steps=10, seed=1))
    write_image("lit.png", lit.image)


if __name__ == "__main__":
    pictures = sys.argv[1:3] + [str(asset_path(name)) for name in ("source.png", "query.png")][len(sys.argv) - 1 :]
    main(*pictures)
