"""Read the weights from checkpoint files of any form, without running code from the file and without torch."""

from models.checkpoint.keys import Located
from models.checkpoint.reading import Checkpoint, Head, Weights, read_checkpoint
from models.checkpoint.selection import ANYWHERE, Selection

__all__ = ["ANYWHERE", "Checkpoint", "Head", "Located", "Selection", "Weights", "read_checkpoint"]
