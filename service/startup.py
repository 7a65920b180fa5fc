"""Opening what the settings name: models and galleries, for the service and for commands that need both."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.packs import PackStore, find_manifest
from models.serving.calibrations import CalibrationPlaces
from models.serving.load import Sharing, load_models
from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.settings import Settings, load_settings


@contextmanager
def open_models_and_galleries(
    settings: Settings | None = None, sharing: Sharing | None = None
) -> Iterator[tuple[Galleries, Models]]:
    """Load the models that the settings name, and open the galleries of the data directory for them."""
    settings = settings or load_settings()
    models = load_configured_models(settings, sharing)
    try:
        galleries = Galleries(
            settings.galleries_dir, models.contract_id, models.recognizer.dimensions, settings.gallery.search_threads
        )
        try:
            yield galleries, models
        finally:
            models.close()  # first: a request that still computes may want to store its result
            galleries.close()
    finally:
        models.close()


def sharing_of(settings: Settings) -> Sharing:
    """Return how concurrent requests share the runs of the engines."""
    return Sharing(settings.request.workers, settings.batching.wait_ms / 1000, settings.batching.largest)


def load_configured_models(settings: Settings | None = None, sharing: Sharing | None = None) -> Models:
    """Load the models that the settings name.

    Raises:
        PackMissing, PackDamaged, ArtefactUnfit: The pack or the artefact cannot be served.
        EngineMissing, EngineConflict, PrecisionUnsupported: The engine is not available.
        CalibrationUnfit: The calibration that was named is not of this model.
    """
    settings = settings or load_settings()
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
