"""Torch definitions of the networks that checkpoints are read into; the exporter's only. See `catalogue`."""

from models.backbones.catalogue import recognise
from models.backbones.plan import Plan, Shapes

__all__ = ["Plan", "Shapes", "recognise"]
