"""IR and IR-SE: the residual networks of AdaFace, which CVLFace publishes as well.

M. Kim, A. K. Jain, X. Liu, "AdaFace", CVPR 2022, arXiv 2204.00964; code and weights under MIT. The network takes
`(x - 127.5) / 127.5`. AdaFace's repository trains it in BGR, CVLFace in RGB or BGR, all with the same keys. AdaFace's
network divides by the norm at the end. Here the graph does this instead; see `models.graph.contract`.
"""

from functools import partial
from itertools import groupby

from torch import Tensor, nn

from models.backbones.iresnet import SqueezeExcitation
from models.backbones.plan import Plan, Shapes, count

ANCHOR = "body.0.res_layer.1.weight"
"""A key that every network of this layout has."""

_EPS = 1e-5
_WIDTHS = (64, 128, 256, 512)
_REDUCTION = 16
_NAMES: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "ir-18",
    (3, 4, 6, 3): "ir-34",
    (3, 4, 14, 3): "ir-50",
    (3, 13, 30, 3): "ir-101",
}
_SIDE = 7  # side of the last feature map: 112 pixels, halved by each of the four stages


class Block(nn.Module):
    """A residual block: batch-norm, 3x3, batch-norm, PReLU, 3x3 with the stride, batch-norm; added to the input."""

    def __init__(self, before: int, channels: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = (
            nn.MaxPool2d(1, stride)
            if before == channels
            else nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels, _EPS))
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before, _EPS),
            nn.Conv2d(before, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, _EPS),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels, _EPS),
        )
        if squeeze:
            self.res_layer.add_module("se_block", SqueezeExcitation(channels, _REDUCTION))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [N, C, H, W]."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class AdaFaceIR(nn.Module):
    """A sequence of blocks, the first of each width halving the resolution, then a linear layer over all positions."""

    def __init__(self, blocks: tuple[int, ...], dimensions: int, squeeze: bool) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTHS[0], _EPS), nn.PReLU(_WIDTHS[0])
        )
        row, before = [], _WIDTHS[0]
        for length, channels in zip(blocks, _WIDTHS, strict=True):
            for number in range(length):
                row.append(Block(before, channels, 1 if number else 2, squeeze))
                before = channels
        self.body = nn.Sequential(*row)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(before, _EPS),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(before * _SIDE**2, dimensions),
            nn.BatchNorm1d(dimensions, _EPS, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [N, D], before normalisation, of crops [N, 3, 112, 112]."""
        embeddings: Tensor = self.output_layer(self.body(self.input_layer(x)))
        return embeddings


def plan(blocks: tuple[int, ...], dimensions: int = 512, squeeze: bool = False) -> Plan:
    """Return the plan of a network with the given number of blocks of each width."""
    name = _NAMES.get(blocks, f"ir-{'-'.join(map(str, blocks))}")
    return Plan(
        family="adaface-ir",
        architecture=name.replace("ir-", "ir-se-") if squeeze else name,
        build=partial(AdaFaceIR, blocks, dimensions, squeeze),
    )


def match(shapes: Shapes) -> Plan | None:
    """Return the plan that the keys and shapes describe, or None if the keys have another layout."""
    row = count(shapes, "body.{}.res_layer.1.weight")
    widths = [(*shapes[f"body.{number}.res_layer.1.weight"], 0)[0] for number in range(row)]
    stages = [(width, len(list(group))) for width, group in groupby(widths)]
    if tuple(width for width, _ in stages) != _WIDTHS or len(shapes.get("output_layer.3.weight", ())) != 2:
        return None
    blocks = tuple(length for _, length in stages)
    return plan(blocks, shapes["output_layer.3.weight"][0], "body.0.res_layer.se_block.fc1.weight" in shapes)


KNOWN = [plan(blocks) for blocks in _NAMES] + [plan((3, 4, 14, 3), squeeze=True), plan((3, 13, 30, 3), squeeze=True)]
