"""Inception v3 as FID needs it: TensorFlow's network of 2015, with its resizing and its pooling (Heusel et al. 2017).

Names are those of torchvision, torch-fidelity and pytorch-fid, so that pt_inception-2015-12-05-6726825d.pth (torch-fidelity's and
torchmetrics' weights too) loads as it is; the file is the user's. The numbers are torch-fidelity's.

Shape letters: B batch, C channels, H and W picture sides; a feature has 2048 numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...convert.state_dicts import check_fit, read_state

SIDE = 299
FEATURES = 2048
BATCH = 16
Size = int | tuple[int, int]


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU; padding that keeps the sides, unless it strides or is told not to pad."""

    def __init__(self, inputs: int, outputs: int, kernel: Size, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)  # TensorFlow leaves the padding out of the mean


class InceptionA(nn.Module):
    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 64, 1)
        self.branch5x5_1 = BasicConv2d(inputs, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3)
        self.branch_pool = BasicConv2d(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_average(x))], 1)


class InceptionB(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class InceptionC(nn.Module):
    def __init__(self, inputs: int, c: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 192, 1)
        self.branch7x7_1 = BasicConv2d(inputs, c, 1)
        self.branch7x7_2 = BasicConv2d(c, c, (1, 7))
        self.branch7x7_3 = BasicConv2d(c, 192, (7, 1))
        self.branch7x7dbl_1 = BasicConv2d(inputs, c, 1)
        self.branch7x7dbl_2 = BasicConv2d(c, c, (7, 1))
        self.branch7x7dbl_3 = BasicConv2d(c, c, (1, 7))
        self.branch7x7dbl_4 = BasicConv2d(c, c, (7, 1))
        self.branch7x7dbl_5 = BasicConv2d(c, 192, (1, 7))
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class InceptionD(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(inputs, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(inputs, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7))
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1))
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    """The last one of the network of 2015 pools by the maximum, where all others average."""

    def __init__(self, inputs: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = BasicConv2d(inputs, 320, 1)
        self.branch3x3_1 = BasicConv2d(inputs, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1))
        self.branch3x3dbl_1 = BasicConv2d(inputs, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1))
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = self.branch_pool(F.max_pool2d(x, 3, 1, 1) if self.last else _average(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        return torch.cat([*parts, self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), pooled], 1)


class Inception(nn.Module):
    """Pictures (B,3,299,299) in -1..1 -> features (B,2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280, last=False), InceptionE(2048, last=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))

    @classmethod
    def load(cls, path: str | Path) -> Inception:
        """The user's weights, .pth or .safetensors; its classifier is left out. Raises CheckpointError for any other file."""
        tensors = {name: value for name, value in read_state(Path(path)).items() if not name.startswith("fc.")}
        network = cls()
        expected = network.state_dict()
        if not any(name.endswith("num_batches_tracked") for name in tensors):  # older files lack these counters, which nothing reads
            tensors |= {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
        check_fit(tensors, expected, Path(path), "Inception v3 for FID (pt_inception-2015-12-05-6726825d.pth)")
        network.load_state_dict(tensors)
        return network.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, pictures: Iterable[Tensor]) -> Tensor:
        """Pictures (3,H,W), RGB 0..1, of any sizes -> (N,2048) float64 on the CPU. They count as the 8-bit pictures they were saved as."""
        weight = self.Conv2d_1a_3x3.conv.weight
        found: list[Tensor] = []
        batch: list[Tensor] = []

        def flush() -> None:
            if batch:
                found.append(self(torch.cat(batch).to(weight)).double().cpu())
                batch.clear()

        for picture in pictures:
            batch.append((resize(picture[None].float().cpu().clamp(0, 1).mul(255).round()) - 128) / 128)
            if len(batch) == BATCH:
                flush()
        flush()
        return torch.cat(found) if found else torch.zeros(0, FEATURES, dtype=torch.float64)


def resize(pictures: Tensor, side: int = SIDE) -> Tensor:
    """Bilinear as in TensorFlow 1: (B,C,H,W) -> (B,C,side,side), without anti-aliasing, pixel i at i * H / side."""

    def blend(x: Tensor, axis: int) -> Tensor:
        length = x.shape[axis]
        place = torch.arange(side, dtype=torch.float32, device=x.device) * (length / side)
        low = place.floor().long()
        share = (place - low).to(x)
        share = share[:, None] if axis == 2 else share
        near, far = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp_max(length - 1))
        return near + (far - near) * share

    return blend(blend(pictures, 3), 2)
