"""Read the weights from checkpoint files of any form, without running code from the file and without torch."""

from models.checkpoint.reading import Checkpoint, Head, Weights, read_checkpoint

__all__ = ["Checkpoint", "Head", "Weights", "read_checkpoint"]
