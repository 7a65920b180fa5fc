"""Opening of the configured models and galleries, for the service and for commands that need both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.deadline import Deadline
from models.packs import PackStore
from models.runtime import SessionDescription
from models.runtime.batching import RunObserver
from models.serving.calibrations import CalibrationPlaces
from models.serving.load import Role, Sharing, load_models
from models.serving.models import Models
from models.serving.served import Chosen
from models.serving.tuning import Tuning
from service.gallery.encryption import encryption_of
from service.gallery.galleries import Galleries
from service.metrics.instruments import Metrics
from service.settings import Settings, load_settings
from service.tracing.tracer import Tracer


@contextmanager
def open_models_and_galleries(
    settings: Settings | None = None, sharing: Sharing | None = None
) -> Iterator[tuple[Galleries, Models]]:
    """Load the configured models, open the galleries for them, and close both at the end of the block.

    Raises:
        VultusError: The settings are invalid, or the models or galleries cannot be opened.
    """
    settings = settings or load_settings()
    models = load_configured_models(settings, sharing)
    try:
        galleries = Galleries(
            settings.galleries_dir,
            models.contract_id,
            models.recognizer.dimensions,
            settings.gallery.search_threads,
            max_templates=settings.gallery.max_templates,
            erasure_log=settings.gallery.erasure_log,
            encryption=encryption_of(settings),
        )
        try:
            yield galleries, models
        finally:
            models.close()  # first, because a request that still computes may store a template
            galleries.close()
    finally:
        models.close()


def sharing_of(settings: Settings, metrics: Metrics, tracer: Tracer | None = None) -> Sharing:
    """Return how concurrent requests share runs of the engines, which the metrics count and the tracer records."""

    def observer(role: Role, session: SessionDescription) -> RunObserver:
        count = metrics.run_observer(role, session)
        if tracer is None:
            return count
        record = tracer.run_observer(role, session)

        def observe(images: int, seconds: float, deadlines: Sequence[Deadline | None]) -> None:
            count(images, seconds, deadlines)
            record(images, seconds, deadlines)

        return observe

    batching = settings.batching
    return Sharing(settings.request.workers, batching.wait_ms / 1000, batching.largest, observer)


def chosen_models(settings: Settings, store: PackStore) -> Chosen:
    """Return the models that the settings choose.

    Raises:
        PackUnknown: No pack has a configured name.
        ManifestInvalid: A configured manifest file is not a manifest.
    """
    detector = None if settings.detector is None else store.find(settings.detector)
    return Chosen(store.find(settings.pack), settings.model, detector)


def load_configured_models(
    settings: Settings | None = None, sharing: Sharing | None = None, tuning: Tuning | None = None
) -> Models:
    """Load the configured models.

    Args:
        settings: The settings; None reads them.
        sharing: How requests share runs of the engines; None for a command, which has no requests.
        tuning: Tuning to use instead of a stored one.

    Raises:
        SettingsInvalid: A setting is unknown or has an invalid value.
        PackUnknown: No pack has a configured name.
        ManifestInvalid: A configured manifest file is not a manifest, or a pack lacks the model that is to be served.
        PackMissing: A pack was never fetched.
        PackDamaged: A file of a pack or of the artefact is missing or altered.
        ArtefactUnfit: The recognizer failed its parity proof, or the proof does not cover the configured runtime.
        EngineMissing: The engine is not installed, cannot start, or does not support the device.
        EngineConflict: Several builds of one engine are installed.
        PrecisionUnsupported: The engine or the processor does not support the precision.
        CalibrationUnfit: The configured calibration belongs to another model or cannot be read.
    """
    settings = settings or load_settings()
    store = PackStore(settings.packs_dir)
    chosen = chosen_models(settings, store)
    return load_models(
        store,
        chosen.pack,
        settings.runtime_options,
        settings.detection.options(),
        settings.image.limits(),
        chosen.model,
        CalibrationPlaces(settings.calibrations_dir, settings.calibration),
        sharing,
        settings.tunings_dir if sharing else None,
        settings.comparisons_dir,
        tuning,
        chosen.detector,
    )
