"""Everything that can be set, by environment variables `VULTUS_…`; read once, passed on, never changed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.detection import DetectionOptions
from models.errors import VultusError
from models.imaging import ImageLimits
from models.runtime import RuntimeOptions, usable_cores

PREFIX = "VULTUS_"

_TESTS_ONLY = {"VULTUS_SHARED"}  # where the test suite finds its data


class SettingsInvalid(VultusError):
    """An environment variable is unknown or has a value that cannot be used."""

    code = "settings_invalid"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeSettings(_Group):
    """How graphs are run."""

    engine: Annotated[
        Literal["auto", "openvino", "onnxruntime", "onnxruntime-tensorrt", "tensorrt"],
        Field(
            description="`auto`: as tuned, else OpenVINO on the CPU and ONNX Runtime on CUDA; `tensorrt`: engines of "
            "`vultus engine`"
        ),
    ] = "auto"
    device: Annotated[Literal["cpu", "cuda"], Field(description="where to compute")] = "cpu"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"],
        Field(description="`auto`: as tuned, else bf16 where engine and processor have it and the proof covers it"),
    ] = "auto"
    threads: Annotated[int, Field(ge=0, description="threads of all runs on the CPU; 0: all cores")] = 0
    streams: Annotated[
        int, Field(ge=0, description="runs side by side, which share the threads; 0: as tuned, else one")
    ] = 0

    def options(self) -> RuntimeOptions:
        """Return what the inference core takes."""
        return RuntimeOptions(self.engine, self.device, self.precision, self.threads, self.streams)


class ImageSettings(_Group):
    """What is refused before it is decoded."""

    max_bytes: Annotated[int, Field(gt=0, description="largest encoded image")] = ImageLimits().max_bytes
    max_pixels: Annotated[int, Field(gt=0, description="most pixels, read from the header")] = ImageLimits().max_pixels
    min_side_px: Annotated[int, Field(gt=0, description="shortest side")] = ImageLimits().min_side_px

    def limits(self) -> ImageLimits:
        """Return what the inference core takes."""
        return ImageLimits(self.max_bytes, self.max_pixels, self.min_side_px)


class DetectionSettings(_Group):
    """How closely photos are looked at."""

    max_side_px: Annotated[
        int, Field(ge=384, le=2048, description="longest side at which a photo is looked at; a multiple of 128")
    ] = DetectionOptions().max_side_px
    max_faces: Annotated[int, Field(gt=0, description="most faces of one photo")] = DetectionOptions().max_faces

    @field_validator("max_side_px")
    @classmethod
    def _fits_the_strides(cls, value: int) -> int:
        if value % 128:
            raise ValueError("it must be a multiple of 128")
        return value

    def options(self) -> DetectionOptions:
        """Return what the inference core takes."""
        return DetectionOptions(self.max_side_px, self.max_faces)


class RequestSettings(_Group):
    """What one request may ask for."""

    max_bytes: Annotated[int, Field(gt=0, description="largest request body, or line of a streamed one")] = 64 * 2**20
    max_images: Annotated[int, Field(gt=0, description="most images of one request")] = 64
    max_embeddings: Annotated[int, Field(gt=0, description="most embeddings of one request")] = 1024
    concurrency: Annotated[
        int | None, Field(gt=0, description="requests that compute at the same time; without it, two for each core")
    ] = None
    waiting: Annotated[
        int | None,
        Field(
            ge=0,
            description="requests that wait for their turn, beyond which 429; without it, six for each core, hardly "
            "any while more come than can be answered",
        ),
    ] = None
    timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="longest time of a request, beyond which 504; clients may ask for less"),
    ] = 30.0

    buffered_bytes: Annotated[int, Field(gt=0, description="bytes of all bodies in memory, beyond which 429")] = (
        512 * 2**20
    )
    last_answers_s: Annotated[
        int, Field(ge=0, le=3600, description="seconds in which what was taken is answered at the end")
    ] = 25

    @property
    def workers(self) -> int:
        """Requests that compute at the same time."""
        return self.concurrency or 2 * usable_cores()

    @property
    def places(self) -> int:
        """Requests that are let in."""
        return self.workers + (6 * usable_cores() if self.waiting is None else self.waiting)

    @property
    def pressed_places(self) -> int:
        """Requests that are let in while more come than can be answered: unless set, no more than keep turns taken."""
        return self.places if self.waiting is not None else self.workers + max(1, self.workers // 4)


class CacheSettings(_Group):
    """What is remembered in memory."""

    references: Annotated[
        int, Field(ge=0, description="faces of reference photos of verify that are remembered; 0: none")
    ] = 256
    lifetime_s: Annotated[float, Field(gt=0, description="longest time for which they are")] = 600.0


class BatchingSettings(_Group):
    """How faces and photos of several requests share runs of the engine."""

    largest: Annotated[
        int | None, Field(gt=0, le=32, description="most faces of one run; without it, as tuned, else 8")
    ] = None
    wait_ms: Annotated[
        float, Field(ge=0, le=1000, description="longest wait for company, under a load that promises it")
    ] = 2.0


class GallerySettings(_Group):
    """Where galleries lie and how they are searched."""

    directory: Annotated[
        Path | None, Field(description="where galleries lie; without it, `galleries` in the data directory")
    ] = None
    search_threads: Annotated[int, Field(ge=0, description="threads that search galleries; 0: all cores")] = 0


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", case_sensitive=False
    )

    data_dir: Annotated[Path, Field(description="where packs and everything else that is kept lies")] = Field(
        default_factory=lambda: platformdirs.user_data_path("vultus")
    )
    pack: Annotated[str, Field(description="name of the pack that is served")] = "opencv-zoo"
    model: Annotated[
        Path | None,
        Field(description="an exported artefact, served in place of the pack's recognizer"),
    ] = None
    calibration: Annotated[
        Path | None,
        Field(description="a calibration to use, refused if it is of another model; else the model's own is found"),
    ] = None
    runtime: RuntimeSettings = RuntimeSettings()
    image: ImageSettings = ImageSettings()
    detection: DetectionSettings = DetectionSettings()
    request: RequestSettings = RequestSettings()
    batching: BatchingSettings = BatchingSettings()
    cache: CacheSettings = CacheSettings()
    gallery: GallerySettings = GallerySettings()

    @property
    def packs_dir(self) -> Path:
        """Where packs lie."""
        return self.data_dir / "packs"

    @property
    def calibrations_dir(self) -> Path:
        """Where the user's own calibrations lie."""
        return self.data_dir / "calibrations"

    @property
    def runtime_options(self) -> RuntimeOptions:
        """How graphs are run."""
        return replace(self.runtime.options(), engines=self.data_dir / "tensorrt")

    @property
    def tunings_dir(self) -> Path:
        """Where lies what was measured of this machine."""
        return self.data_dir / "tunings"

    @property
    def galleries_dir(self) -> Path:
        """Where galleries lie."""
        return self.gallery.directory or self.data_dir / "galleries"


def load_settings() -> Settings:
    """Read the settings and refuse names that do not exist.

    Raises:
        SettingsInvalid: A name is unknown or a value cannot be used; the message names the variable.
    """
    names = {name.upper() for name in os.environ}
    known = {variable for variable, _, _ in describe_settings()} | _TESTS_ONLY
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsInvalid(f"{unknown[0]} is no setting; there are {', '.join(sorted(known - _TESTS_ONLY))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsInvalid(f"{variable}: {first['msg']}") from error


def describe_settings() -> Iterator[tuple[str, str, str]]:
    """List every setting as (variable, default, description)."""
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            for inner, inner_field in group.model_fields.items():
                variable = f"{PREFIX}{name}__{inner}".upper()
                yield variable, _default(inner_field), inner_field.description or ""
        else:
            yield f"{PREFIX}{name}".upper(), _default(field), field.description or ""


def _default(field: Any) -> str:
    if field.default_factory:
        return "the user's data directory"
    return "none" if field.default is None else str(field.default)
