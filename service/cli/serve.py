"""`vultus serve`: check, load, say what runs, answer."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
import uvicorn
from rich.console import Console

from models.assembly import CalibrationPlaces, Models, Sharing, load_models
from models.packs import PackStore, find_manifest
from models.runtime import usable_cores
from models.runtime.threads import leave_cores_to_engines
from service.app import create_app
from service.gallery.galleries import Galleries
from service.memory import keep_memory_small
from service.settings import Settings, load_settings

_IDLE_S = 75  # longer than proxies keep a connection, so that they close it and never send into one that just closed

_log = logging.getLogger("vultus")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    hints: Annotated[bool, typer.Option(help="Print curl lines to paste.")] = False,
) -> None:
    """Serve the pack over HTTP. Never downloads: fetch it first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a body its sender is told
    keep_memory_small(usable_cores())
    leave_cores_to_engines()
    settings = load_settings()
    with open_for_models(settings, sharing_of(settings)) as (galleries, models):
        _announce(models)
        if hints:
            _print_hints(host, port)
        app = create_app(models, galleries, settings)
        signal.signal(signal.SIGTERM, _end)
        uvicorn.run(
            app,
            host=host,
            port=port,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.request.last_answers_s,
            timeout_keep_alive=_IDLE_S,
        )


def _end(*_: object) -> None:
    """End the process in order: uvicorn hands on the signal by which it was stopped, and that would be its death."""
    raise SystemExit(0)


@contextmanager
def open_for_models(
    settings: Settings | None = None, sharing: Sharing | None = None
) -> Iterator[tuple[Galleries, Models]]:
    """Load what the settings name, and open the galleries of the data directory for it."""
    settings = settings or load_settings()
    models = load_configured_models(settings, sharing)
    try:
        galleries = Galleries(
            settings.galleries_dir, models.contract_id, models.recognizer.dimensions, settings.gallery.search_threads
        )
        try:
            yield galleries, models
        finally:
            models.close()  # first: what still computes may want to store
            galleries.close()
    finally:
        models.close()


def sharing_of(settings: Settings) -> Sharing:
    """Say how requests share the engines."""
    return Sharing(settings.request.turns, settings.batching.wait_ms / 1000, settings.batching.largest)


def load_configured_models(settings: Settings, sharing: Sharing | None = None) -> Models:
    """Load what the settings name."""
    return load_models(
        PackStore(settings.packs_dir),
        find_manifest(settings.pack),
        settings.runtime_options,
        settings.detection.options(),
        settings.image.limits(),
        settings.model,
        CalibrationPlaces(settings.calibrations_dir, settings.calibration),
        sharing,
        settings.tunings_dir if sharing else None,
    )


def _announce(models: Models) -> None:
    for name, session in (("recognizer", models.embedder_session), ("detector", models.detector_session)):
        _log.info(
            "%s: %s %s on %s, %s, %d threads in %d streams",
            name,
            session.engine,
            session.version,
            session.provider,
            session.precision,
            session.threads,
            session.streams,
        )
    if models.untuned_because:
        _log.info("not tuned: %s", models.untuned_because)
    _log.info("embedding contract %s", models.contract_id)
    if models.calibrated_otherwise:
        _log.warning("%s: thresholds may be off by some thousandths", models.calibrated_otherwise)
    if models.quality and not models.quality.validated:
        _log.warning("quality is not validated and cannot gate: %s", models.quality.because)
    if models.uncalibrated_because:
        _log.warning("no decisions, similarity only: %s", models.uncalibrated_because)


def _print_hints(host: str, port: int) -> None:
    base = f"http://{host}:{port}"
    lines = [
        f"curl {base}/v1/info",
        f"curl -F images=@one.jpg {base}/v1/detect",
        f"curl -F probe=@one.jpg -F reference=@two.jpg {base}/v1/verify",
        f"curl {base}/v1/galleries -H 'Content-Type: application/json' -d '{{\"gallery\": \"staff\"}}'",
        f"curl -F images=@one.jpg {base}/v1/galleries/staff/subjects/ann/templates",
        f"curl -F images=@two.jpg -F gallery=staff {base}/v1/identify",
        f"curl --data-binary @one.jpg -H 'Content-Type: image/jpeg' '{base}/v1/embed?faces=largest'",
    ]
    Console().print(
        "\nTry, with photos of your own:\n\n  " + "\n  ".join(lines) + "\n", soft_wrap=True, highlight=False
    )
