"""`vultus export` and `vultus import`: turn a checkpoint or a published graph into a proven artefact."""

import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.table import Table

from models.alignment import TEMPLATES, AlignmentTemplate
from models.artefact.directories import link_target
from models.artefact.proof import LabelledScore, Proof
from models.checkpoint import Selection
from models.errors import ParityFailed, VultusError
from models.export.destination import require_destination
from models.export.exporter import Exported, Exporter, ExportSpec
from models.export.steps import SourceSpec
from models.graph.quantize import WeightBits
from models.hub import is_reference
from models.packs import PackStore
from models.pipeline import FaceCropper
from models.serving.load import load_detector
from models.text import printable
from service.cli.hub import local_checkpoint, local_graph
from service.cli.options import Member, Prefix
from service.cli.output import err, out, progress_bars, say
from service.cli.tune import tune_with_progress
from service.self_tuning import describe_tuning
from service.settings import load_settings

Color = Literal["rgb", "bgr"]

_SHORT = {"onnxruntime": "ort"}  # the table fits into 80 columns

Checkpoint = Annotated[
    str,
    typer.Argument(
        help="Checkpoint file of any name, directory with model.pt, or hf:OWNER/REPO[@REVISION][/FILE] on the Hugging "
        "Face Hub."
    ),
]
Published = Annotated[
    str,
    typer.Argument(help="Recognizer in ONNX, from one image to an embedding, or hf:OWNER/REPO[@REVISION][/FILE]."),
]
OutputName = Annotated[
    str | None, typer.Option("--output", help="Output with the embedding, if the file has several that may be it.")
]
Out = Annotated[Path, typer.Option("--out", help="Directory to write the artefact to.")]
Name = Annotated[str | None, typer.Option(help="Name on the card; default: the name of the directory.")]
Licence = Annotated[str, typer.Option(help="Licence of the weights, for the card.")]
Precisions = Annotated[
    str, typer.Option("--precision", help="fp32, fp16, int8, separated by commas; fp32 is always exported.")
]
ColorOption = Annotated[Color | None, typer.Option(help="Colour order that the network was trained in.")]
Numbers = Annotated[str | None, typer.Option(help="One number, or three separated by commas, for pixels of 0..255.")]
TemplateName = Annotated[str | None, typer.Option(help="Alignment template, such as arcface-112.")]
Mirror = Annotated[
    bool, typer.Option("--mirror", help="Add the embedding of the mirrored image; inference takes twice as long.")
]
LayoutOption = Annotated[
    Literal["vultus", "insightface"], typer.Option(help="insightface: a file that ArcFaceONNX of insightface loads.")
]
Calibration = Annotated[
    Path | None, typer.Option("--calibration-images", help="Directory of photos or aligned crops; required for int8.")
]
WeightBitsOption = Annotated[
    str | None,
    typer.Option(
        "--weight-bits",
        help="Bits of the int8 weights, 7 or 8. 7 is for processors without VNNI, which saturate with 8; default: 7 on "
        "such a processor, else 8.",
    ),
]
LabelledSet = Annotated[
    Path | None,
    typer.Option("--labelled", help="Labelled set to measure: pairs.txt and images/, in the layout of LFW."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace an existing artefact when the new one is complete; its calibration is kept."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the proof as JSON.")]


