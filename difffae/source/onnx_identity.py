"""ArcFace networks as ONNX files, through onnxruntime or insightface. Both are optional: `pip install onnx onnxruntime`.

No gradients reach the picture. Shape letters: B faces, D = 512 dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import CheckpointError
from ..common.needs import missing
from .arcface import CHIP, DIMENSIONS, AlignedIdentity

FIRST_NODES = 8  # where a graph that scales its own input does so


class OnnxArcFace(AlignedIdentity):
    """A recognition network of insightface's packs (w600k_r50.onnx, glintr100.onnx), or any that takes 112 x 112 chips to 512 numbers."""

    def __init__(self, path: str | Path) -> None:
        """Open a network.

        Args:
            path: the .onnx file.

        Raises:
            CheckpointError: the file cannot be read, or is no recognition network.
            ConfigError: onnx or onnxruntime is not installed.
        """
        super().__init__(f"onnx-{Path(path).stem}")
        runtime, onnx = _import("onnxruntime", path), _import("onnx", path)
        try:
            graph = onnx.load(str(path)).graph
            self.session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
        except Exception as error:  # both raise types of their own for a damaged file
            raise CheckpointError(
                f"{path}: not a complete ONNX network ({' '.join(str(error).split())[:200]}); download it again"
            ) from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or list(shape[1:]) != [3, CHIP, CHIP] or len(outputs) != 1:
            raise CheckpointError(
                f"{path}: takes {[list(value.shape) for value in inputs]}; an ArcFace network takes one (B,3,112,112): give the "
                "pack's recognition model"
            )
        self.one_by_one = shape[0] == 1
        self.input = inputs[0].name
        # insightface's rule: graphs exported from mxnet begin with Sub and Mul nodes that scale the 0..255 input themselves
        scales_itself = {"Sub", "Mul"} <= {node.op_type for node in graph.node[:FIRST_NODES]}
        self.mean, self.deviation = (0.0, 1.0) if scales_itself else (127.5, 127.5)

    @torch.no_grad()
    def forward(self, chips: Tensor) -> Tensor:
        values = ((chips * 255 - self.mean) / self.deviation).float().cpu().numpy()
        rows = np.split(values, len(values)) if self.one_by_one else [values]
        found = np.concatenate([self.session.run(None, {self.input: row})[0] for row in rows])
        if found.shape != (len(chips), DIMENSIONS):
            raise CheckpointError(f"{self.name}: answers {found.shape} for {len(chips)} faces; an ArcFace network gives 512 numbers each")
        return torch.from_numpy(found).to(chips)


class InsightFace(AlignedIdentity):
    """A recognition model of an installed insightface, by the name of its pack or the path of its file (model_zoo.get_model)."""

    def __init__(self, name: str) -> None:
        """Open a model.

        Args:
            name: of its pack, or the path of its file.

        Raises:
            CheckpointError: it cannot be read, or is no recognition model.
            ConfigError: insightface is not installed.
        """
        super().__init__(f"insightface-{Path(name).stem}")
        zoo = _import("insightface.model_zoo", name)
        if name.endswith(".onnx") and not Path(name).is_file():
            raise CheckpointError(f"insightface:{name}: no such weights file; check the path")
        try:
            self.model = zoo.get_model(name)
        except Exception as error:  # of several packages, for a damaged file or pack
            why = " ".join(str(error).split())[:200]
            raise CheckpointError(f"insightface:{name}: cannot be read ({why}); download it again") from error
        if self.model is None or getattr(self.model, "taskname", None) != "recognition":
            raise CheckpointError(f"insightface:{name}: no recognition model; give the .onnx file of one, such as w600k_r50.onnx")
        self.model.prepare(ctx_id=0 if torch.cuda.is_available() else -1)
        self.one_by_one = self.model.input_shape[0] == 1

    @torch.no_grad()
    def forward(self, chips: Tensor) -> Tensor:
        pictures = (chips.clamp(0, 1) * 255).round().byte().movedim(1, -1).flip(-1).cpu().numpy()  # BGR, as OpenCV reads
        groups = np.split(pictures, len(pictures)) if self.one_by_one else [pictures]
        return torch.from_numpy(np.concatenate([self.model.get_feat(list(group)) for group in groups])).to(chips)


def _import(name: str, path: str | Path) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise missing(str(path), error) from error
