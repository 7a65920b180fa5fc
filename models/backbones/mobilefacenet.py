"""MobileFaceNet in two layouts: that of arcface_torch in any width, and a narrow network trained on CASIA-WebFace.

S. Chen et al., "MobileFaceNets", CCBR 2018, arXiv 1804.07573. arcface_torch's `mbf` takes RGB 112x112,
`(x - 127.5) / 127.5`; the shapes of its weights determine widths, depths and groups. Xiaoccer's MobileFaceNet_Pytorch
takes RGB 112x96, `(x - 127.5) / 128`, and returns 128 dimensions; its repository states no licence.
"""

from functools import partial

import torch
from torch import Tensor, nn

from models.backbones.plan import Plan, Shapes, count

ARCFACE_ANCHOR, CASIA_ANCHOR = "conv_sep.layers.0.weight", "dw_conv1.conv.weight"
"""Keys that every network of the two layouts has."""

_EPS = 1e-5


class _Layers(nn.Module):
    """A sequence of modules named `layers`, as in the keys of arcface_torch."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the modules in order."""
        y: Tensor = self.layers(x)
        return y


def _conv(before: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True) -> _Layers:
    padding = 1 if kernel == 3 else 0
    layers: list[nn.Module] = [
        nn.Conv2d(before, channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels, _EPS),
    ]
    return _Layers(*layers, nn.PReLU(channels)) if activate else _Layers(*layers)


