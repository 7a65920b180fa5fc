"""IResNet: the residual network of ArcFace and ElasticFace, with or without squeeze-and-excitation.

J. Deng et al., "ArcFace", CVPR 2019, arXiv 1801.07698; F. Boutros et al., "ElasticFace", CVPRW 2022, arXiv 2109.09416.
Both projects and CVLFace's `iresnet_insightface` train the same network on RGB input, `(x - 127.5) / 127.5`.
The weights of InsightFace are for non-commercial research; those of ElasticFace are under CC BY-NC-SA 4.0.

MagFace (Q. Meng et al., CVPR 2021, arXiv 2103.06627; Apache-2.0) trains it on BGR input, `x / 255`, with the epsilon
2e-5 in every batch-norm (`models/iresnet.py` of IrvingMeng/MagFace at 719001a). No weight shows this; the form of its
checkpoints or the preprocessing that the user states does, see `models.export.recognition`.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from models.backbones.plan import Plan, Shapes, count

ANCHOR = "layer1.0.conv1.weight"
"""A key that every network of this layout has."""

_EPS, _MAGFACE_EPS = 1e-5, 2e-5
_WIDTHS = (64, 128, 256, 512)
_NAMES: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "iresnet-18",
    (3, 4, 6, 3): "iresnet-34",
    (3, 4, 14, 3): "iresnet-50",
    (3, 13, 30, 3): "iresnet-100",
    (6, 26, 60, 6): "iresnet-200",
}
_SIDE = 7  # side of the last feature map: 112 pixels, halved by each of the four stages


class SqueezeExcitation(nn.Module):
    """A gate that scales each channel by a function of all channels (Hu et al., CVPR 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of [N, C, H, W]."""
        gate = torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(gate))


class Block(nn.Module):
    """A residual block: batch-norm, 3x3, batch-norm, PReLU, 3x3 with the stride, batch-norm; added to the input."""

    def __init__(self, before: int, channels: int, stride: int, reduction: int | None, eps: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps)
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps)
        self.se_block = SqueezeExcitation(channels, reduction) if reduction else None
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels, eps))
            if stride != 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [N, C, H, W]."""
        y: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        if self.se_block is not None:
            y = self.se_block(y)
        if self.downsample is not None:
            x = self.downsample(x)
        return x + y


class IResNet(nn.Module):
    """Four stages of blocks that each halve the resolution, then one linear layer over all positions."""

    def __init__(self, blocks: tuple[int, ...], dimensions: int, reduction: int | None, eps: float = _EPS) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0], eps)
        self.prelu = nn.PReLU(_WIDTHS[0])
        before = _WIDTHS[0]
        for number, (length, channels) in enumerate(zip(blocks, _WIDTHS, strict=True), start=1):
            stage = [Block(before, channels, 2, reduction, eps)]
            stage += [Block(channels, channels, 1, reduction, eps) for _ in range(length - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            before = channels
        self.bn2 = nn.BatchNorm2d(before, eps)
        self.fc = nn.Linear(before * _SIDE**2, dimensions)
        self.features = nn.BatchNorm1d(dimensions, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [N, D], before normalisation, of crops [N, 3, 112, 112]."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, len(_WIDTHS) + 1):
            x = getattr(self, f"layer{number}")(x)
        embeddings: Tensor = self.features(self.fc(torch.flatten(self.bn2(x), 1)))
        return embeddings


def plan(blocks: tuple[int, ...], dimensions: int = 512, reduction: int | None = None) -> Plan:
    """Return the plan of an IResNet with the given number of blocks in each stage."""
    name = _NAMES.get(blocks, f"iresnet-{'-'.join(map(str, blocks))}")
    return Plan(
        family="iresnet",
        architecture=f"{name}-se" if reduction else name,
        build=partial(IResNet, blocks, dimensions, reduction),
        color="rgb",
    )


def magface(plan: Plan) -> Plan:
    """Return the plan of a network that MagFace trained, given the plan of the same network as ArcFace trains it."""
    assert isinstance(plan.build, partial)
    blocks, dimensions, reduction = plan.build.args
    build = partial(IResNet, blocks, dimensions, reduction, _MAGFACE_EPS)
    return replace(plan, build=build, color="bgr", mean=0.0, std=255.0, project="MagFace")


def match(shapes: Shapes) -> Plan | None:
    """Return the plan that the keys and shapes describe, or None if the keys have another layout."""
    blocks = tuple(count(shapes, f"layer{number}.{{}}.conv1.weight") for number in range(1, len(_WIDTHS) + 1))
    if not all(blocks) or len(shapes.get("fc.weight", ())) != 2:
        return None
    gate = shapes.get("layer1.0.se_block.fc1.weight")
    return plan(blocks, shapes["fc.weight"][0], _WIDTHS[0] // gate[0] if gate and gate[0] else None)


KNOWN = [plan(blocks) for blocks in _NAMES] + [plan((3, 4, 14, 3), reduction=16)]
