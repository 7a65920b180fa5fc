"""Safe reading of checkpoint files: weights out of any wrapper, and no code of a file is ever run. Needs no torch."""

from models.checkpoint.reading import Checkpoint, Head, Weights, read_checkpoint

__all__ = ["Checkpoint", "Head", "Weights", "read_checkpoint"]
