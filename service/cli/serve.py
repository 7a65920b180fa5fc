"""`vultus serve`: load the models and galleries, log what runs, and serve HTTP."""

import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.runtime import usable_cores
from models.runtime.threads import limit_library_threads
from models.serving.models import Models
from service.allocator import limit_retained_memory
from service.compat.rekognition.similarity import SimilarityScale
from service.logs import configure_logs
from service.metrics.instruments import Metrics
from service.metrics.port import metrics_port
from service.self_tuning import SelfTuning
from service.settings import CompatSettings, load_settings
from service.startup import open_models_and_galleries, sharing_of
from service.tracing.tracer import Tracer

_SWITCH_S = 0.0005  # for which a thread runs Python while others wait; with 0.005, 16 clients got 4 % fewer answers

_log = logging.getLogger("vultus")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 selects a free port.")] = 8000,
    uds: Annotated[Path | None, typer.Option(help="Unix socket to listen on, instead of an address.")] = None,
    hints: Annotated[bool, typer.Option(help="Print example curl commands.")] = False,
) -> None:
    """Serve the pack over HTTP. Nothing is downloaded; run `vultus packs fetch` first."""
    settings = load_settings()
    configure_logs(settings.log)
    limit_retained_memory(usable_cores())
    limit_library_threads()
    sys.setswitchinterval(_SWITCH_S)
    metrics = Metrics()
    tracer = None if settings.trace.endpoint is None else Tracer(settings.trace)
    sharing = sharing_of(settings, metrics, tracer)
    with ExitStack() as opened, ThreadPoolExecutor(1, thread_name_prefix="open") as opener:
        opening = opener.submit(opened.enter_context, open_models_and_galleries(settings, sharing))
        # imported while the engines compile: server, framework and stores take a third of a second
        from service.app import create_app, switch_models
        from service.expiry_watch import ExpiryWatch
        from service.security.opening import is_loopback, open_security
        from service.transport import CertificateWatch, run_server, server_config

        if tracer is not None:
            opened.callback(tracer.close)
        galleries, models = opening.result()
        _announce(models)
        _announce_other_products(settings.compat, models)
        security = opened.enter_context(open_security(settings, is_local=uds is None and is_loopback(host)))
        if hints:
            _print_hints(host, port)
        app = create_app(models, galleries, settings.serving_at(host), *security, metrics, tracer)
        opened.callback(ExpiryWatch(galleries, security.audit, count=metrics.count_events).close)
        opened.callback(SelfTuning(settings, models, partial(switch_models, app), sharing).close)
        if settings.metrics.port is not None:
            opened.enter_context(metrics_port(metrics.registry, settings.metrics.host, settings.metrics.port))
        config = server_config(app, settings, host, port)
        opened.callback(CertificateWatch(config, settings.http).close)
        signal.signal(signal.SIGTERM, _end)
        run_server(config, uds, settings.request.drain_s, app.state.backend.draining.set)


def _end(*_: object) -> None:
    """Exit with status 0. After its shutdown, uvicorn raises the signal again, which would kill the process."""
    raise SystemExit(0)


def _announce(models: Models) -> None:
    recognizer = f"{models.recognizer.name} {_from(models.recognizer_pack)}", models.embedder_session
    detector = f"{models.detector.family} {_from(models.detector_pack)}", models.detector_session
    for role, (name, session) in (("recognizer", recognizer), ("detector", detector)):
        _log.info(
            "%s: %s: %s %s on %s, %s, %d threads in %d streams",
            role,
            name,
            session.engine,
            session.version,
            session.provider,
            session.precision,
            session.threads,
            session.streams,
        )
    if models.untuned_because:
        _log.info("no tuning is used: %s", models.untuned_because)
    _log.info("embedding contract %s", models.contract_id)
    if models.calibration_mismatch:
        _log.warning("%s: thresholds may deviate by a few thousandths", models.calibration_mismatch)
    if models.calibration and models.calibration.lenient_default:
        _log.warning("%s", models.calibration.lenient_default)
    if models.quality and not models.quality.validated:
        _log.warning("quality is not validated and cannot be used as a gate: %s", models.quality.because)
    if models.uncalibrated_because:
        _log.warning("decisions are not available, only similarities: %s", models.uncalibrated_because)


def _announce_other_products(compat: CompatSettings, models: Models) -> None:
    if compat.compreface:
        _log.info("clients of CompreFace are answered; their similarities are: %s", compat.compreface_similarity)
    if compat.rekognition and models.calibration:
        meaning = SimilarityScale.of(models.calibration).meaning
        _log.info("clients of Amazon Rekognition are answered; their similarities mean: %s", meaning)
    wanted = compat.rekognition or (compat.compreface and compat.compreface_similarity == "probability")
    if wanted and models.calibration is None:
        _log.warning("clients of other products get no similarities: %s", models.uncalibrated_because)


def _from(pack: str | None) -> str:
    return "(an exported artefact)" if pack is None else f"of the pack {pack}"


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
        "\nTry these requests with your own photos:\n\n  " + "\n  ".join(lines) + "\n", soft_wrap=True, highlight=False
    )
