"""A kill at any moment of a save leaves the old file or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

KILLS = 60
# One process has imported everything and forks the ones that save, over and over, until they are killed at a random moment.
SAVING = """
import os, random, signal, sys, time, warnings
warnings.simplefilter("ignore")
import torch
from difffae.common.files import remove_leftovers
from difffae.common.images import read_image, write_image
torch.set_num_threads(1)
folder, kills = sys.argv[1], int(sys.argv[2])
generator = random.Random(0)
noise = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0)), scale_factor=10)[0] / 4
versions = [value + noise for value in (0.2, 0.7)]
paths = [os.path.join(folder, name) for name in ("a.png", "a.jpg", "a.webp")]

def save(number):
    for path in paths:
        write_image(path, versions[number % 2], text={"number": "x" * 1000})

save(0)
kinds = {path: set() for path in paths}
for _ in range(kills):
    child = os.fork()
    if not child:
        number = 1
        while True:
            save(number)
            number += 1
    time.sleep(generator.uniform(0, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in paths:
        image = read_image(path)[0]
        near = [float((image - version).abs().mean()) < 0.03 for version in versions]
        assert sum(near) == 1, path
        kinds[path].add(near.index(True))
remove_leftovers(folder)
assert sorted(os.listdir(folder)) == ["a.jpg", "a.png", "a.webp"], os.listdir(folder)
assert all(kind == {0, 1} for kind in kinds.values()), kinds
print("whole")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_any_moment(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", SAVING, str(tmp_path), str(KILLS)], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "whole\n", run.stderr
