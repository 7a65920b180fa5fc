"""`make reference`: export every official network from every wrapper and compare with the official embeddings."""

import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.checkpoint import read_checkpoint
from models.graph import Preprocessing
from tests.accuracy.test_reference import (
    LARGE,
    SMALL,
    golden,
    load_recipe,
    real_checkpoint_error,
    relative,
    run_exported,
)
from tests.conftest import ROOT

WRAPPERS = ("plain", "ddp", "lightning", "lightning-worst", "train-state", "net-state", "safetensors", "cvlface", "hf")
LEGACY = {"net-state", "lightning-worst"}  # saved in the format before PyTorch 1.6; the others are zip files
CVLFACE_ONLY = {"cvlface", "hf"}


def main() -> None:
    """Measure all networks and print the table."""
    console = Console(width=130)
    shared = Path(os.environ.get("VULTUS_SHARED", ROOT.parent / "shared"))
    recipe = load_recipe(shared)
    table = Table("network", "official code", *WRAPPERS, title="largest relative L2 error of three embeddings")
    faces = recipe.images()
    for name in track([*SMALL, *LARGE], console=console):
        specification = golden(shared, name)
        color = specification["preprocessing"]["channel_order"].lower()
        cells = []
        for wrapper in WRAPPERS:
            if wrapper in CVLFACE_ONLY and "model_yaml" not in specification["checkpoint"]:
                cells.append("")
                continue
            with tempfile.TemporaryDirectory() as folder:
                suffix = {"safetensors": ".safetensors", "cvlface": "", "hf": ""}.get(wrapper, ".ckpt")
                path = Path(folder, f"checkpoint{suffix}")
                recipe.build(shared / f"reference/{name}.json", path, wrapper, legacy=wrapper in LEGACY)
                checkpoint = read_checkpoint(path)
                embedding, norm = run_exported(checkpoint.path, checkpoint, Preprocessing(color, 127.5, 127.5), faces)
                cells.append(f"{relative(embedding * norm[:, None], specification['outputs']['embedding']):.1e}")
        table.add_row(specification["architecture"], specification["source"]["project"].split()[0], *cells)
    console.print(table)
    with tempfile.TemporaryDirectory() as folder:
        error = real_checkpoint_error(shared, Path(folder))
    console.print(f"mobilefacenet068, trained weights and real faces: largest relative L2 error {error:.1e}")


if __name__ == "__main__":
    main()
