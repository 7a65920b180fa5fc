"""`vultus evaluate`: measure the error rates of the served model on published sets and on your own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from models.evaluation.model import EvaluatedModel
from models.evaluation.protocols.bin_set import evaluate_bin
from models.evaluation.protocols.ijb import Variant, evaluate_ijb_1n, evaluate_ijb_11
from models.evaluation.protocols.lfw_view2 import evaluate_lfw_view2
from models.evaluation.protocols.user_pictures import evaluate_pairs, evaluate_pictures, evaluate_search
from models.evaluation.reports.document import Evaluation
from models.evaluation.sets.ijb import IjbName
from models.evaluation.sets.user_pictures import read_folders, read_pair_list, read_set
from service.cli.measuring import CohortFileOption, DirectoryArgument, ListedOption, PolicyOption, measured

app = typer.Typer(help="Measure the error rates of the served model.", no_args_is_help=True, add_completion=False)

Found = Sequence[Evaluation]


@app.command()
@measured
def lfw(
    model: EvaluatedModel,
    directory: DirectoryArgument,
    faces: PolicyOption = "central",
    cohorts: CohortFileOption = None,
) -> Found:
    """Measure LFW View 2, end to end from photos. DIRECTORY has pairs.txt and images/."""
    return [evaluate_lfw_view2(model, directory, faces, cohorts)]


@app.command("bin")
@measured
def bin_sets(
    model: EvaluatedModel,
    files: Annotated[
        list[Path], typer.Argument(help="Files of the sets, such as lfw.bin, cfp_fp.bin and agedb_30.bin.")
    ],
) -> Found:
    """Measure the aligned sets of insightface: 10-fold accuracy, as the official code computes it."""
    return [evaluate_bin(model, path) for path in files]


@app.command()
@measured
def ijb(
    model: EvaluatedModel,
    directory: DirectoryArgument,
    name: Annotated[IjbName, typer.Option("--set", help="Name of the set.")],
    variant: Annotated[
        Variant,
        typer.Option(help="insightface weights an image by its norm and detector score, adaface by its norm."),
    ] = "insightface",
    protocol: Annotated[
        Literal["1:1", "1:N", "both"], typer.Option(help="Verification, identification or both.")
    ] = "1:1",
) -> Found:
    """Measure IJB-B or IJB-C in the official layout. DIRECTORY has loose_crop/ and meta/."""
    evaluations = []
    if protocol != "1:N":
        evaluations.append(evaluate_ijb_11(model, directory, name, variant))
    if protocol != "1:1":
        evaluations.append(evaluate_ijb_1n(model, directory, name, variant))
    return evaluations


@app.command()
@measured
def pictures(
    model: EvaluatedModel,
    directory: DirectoryArgument,
    listed: ListedOption = None,
    faces: PolicyOption = "single",
    pairs: Annotated[
        int | None,
        typer.Option(min=1, max=5_000_000, help="Number of pairs of each kind to sample; default: all pairs."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    cohorts: CohortFileOption = None,
) -> Found:
    """Compare all pairs of your own pictures. DIRECTORY has a folder for each subject."""
    return [evaluate_pictures(model, read_set(directory, listed), faces, pairs, seed, cohorts)]


@app.command("pairs")
@measured
def listed_pairs(
    model: EvaluatedModel,
    listing: Annotated[Path, typer.Argument(help="CSV file with the columns `first`, `second` and `mated` (1 or 0).")],
    directory: Annotated[
        Path,
        typer.Option("--images", help="Directory of the pictures in the CSV file.", exists=True, file_okay=False),
    ],
    faces: PolicyOption = "single",
    cohorts: CohortFileOption = None,
) -> Found:
    """Compare the pairs that a CSV file lists."""
    return [evaluate_pairs(model, read_pair_list(listing, directory), faces, cohorts)]


@app.command()
@measured
def search(
    model: EvaluatedModel,
    gallery: Annotated[
        Path,
        typer.Argument(help="Directory with a folder for each subject to enrol.", exists=True, file_okay=False),
    ],
    probes: Annotated[
        Path,
        typer.Argument(help="Directory with a folder for each subject, enrolled or not.", exists=True, file_okay=False),
    ],
    faces: PolicyOption = "single",
) -> Found:
    """Measure open-set search (1:N) on your own pictures, with probes of enrolled and of other subjects."""
    return [evaluate_search(model, read_folders(gallery), read_folders(probes), faces)]
