"""Let a portrait move: along keyframes, or as the face in a clip does.

python docs/examples/animate.py [SOURCE [CLIP]]      # writes moved.mp4; without a clip it turns, smiles and blinks by itself
"""

from __future__ import annotations

import sys

from difffae import DiffFAE, Sampling, read_image
from difffae.common.checkpoint import asset_path
from difffae.video.keyframes import Keyframes
from difffae.video.making import Change, Driven, along_keyframes, animate

KEYS = {
    "keys": [
        {"time": 0, "yaw": -12, "smile": 0, "blink": 0},
        {"time": 0.4, "yaw": 8, "smile": 0.6, "blink": 0},
        {"time": 0.56, "blink": 0.9},
        {"time": 0.72, "blink": 0},
        {"time": 0.8, "yaw": 0},
    ]
}


def main(source: str, clip: str | None = None) -> None:
    model = DiffFAE.from_pretrained("open-256", estimator="network")  # faster than the fit, for the frames of the clip
    me = model.analyse(read_image(source)[0])
    quick = Sampling(denoise=0)  # the moved photograph alone, without diffusion
    if clip is None:
        along_keyframes(model, [(me, Change(keyframes=Keyframes.of(KEYS)))], "moved.mp4", sampling=quick)
    else:
        animate(model, [Driven(me, clip)], "moved.mp4", sampling=quick)


if __name__ == "__main__":
    main(*(sys.argv[1:3] or [str(asset_path("source.png"))]))