class DepthWise(_Layers):
    """1x1 to the inner width, depthwise 3x3, 1x1 back; added to the input if the size stays the same."""

    def __init__(self, before: int, inner: int, channels: int, stride: int) -> None:
        super().__init__(
            _conv(before, inner, 1),
            _conv(inner, inner, 3, stride, groups=inner),
            _conv(inner, channels, 1, activate=False),
        )
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [N, C, H, W]."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class ArcFaceMobileFaceNet(nn.Module):
    """The `mbf` of arcface_torch: a stem, then three stages of a halving block and a row of residual blocks."""

    def __init__(self, stem: int, second: int, stages: tuple["Stage", ...], last: int, dimensions: int) -> None:
        super().__init__()
        width = stem
        self.layers = nn.ModuleList([_conv(3, stem, 3, 2)])
        if second:
            self.layers.append(_conv(stem, stem, 3, groups=second))
        for inner, channels, stride, length in stages:
            row = []
            for _ in range(length):
                row.append(DepthWise(width, inner, channels, stride))
                width = channels
            self.layers.append(row[0] if stride == 2 else _Layers(*row))
        self.conv_sep = _conv(width, last, 1)
        self.features = _Layers(
            _conv(last, last, 7, groups=last, activate=False),
            nn.Flatten(),
            nn.Linear(last, dimensions, bias=False),
            nn.BatchNorm1d(dimensions, _EPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [N, D], before normalisation, of crops [N, 3, 112, 112]."""
        for layer in self.layers:
            x = layer(x)
        embeddings: Tensor = self.features(self.conv_sep(x))
        return embeddings


Stage = tuple[int, int, int, int]  # inner width, width, stride, number of blocks


_NAMES: dict[tuple[int, tuple[int, ...]], str] = {(128, (1, 4, 6, 2)): "mbf", (256, (2, 8, 12, 4)): "mbf-large"}


def _plan_arcface(stem: int, second: int, stages: tuple[Stage, ...], last: int = 512, dimensions: int = 512) -> Plan:
    depths = tuple(stage[3] for stage in stages if stage[2] == 1)
    depths = depths if len(depths) == 4 else (1, *depths)
    name = _NAMES.get((stem, depths))
    return Plan(
        family="mobilefacenet",
        architecture=name or f"mbf-{stem}-{'-'.join(map(str, depths))}",
        build=partial(ArcFaceMobileFaceNet, stem, second, stages, last, dimensions),
        color="rgb",
    )


def match_arcface(shapes: Shapes) -> Plan | None:
    """Return the plan if the keys have arcface_torch's layout, or None if they have another."""
    stem, linear = shapes.get("layers.0.layers.0.weight", ()), shapes.get("features.layers.2.weight", ())
    if len(stem) != 4 or len(linear) != 2:
        return None
    width, second, stages = stem[0], 0, []
    number = 1
    if "layers.1.layers.0.weight" in shapes:
        second = width // max(1, (*shapes["layers.1.layers.0.weight"], 1, 1)[1])
        number = 2
    while True:
        single, row = f"layers.{number}", f"layers.{number}.layers.{{}}"
        length = count(shapes, f"{row}.layers.2.layers.0.weight")
        first = row.format(0) if length else single
        inner, outer = (shapes.get(f"{first}.layers.{layer}.layers.0.weight") for layer in (0, 2))
        if not inner or not outer:
            break
        stages.append((inner[0], outer[0], 1 if length else 2, length or 1))
        number += 1
    return _plan_arcface(width, second, tuple(stages), linear[1], linear[0])


def arcface_plan(scale: int, depths: tuple[int, int, int, int], dimensions: int = 512) -> Plan:
    """Return the plan of arcface_torch's network at this scale of its widths.

    A first depth of 1 stands for a convolution in 64 groups instead of a stage of residual blocks.
    """
    narrow, wide = 64 * scale, 128 * scale
    first: tuple[Stage, ...] = () if depths[0] == 1 else ((128, narrow, 1, depths[0]),)
    stages: tuple[Stage, ...] = (
        *first,
        (128, narrow, 2, 1),
        (128, narrow, 1, depths[1]),
        (256, wide, 2, 1),
        (256, wide, 1, depths[2]),
        (512, wide, 2, 1),
        (256, wide, 1, depths[3]),
    )
    return _plan_arcface(narrow, 0 if first else 64, stages, dimensions=dimensions)


class _ConvNorm(nn.Module):
    """A convolution, a batch-norm and an optional PReLU, named as in MobileFaceNet_Pytorch."""

    def __init__(
        self, before: int, channels: int, kernel: tuple[int, int], stride: int, depthwise: bool, activate: bool
    ) -> None:
        super().__init__()
        groups, padding = before if depthwise else 1, 1 if kernel == (3, 3) else 0
        self.conv = nn.Conv2d(before, channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels, _EPS)
        self.prelu = nn.PReLU(channels) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to [N, C, H, W]."""
        y: Tensor = self.prelu(self.bn(self.conv(x)))
        return y


class Bottleneck(nn.Module):
    """1x1 to the wider inner width, depthwise 3x3, 1x1 back; added to the input if the size stays the same."""

    def __init__(self, before: int, channels: int, stride: int, widen: int) -> None:
        super().__init__()
        inner = before * widen
        self.conv = nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False),
            nn.BatchNorm2d(inner, _EPS),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner, _EPS),
            nn.PReLU(inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels, _EPS),
        )
        self.residual = stride == 1 and before == channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [N, C, H, W]."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class CasiaMobileFaceNet(nn.Module):
    """The network of table 1 in the paper, for crops of 112x96."""

    # expansion, width, number of blocks, stride
    _ROWS = (
        (2, 64, 5, 2),
        (4, 128, 1, 2),
        (2, 128, 6, 1),
        (4, 128, 1, 2),
        (2, 128, 2, 1),
    )

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(3, 64, (3, 3), 2, depthwise=False, activate=True)
        self.dw_conv1 = _ConvNorm(64, 64, (3, 3), 1, depthwise=True, activate=True)
        row, before = [], 64
        for widen, channels, length, stride in self._ROWS:
            for number in range(length):
                row.append(Bottleneck(before, channels, 1 if number else stride, widen))
                before = channels
        self.blocks = nn.Sequential(*row)
        self.conv2 = _ConvNorm(before, 512, (1, 1), 1, depthwise=False, activate=True)
        self.linear7 = _ConvNorm(512, 512, (7, 6), 1, depthwise=True, activate=False)
        self.linear1 = _ConvNorm(512, dimensions, (1, 1), 1, depthwise=False, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [N, D], before normalisation, of crops [N, 3, 112, 96]."""
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        return torch.flatten(self.linear1(self.linear7(self.conv2(x))), 1)


def _plan_casia(dimensions: int = 128) -> Plan:
    return Plan(
        family="mobilefacenet",
        architecture="mobilefacenet-112x96",
        build=partial(CasiaMobileFaceNet, dimensions),
        template="arcface-112x96",
        color="rgb",
        std=128.0,
    )


def match_casia(shapes: Shapes) -> Plan | None:
    """Return the plan if the keys have MobileFaceNet_Pytorch's layout, or None if they have another."""
    if not {"dw_conv1.conv.weight", "linear7.conv.weight", "linear1.conv.weight"} <= shapes.keys():
        return None
    return _plan_casia((*shapes["linear1.conv.weight"], 0)[0])


KNOWN = [
    arcface_plan(2, (1, 4, 6, 2)),
    arcface_plan(4, (2, 8, 12, 4)),
    _plan_casia(),
]
