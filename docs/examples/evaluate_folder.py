"""How well a model takes pose, expression and light: every picture of a folder gets those of the next one, and the results are measured.

python docs/examples/evaluate_folder.py FOLDER [MODEL]   # prints a line per pair and the means; without a folder the bundled pictures

`python -m difffae evaluate` makes the paper's tables of many more pairs.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from difffae import DiffFAE, read_image
from difffae.common.checkpoint import asset_path
from difffae.report.results import find_results, measure_pair

BUNDLED = ("source.png", "query.png", "side_light.jpg")
SHOWN = ("identity", "yaw_error", "pitch_error", "expression_quotient", "light_quotient")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def main(folder: str | None = None, name: str = "open-256") -> None:
    paths = [asset_path(one) for one in BUNDLED] if folder is None else sorted(p for p in Path(folder).glob("*") if p.suffix in ENDINGS)
    if len(paths) < 2:
        sys.exit(f"{folder}: fewer than two pictures here ({', '.join(ENDINGS)}); give a folder of portraits")
    model = DiffFAE.from_pretrained(name)
    faces = {path: model.analyse(read_image(path)[0], name=path.name) for path in paths}
    print(f"{'pair':40s}" + "".join(f"{key:>21s}" for key in SHOWN))
    table = []
    for source, query in zip(paths, paths[1:] + paths[:1], strict=True):
        result = model.edit(faces[source], faces[query])
        edited = find_results(model, faces[source], result.image[None].to(model.device)).portrait(0)
        values = {row.key: row.value for row in measure_pair(model, faces[source], faces[query], edited)}
        table.append([values[key] for key in SHOWN])
        print(f"{source.name + ' < ' + query.name:40s}" + "".join(f"{value:21.3f}" for value in table[-1]))
    means = [[value for value in column if not math.isnan(value)] for column in zip(*table, strict=True)]
    print(f"{'mean':40s}" + "".join(f"{sum(column) / len(column) if column else math.nan:21.3f}" for column in means))


if __name__ == "__main__":
    main(*sys.argv[1:3])
