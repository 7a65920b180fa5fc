"""`vultus demo`: start the service, send real photos over HTTP, show the responses, stop the service."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from PIL import Image, ImageDraw, ImageOps
from rich.table import Table

from models.errors import VultusError
from models.packs import PackStore, find_manifest
from service.cli.output import out
from service.cli.packs import fetch_with_progress
from service.cli.tune import tune_with_progress
from service.settings import load_settings
from service.startup import chosen_models

_START_TIMEOUT_S = 120.0
_REQUEST_TIMEOUT_S = 60.0
_STAGES = ("decode", "detect", "align", "embed")


class DemoFailed(VultusError):
    """The service did not start, or no comparison succeeded."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos to compare.

    Attributes:
        what: Description of the pair, for the tables.
        probe, reference: Paths of the photos.
        faces: Face policy of the request.
    """

    what: str
    probe: Path
    reference: Path
    faces: str


def demo(
    a: Annotated[Path | None, typer.Option("--a", exists=True, dir_okay=False, help="First of your photos.")] = None,
    b: Annotated[Path | None, typer.Option("--b", exists=True, dir_okay=False, help="Second of your photos.")] = None,
) -> None:
    """Compare real photos through the running service.

    Without --a and --b, the demonstration photos are compared. Annotated copies of the photos are written to the data
    directory.
    """
    if (a is None) != (b is None):
        raise typer.BadParameter("give both photos, --a and --b, or neither")
    settings = load_settings()
    store = PackStore(settings.packs_dir)
    for manifest in chosen_models(settings, store).packs:
        fetch_with_progress(store, manifest)
    tune_with_progress(settings)
    annotated = settings.data_dir / "demo"
    annotated.mkdir(parents=True, exist_ok=True)
    if a and b:
        pairs = [Pair(f"{a.name} / {b.name}", a, b, "largest")]
    else:
        pairs = _example_pairs(fetch_with_progress(store, find_manifest("demo-photos")), annotated)
    with _service() as client:
        _show_service(client)
        _show_detections(client, sorted({path for pair in pairs for path in (pair.probe, pair.reference)}), annotated)
        _show_decisions(client, pairs)
    out.print(f"Annotated photos: {annotated}", soft_wrap=True, highlight=False)


def _example_pairs(photos: Path, scratch: Path) -> list[Pair]:
    """Return pairs of the demonstration photos.

    The photos show each person once, so the reference of the mated pair is an altered copy of the probe: half the
    size, rotated, JPEG quality 40.

    Args:
        photos: Directory of the demonstration photos.
        scratch: Directory to which the altered copy is written.
    """
    portrait, group = photos / "astronaut.png", photos / "group.jpg"
    altered = scratch / "astronaut-on-its-side.jpg"
    with Image.open(portrait) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2))
        half.transpose(Image.Transpose.ROTATE_90).save(altered, quality=40)
    return [
        Pair("portrait, altered copy", portrait, altered, "single"),
        Pair("portrait, group", portrait, group, "largest"),
        Pair("portrait, group", portrait, group, "all"),
        Pair("portrait, group", portrait, group, "single"),
    ]


@contextlib.contextmanager
def _service() -> Iterator[httpx2.Client]:
    """Run `vultus serve` on a free local port until the block ends, and yield a client."""
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-c", "from service.cli.main import main; main()", "serve", "--port", "0"]
        scratch = stack.enter_context(tempfile.TemporaryDirectory())  # the user's galleries may be in use
        environment = {
            **os.environ,
            "VULTUS_GALLERY__DIRECTORY": str(Path(scratch) / "galleries"),
            "VULTUS_SECURITY__DIRECTORY": str(Path(scratch) / "security"),  # so that no key is needed
            "VULTUS_ENCRYPTION__DIRECTORY": str(Path(scratch) / "encryption"),
            "VULTUS_LOG__ACCESS": "false",  # nobody reads the lines after the address
        }
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        )
        stack.callback(process.terminate)
        client = httpx2.Client(base_url=_address(process), timeout=_REQUEST_TIMEOUT_S, trust_env=False)
        yield stack.enter_context(client)


def _address(process: "subprocess.Popen[str]") -> str:
    """Return the address on which the service listens, as its log states it.

    Raises:
        DemoFailed: The service ended, or did not listen within the time limit.
    """
    lines = []
    limit = threading.Timer(_START_TIMEOUT_S, process.kill)  # a service that hangs may write nothing
    limit.start()
    try:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            if "running on " in line:
                return line.partition("running on ")[2].split()[0]
    finally:
        limit.cancel()
    raise DemoFailed("the service did not start: " + (lines[-1] if lines else "its log is empty"))


def _show_service(client: httpx2.Client) -> None:
    info = client.get("/v1/info").raise_for_status().json()
    session = info["recognizer"]["session"]
    out.print(
        f"\nVultus {info['version']} serves {info['pack']} with {session['engine']} {session['version']} on "
        f"{session['provider']}, {session['precision']}, {session['threads']} threads\n",
        highlight=False,
        soft_wrap=True,
    )


def _show_detections(client: httpx2.Client, photos: list[Path], annotated: Path) -> None:
    table = Table("photo", "pixels", "faces: x1 y1 x2 y2 (score)", title="POST /v1/detect", title_justify="left")
    for path in photos:
        response = client.post("/v1/detect", files={"images": path.read_bytes()})
        answer = response.json()
        if response.is_error:
            table.add_row(path.name, "", f"{answer['code']}: {answer['detail']}")
            continue
        (item,) = answer["items"]
        boxes = [" ".join(f"{side:4.0f}" for side in face["box"]) + f" ({face['score']:.2f})" for face in item["faces"]]
        table.add_row(path.name, f"{item['width']} x {item['height']}", "\n".join(boxes))
        _annotate(path, item["faces"], annotated / f"{path.stem}-annotated.png")
    out.print(table)


def _show_decisions(client: httpx2.Client, pairs: list[Pair]) -> None:
    decisions = Table("photos", "faces", "similarity", "decision", "FMR", title="POST /v1/verify")
    times = Table("photos", "faces", *_STAGES, "request", title="milliseconds; each stage is the sum over both photos")
    for table in (decisions, times):
        table.title_justify = "left"
    point: dict[str, Any] | None = None
    uncalibrated_because: str | None = None
    for pair in pairs:
        files = {"probe": pair.probe.read_bytes(), "reference": pair.reference.read_bytes()}
        response = client.post("/v1/verify", files=files, data={"faces": pair.faces})
        answer = response.json()
        if response.is_error:
            decisions.add_row(pair.what, pair.faces, "", answer["code"], "")
            continue
        rate = answer["false_match_rate"]
        decisions.add_row(
            pair.what,
            pair.faces,
            f"{answer['similarity']:.3f}",
            answer["decision"] or "uncalibrated",
            "" if rate is None else f"{rate:g}",
        )
        stages = _times(response.headers.get("server-timing", ""))
        spent = [*(stages.get(stage, 0.0) for stage in _STAGES), response.elapsed.total_seconds() * 1000]
        times.add_row(pair.what, pair.faces, *(f"{milliseconds:.1f}" for milliseconds in spent))
        point, uncalibrated_because = answer["operating_point"], answer["uncalibrated_because"]
    out.print(decisions)
    if point is not None:
        low, high = point["interval"]
        out.print(
            f"A match requires a similarity of at least {point['threshold']:.3f} (operating point {point['name']}).\n"
            f"False match rate (FMR): {point['rate']:g}, 95 % interval {low:.1g} to {high:.1g}, measured on\n"
            f"{point['measured_on']}.\n",
            highlight=False,
            soft_wrap=True,
        )
    if uncalibrated_because is not None:
        out.print(f"Decisions are not available: {uncalibrated_because}.\n", highlight=False, soft_wrap=True)
    out.print(times)
    if point is None and not times.rows:
        raise DemoFailed("no comparison succeeded; the table above lists the errors")


def _times(header: str) -> dict[str, float]:
    """Return the milliseconds of each stage in a `Server-Timing` header."""
    entries = (entry.partition(";dur=") for entry in header.split(", ") if entry)
    return {stage: float(spent) for stage, _, spent in entries}


def _annotate(path: Path, faces: list[dict[str, Any]], target: Path) -> None:
    """Write a copy of a photo with the box, the score and the landmarks of each face."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 400))
    for face in faces:
        draw.rectangle(face["box"], outline="#00c853", width=width)
        draw.text(
            (face["box"][0], face["box"][1] - 6 * width),
            f"{face['score']:.2f}",
            fill="#00c853",
            font_size=5 * width,
            stroke_width=1,
            stroke_fill="black",
        )
        for x, y in face["landmarks"]:
            draw.circle((x, y), 1.5 * width, fill="#ff6d00")
    picture.save(target)