def export(
    checkpoint: Checkpoint,
    out: Out,
    name: Name = None,
    licence: Licence = "not stated",
    precision: Precisions = "fp32",
    color: ColorOption = None,
    mean: Numbers = None,
    std: Numbers = None,
    template: TemplateName = None,
    mirror: Mirror = False,
    builder: Annotated[
        str | None, typer.Option(help="package.module:callable that builds a network of an unknown architecture.")
    ] = None,
    member: Member = None,
    prefix: Prefix = None,
    layout: LayoutOption = "vultus",
    calibration: Calibration = None,
    weight_bits: WeightBitsOption = None,
    labelled: LabelledSet = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn a trained checkpoint into a proven artefact."""
    numbers = _numbers(mean), _numbers(std, positive=True)
    selection, named_template = Selection(member, prefix), _template(template)
    precisions = _precisions(precision)
    bits = _weight_bits(weight_bits, precisions)
    _require_free(out, checkpoint, force)
    path, origin = local_checkpoint(checkpoint)
    source = SourceSpec(path, color, *numbers, named_template, mirror, builder, selection, origin=origin)
    spec = ExportSpec(
        source, out, name or out.name, licence, precisions, layout, calibration, labelled, force, False, bits
    )
    _run(spec, as_json)


def import_onnx(
    graph: Published,
    out: Out,
    name: Name = None,
    licence: Licence = "not stated",
    precision: Precisions = "fp32",
    color: ColorOption = None,
    mean: Numbers = None,
    std: Numbers = None,
    template: TemplateName = None,
    mirror: Mirror = False,
    output: OutputName = None,
    layout: LayoutOption = "vultus",
    calibration: Calibration = None,
    weight_bits: WeightBitsOption = None,
    labelled: LabelledSet = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn an ONNX recognizer into a proven artefact."""
    numbers, named_template = (_numbers(mean), _numbers(std, positive=True)), _template(template)
    precisions = _precisions(precision)
    bits = _weight_bits(weight_bits, precisions)
    _require_free(out, graph, force)
    with local_graph(graph) as (path, origin):
        source = SourceSpec(path, color, *numbers, named_template, mirror, output=output, origin=origin)
        spec = ExportSpec(
            source, out, name or out.name, licence, precisions, layout, calibration, labelled, force, True, bits
        )
        _run(spec, as_json)


def _require_free(out: Path, source: str, force: bool) -> None:
    """Refuse a directory that cannot be written to before a download, instead of after it."""
    if is_reference(source):
        require_destination(link_target(out), Path(source), force)


def _run(spec: ExportSpec, as_json: bool) -> None:
    with progress_bars(one_line=True) as progress:
        _exit_on_signals()
        exported = Exporter(spec, _make_cropper, progress).run()
    for note in exported.notes:
        err.print(printable(note), highlight=False, soft_wrap=True, markup=False)
    if as_json:
        out.print_json(data=exported.proof.record())
    else:
        show_proof(exported)
    if not exported.proof.passed:
        raise ParityFailed(f"{exported.path} failed its parity proof; it is marked as failed and will not be served")
    if exported.card.layout == "vultus":
        _tune(exported.path)


def _exit_on_signals() -> None:
    """Let SIGTERM, and SIGHUP of a closed terminal, end the command as an exception, which removes scratch files."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # the convention of shells


def _tune(artefact: Path) -> None:
    """Measure an artefact on this machine, so that the service runs it on the fastest engine from the first request."""
    try:
        tuning = tune_with_progress(load_settings(), artefact)
    except VultusError as error:  # the artefact is complete; the service measures it at its start
        err.print(f"not measured on this machine: {error}", highlight=False, soft_wrap=True, markup=False)
        return
    if tuning is not None:
        err.print(describe_tuning(tuning), highlight=False, soft_wrap=True, markup=False)


def show_proof(exported: Exported) -> None:
    """Print a description of the artefact and its parity proof."""
    card, proof = exported.card, exported.proof
    say(
        f"{card.name}: {card.family} {card.architecture}, {card.dimensions} dimensions, "
        f"{card.preprocessing['color']} ({card.color_from})"
    )
    out.print(_parity_table(proof))
    say(f"compared with {proof.reference['runtime']} on {proof.pictures}")
    say(f"instruction set of this processor: {', '.join(sorted({row.isa for row in proof.rows}))}")
    say("spread: distance between the embeddings of different images, relative to the source network")
    if proof.labelled_reference is not None:
        out.print(_labelled_table(proof, proof.labelled_reference))
    for row in proof.rows:
        if not row.passed:
            label = "failed" if row.asked else "not served"
            say(f"{row.precision} on {row.engine}: {label}: {'; '.join(row.why)}")
    for file, weight_bits in card.weight_bits.items():
        say(f"{file}: weights of {weight_bits} bits")
    for file, layers in card.higher_precision.items():
        if layers:
            say(f"{file}: {len(layers)} layers in higher precision, listed on the card")
    say(str(exported.path))


def _parity_table(proof: Proof) -> Table:
    table = Table(
        *(
            "graph",
            "engine",
            "rel. L2\nworst",
            "\nmean",
            "cosine\nworst",
            "\nmean",
            "norm\ndrift",
            "flips",
            "spread",
            "",
        ),
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    for row in proof.rows:
        cells = [""] * 7
        if (parity := row.parity) is not None:
            cells = [
                f"{parity.worst_relative_l2:.1e}",
                f"{parity.mean_relative_l2:.1e}",
                f"{parity.worst_cosine:.6f}",
                f"{parity.mean_cosine:.4f}",
                f"{parity.worst_norm_drift:.1e}",
                f"{parity.flipped}/{parity.pairs}",
                f"{parity.spread / parity.reference_spread:.0%}",
            ]
        verdict = "[green]pass" if row.passed else "[red]FAIL" if row.asked else "[yellow]off"
        table.add_row(row.precision, _SHORT.get(row.engine, row.engine), *cells, verdict)
    return table


def _labelled_table(proof: Proof, reference: LabelledScore) -> Table:
    table = Table(
        "graph", "engine", "10-fold accuracy", "FNMR at FMR 1e-3", title=proof.labelled_set, box=box.SIMPLE_HEAD
    )
    scores = [("source network", proof.reference["runtime"].split()[0], reference)]
    scores += [(row.precision, _SHORT.get(row.engine, row.engine), row.labelled) for row in proof.rows if row.labelled]
    for graph, engine, score in scores:
        table.add_row(graph, engine, f"{score.accuracy:.2%}", "" if score.fnmr is None else f"{score.fnmr:.4f}")
    return table


def _make_cropper(template: AlignmentTemplate) -> FaceCropper:
    """Return a cropper with the configured detector, whose pack must be fetched already."""
    settings = load_settings()
    store = PackStore(settings.packs_dir)
    detector = load_detector(store, store.find(settings.detector or settings.pack), settings.detection.options())
    return FaceCropper(detector, template, settings.image.limits())


def _numbers(text: str | None, positive: bool = False) -> float | tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither one number nor three separated by commas") from None
    if len(values) not in (1, 3) or not all(abs(value) < 1e6 for value in values):
        raise typer.BadParameter(f"{text!r} is neither one number nor three separated by commas")
    if positive and min(values) < 1:
        raise typer.BadParameter(
            f"{text!r} is too small for pixel values 0..255; multiply a standard deviation of values 0..1 by 255"
        )
    return values[0] if len(values) == 1 else (values[0], values[1], values[2])


def _template(name: str | None) -> str | None:
    if name is not None and name not in TEMPLATES:
        raise typer.BadParameter(f"unknown template {name!r}; available templates: {', '.join(TEMPLATES)}")
    return name


def _weight_bits(text: str | None, precisions: Collection[str]) -> WeightBits | None:
    bits: dict[str | None, WeightBits | None] = {None: None, "7": 7, "8": 8}
    if text not in bits:
        raise typer.BadParameter(f"unknown number of weight bits {text!r}; available numbers: 7, 8")
    if text is not None and "int8" not in precisions:
        raise typer.BadParameter("--weight-bits applies to int8 graphs; add int8 to --precision")
    return bits[text]


def _precisions(text: str) -> tuple[Literal["fp32", "fp16", "int8"], ...]:
    requested = [word.strip() for word in text.split(",") if word.strip()]
    order: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32", "fp16", "int8")
    unknown = sorted(set(requested) - set(order))
    if unknown:
        raise typer.BadParameter(f"unknown precision {unknown[0]!r}; available precisions: {', '.join(order)}")
    return tuple(precision for precision in order if precision in requested)
