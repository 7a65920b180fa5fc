"""Tuning of a machine that was never tuned: at the end of the commands that make models, or while the service runs."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from models.errors import VultusError
from models.packs import PackStore
from models.runtime import RuntimeOptions
from models.serving.calibrations import CalibrationPlaces
from models.serving.load import Sharing
from models.serving.models import Models
from models.serving.quick_tuning import tune_quickly
from models.serving.tuning import RuntimeChoice, Tuning
from models.types import Progress, no_progress
from service.settings import Settings
from service.startup import chosen_models, load_configured_models

_log = logging.getLogger("vultus")


def tune_if_untuned(settings: Settings, model: Path | None = None, progress: Progress = no_progress) -> Tuning | None:
    """Return the tuning of a model on this machine, measured within 5 s unless it was measured before.

    Args:
        settings: The settings of the service.
        model: Exported artefact; None for the configured model.
        progress: Called before each measurement with the name of the choice.

    Returns:
        The tuning; None if the settings choose how models run or forbid to measure, or a GPU runs them.

    Raises:
        VultusError: The pack is missing, or nothing could be measured.
    """
    if settings.runtime_options != RuntimeOptions(engines=settings.tensorrt_dir) or not settings.runtime.measure:
        return None
    store = PackStore(settings.packs_dir)
    chosen = chosen_models(settings, store)
    return tune_quickly(
        store,
        chosen._replace(model=model or chosen.model),
        settings.detection.options(),
        CalibrationPlaces(settings.calibrations_dir, settings.calibration),
        settings.tunings_dir,
        progress,
    )


def describe_tuning(tuning: Tuning) -> str:
    """Return a sentence that says what runs the models on this machine."""
    recognizer, detector = (_describe(graph.choice) for graph in (tuning.recognizer, tuning.detector))
    return f"on this machine the recognizer runs on {recognizer}, the detector on {detector}"


def _describe(choice: RuntimeChoice) -> str:
    streams = "1 stream" if choice.streams == 1 else f"{choice.streams} streams"
    return f"{choice.engine} in {choice.precision}, {streams}"


class SelfTuning:
    """Measures the models in the background of a service that has no tuning, and switches to the fastest way."""

    def __init__(self, settings: Settings, models: Models, switch: Callable[[Models], None], sharing: Sharing) -> None:
        """Start measuring, if the models were loaded without a tuning.

        Args:
            settings: The settings of the service.
            models: The models that serve now.
            switch: Makes the service use other models from the next request on.
            sharing: How requests share the engines of the other models.
        """
        self._settings, self._switch, self._sharing = settings, switch, sharing
        self._later: Models | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="self-tuning")
        if models.tuning is None and settings.runtime.measure:
            self._thread.start()

    def close(self) -> None:
        """End the measurement after its current step, and close the models that were switched to."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._later is not None:
            self._later.close()

    def _run(self) -> None:
        try:
            tuning = tune_if_untuned(self._settings, progress=self._progress)
            if tuning is None:
                return
            _log.info("measured: %s", describe_tuning(tuning))
            self._later = load_configured_models(self._settings, self._sharing, tuning)
        except _Stopped:
            return
        except VultusError as error:
            _log.warning("the machine could not be measured, so the default engine serves: %s", error)
            return
        self._switch(self._later)

    def _progress(self, *_: object) -> None:
        if self._stopping.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The service ends."""
