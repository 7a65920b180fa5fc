"""The vision transformers of arcface_torch and CVLFace, which have no class token and embed all tokens.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv 2010.11929, with these changes: ReLU6 in the
MLP, no bias in qkv, and two linear layers with batch-norm (eps 2e-5) over all tokens at the end. arcface_torch uses
patches of 9 pixels, which ignore the last four of 112 rows and columns; CVLFace uses patches of 8. The shapes of the
weights do not reveal the number of heads, so that only the published widths are supported.
"""

from functools import partial

import torch
from torch import Tensor, nn

from models.backbones.plan import Color, Plan, Shapes, count

ANCHOR = "patch_embed.proj.weight"
"""A key that every network of this layout has."""

_LAYER_EPS, _BATCH_EPS = 1e-5, 2e-5
_SIDE = 112
_ARCFACE_PATCH, _CVLFACE_PATCH = 9, 8
# (patch, width, MLP width, blocks) -> name, heads
_KNOWN = {
    (9, 256, 1024, 12): ("vit-t", 8),
    (9, 512, 2048, 12): ("vit-s", 8),
    (9, 512, 2048, 24): ("vit-b", 8),
    (9, 768, 3072, 24): ("vit-l", 8),
    (9, 1024, 4096, 48): ("vit-h", 8),
    (8, 512, 2560, 12): ("vit-small", 8),
    (8, 512, 1536, 24): ("vit-base", 16),
}


class Attention(nn.Module):
    """Multi-head self-attention; the rows of qkv are all heads of q, then of k, then of v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to [N, tokens, width]."""
        _, tokens, width = x.shape
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(queries @ keys.transpose(-2, -1) * self.scale, dim=-1)
        y: Tensor = self.proj((weights @ values).transpose(1, 2).reshape(-1, tokens, width))
        return y


class Mlp(nn.Module):
    """Two linear layers with a ReLU6 in between."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to [N, tokens, width]."""
        y: Tensor = self.fc2(nn.functional.relu6(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and MLP, each preceded by a layer-norm and added to its input."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _LAYER_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, _LAYER_EPS)
        self.mlp = Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [N, tokens, width]."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class PatchEmbedding(nn.Module):
    """A projection of each patch to one token, row by row."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens [N, tokens, width] of crops [N, 3, 112, 112]."""
        return torch.flatten(self.proj(x), 2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Patches, blocks, a layer-norm, then two linear layers over all tokens."""

    def __init__(
        self, patch: int, width: int, inner: int, blocks: int, heads: int, dimensions: int, masked: bool
    ) -> None:
        super().__init__()
        tokens = (_SIDE // patch) ** 2
        self.patch_embed = PatchEmbedding(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        if masked:  # stored because training masks tokens; unused at inference
            self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, inner) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, _LAYER_EPS)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, _BATCH_EPS),
            nn.Linear(width, dimensions, bias=False),
            nn.BatchNorm1d(dimensions, _BATCH_EPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [N, D], before normalisation, of crops [N, 3, 112, 112]."""
        x = self.patch_embed(x) + self.pos_embed
        embeddings: Tensor = self.feature(torch.flatten(self.norm(self.blocks(x)), 1))
        return embeddings


def _plan(key: tuple[int, int, int, int], dimensions: int = 512, masked: bool = True) -> Plan:
    name, heads = _KNOWN[key]
    color: Color | None = "rgb" if key[0] == _ARCFACE_PATCH else None
    return Plan(
        family="vit",
        architecture=name,
        build=partial(VisionTransformer, *key, heads, dimensions, masked),
        color=color,
    )


def match(shapes: Shapes) -> Plan | None:
    """Return the plan that the keys and shapes describe, or None if the architecture is not a published one."""
    patch, inner = shapes.get("patch_embed.proj.weight", ()), shapes.get("blocks.0.mlp.fc1.weight", ())
    last = shapes.get("feature.2.weight", ())
    if len(patch) != 4 or len(inner) != 2 or len(last) != 2:
        return None
    key = (patch[2], patch[0], inner[0], count(shapes, "blocks.{}.attn.qkv.weight"))
    return _plan(key, last[0], "mask_token" in shapes) if key in _KNOWN else None


KNOWN = [_plan(key, masked=key[0] == _ARCFACE_PATCH) for key in _KNOWN]
