"""Give a portrait the hair of another one, alone and together with an edit.

python docs/examples/swap.py [SOURCE REFERENCE]      # writes hair.png and hair_and_turn.png; the bundled pictures stand in for missing ones
"""

from __future__ import annotations

import sys

from difffae import Adjustments, DiffFAE, read_image, write_image
from difffae.common.checkpoint import asset_path


def main(source: str, reference: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    me, other = (model.analyse(read_image(path)[0]) for path in (source, reference))
    write_image("hair.png", model.swap(me, other, ["hair"]).image)
    both = model.edit(me, adjust=Adjustments(yaw=-12), hair_from=other)
    write_image("hair_and_turn.png", both.image)


if __name__ == "__main__":
    pictures = sys.argv[1:3] + [str(asset_path(name)) for name in ("source.png", "query.png")][len(sys.argv) - 1 :]
    main(*pictures)
