"""Torch definitions of the networks that checkpoints are loaded into. Only the exporter uses them; see `catalogue`."""

from models.backbones.locating import locate, recognise
from models.backbones.plan import Plan, Shapes

__all__ = ["Plan", "Shapes", "locate", "recognise"]
