"""Options that the enrolment commands share, with and without a running service."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Photos = Annotated[
    Path, typer.Argument(help="Directory with a folder of photos for each subject.", exists=True, file_okay=False)
]
IntoGallery = Annotated[str, typer.Option(help="Name of the gallery; created if it does not exist.")]
Listed = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="CSV file with the columns `image` and `subject`, instead of folders; paths relative to DIRECTORY.",
    ),
]
Faces = Annotated[
    Literal["single", "largest", "central"], typer.Option(help="Which face to enrol if a photo has several.")
]
MinFacePx = Annotated[int, typer.Option(min=0, help="Minimum length of the shorter side of a face box in pixels.")]
MinNorm = Annotated[float, typer.Option(min=0, help="Minimum norm of an embedding.")]
MinQuality = Annotated[float, typer.Option(min=0, max=100, help="Minimum quality; requires a validated quality map.")]
Report = Annotated[Path | None, typer.Option(help="CSV file to write, with each refused photo and the reason.")]
