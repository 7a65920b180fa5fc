"""Settings, read once from the environment variables `VULTUS_…`; they are immutable and passed as an argument."""

import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.detection import DetectionOptions
from models.errors import VultusError
from models.imaging import ImageLimits
from models.runtime import RuntimeOptions, usable_cores
from models.runtime.session import Device, Engine, Precision
from service.compat.compreface.similarity import CompreFaceSimilarity

PREFIX = "VULTUS_"

_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_ORIGIN = re.compile(r"\*|[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_OTHERS = {
    "VULTUS_SHARED",  # directory of the data of the test suite
    "VULTUS_CLIENT_URL",  # of `service.client` and `vultus remote`, which may run where a service does
    "VULTUS_CLIENT_KEY",
}


class SettingsInvalid(VultusError):
    """An environment variable is unknown or has an invalid value."""

    code = "settings_invalid"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeSettings(_Group):
    """How models are run."""

    engine: Annotated[
        Literal["auto", Engine],
        Field(
            description="inference engine; `auto`: as tuned, otherwise OpenVINO on the CPU and ONNX Runtime on CUDA; "
            "`tensorrt`: engines built by `vultus engine`"
        ),
    ] = "auto"
    device: Annotated[
        str,
        Field(
            pattern=r"^(cpu|cuda|all|cuda:all|cuda:[0-9]{1,3}(,[0-9]{1,3})*)$",
            description="device for inference: `cpu`; `cuda`, the first GPU; `cuda:0,1`, these GPUs; `all`, all GPUs",
        ),
    ] = "cpu"
    precision: Annotated[
        Literal["auto", Precision],
        Field(
            description="precision of inference; `auto`: as tuned, otherwise bf16 on a CPU and fp16 on a GPU, if the "
            "engine and the processor support it and the parity proof covers it, otherwise fp32; `tf32`: fp32 with "
            "TF32 products, on a GPU"
        ),
    ] = "auto"
    threads: Annotated[int, Field(ge=0, description="CPU threads for inference; 0: one for each core")] = 0
    streams: Annotated[
        int, Field(ge=0, description="concurrent runs of a model, which share the threads; 0: as tuned, otherwise one")
    ] = 0

    measure: Annotated[
        bool,
        Field(
            description="whether a machine that was never tuned is measured for up to 5 s: by commands that make "
            "models, or after the start of the service, beside the requests; the fastest proven engine and precision "
            "serve then"
        ),
    ] = True

    def options(self) -> RuntimeOptions:
        """Return the runtime options of the inference core."""
        device: Device = "cpu" if self.device == "cpu" else "cuda"
        options = RuntimeOptions(self.engine, device, self.precision, self.threads, self.streams)
        return replace(options, gpus=_gpus(self.device))


def _gpus(device: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that a device names, each once; none for all GPUs."""
    if device in ("all", "cuda:all"):
        return ()
    numbers = device.partition(":")[2] or "0"
    return tuple(sorted({int(number) for number in numbers.split(",")}))


class ImageSettings(_Group):
    """Limits of images, checked before they are decoded."""

    max_bytes: Annotated[int, Field(gt=0, description="maximum size of an encoded image")] = ImageLimits().max_bytes
    max_pixels: Annotated[
        int, Field(gt=0, description="maximum number of pixels of an image, read from its header")
    ] = ImageLimits().max_pixels
    min_side_px: Annotated[int, Field(gt=0, description="minimum width and height of an image")] = (
        ImageLimits().min_side_px
    )

    def limits(self) -> ImageLimits:
        """Return the image limits of the inference core."""
        return ImageLimits(self.max_bytes, self.max_pixels, self.min_side_px)


class DetectionSettings(_Group):
    """How faces are detected."""

    max_side_px: Annotated[
        int,
        Field(
            ge=384,
            le=2048,
            description="length to which the longer side of larger photos is reduced for detection; a multiple of 128",
        ),
    ] = DetectionOptions().max_side_px
    max_faces: Annotated[
        int, Field(gt=0, description="maximum number of faces in a photo; those with the highest score are kept")
    ] = DetectionOptions().max_faces

    @field_validator("max_side_px")
    @classmethod
    def _is_multiple_of_128(cls, value: int) -> int:
        if value % 128:
            raise ValueError("the value must be a multiple of 128")
        return value

    def options(self) -> DetectionOptions:
        """Return the detection options of the inference core."""
        return DetectionOptions(self.max_side_px, self.max_faces)


Words = Annotated[tuple[str, ...], NoDecode]
"""Words separated by commas."""


class HttpSettings(_Group):
    """Connections: which are accepted, how they are encrypted, and what they may hold."""

    trusted_hosts: Annotated[
        Words,
        Field(
            description="names of this service in the header `Host`, separated by commas, beside loopback names and IP "
            "addresses; `*.example.org` for all names below it, `*` for all names"
        ),
    ] = ()
    console: Annotated[
        bool, Field(description="whether `/console` is served, the page for people; it has the rights of their keys")
    ] = True
    cors_origins: Annotated[
        Words,
        Field(
            description="origins whose web pages may use this service, such as `https://example.org`, separated by "
            "commas; `*` for all; if unset, pages of other origins cannot"
        ),
    ] = ()
    trusted_proxies: Annotated[
        Words,
        Field(
            description="addresses or networks of proxies, separated by commas, whose header `X-Forwarded-For` states "
            "the client; if unset, that header is ignored, because any client can send it"
        ),
    ] = ()
    root_path: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?$",
            description="path under which a proxy offers the service and which it removes, such as `/faces`",
        ),
    ] = ""
    tls_certificate: Annotated[
        Path | None,
        Field(
            description="file of the certificate and its chain (PEM); if set, the service speaks HTTPS only, and reads "
            "the files again when they change"
        ),
    ] = None
    tls_key: Annotated[Path | None, Field(description="file of the certificate's private key (PEM)")] = None
    tls_client_ca: Annotated[
        Path | None,
        Field(description="file of the authorities (PEM) that sign client certificates; if set, clients need one"),
    ] = None
    max_connections: Annotated[
        int,
        Field(
            gt=0,
            description="maximum number of open connections, each of which takes memory and a file descriptor; further "
            "ones are answered with 503",
        ),
    ] = 4096
    max_head_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="maximum size of the head of a request, which is parsed before its key is known; browsers with "
            "many cookies send some kilobytes",
        ),
    ] = 2**16
    head_s: Annotated[
        float,
        Field(
            gt=0,
            description="time in seconds in which the head of a request must arrive, so that slow clients cannot hold "
            "connections",
        ),
    ] = 30.0
    keep_alive_s: Annotated[
        int,
        Field(
            gt=0,
            description="time in seconds after which an idle connection is closed; longer than proxies keep theirs "
            "(usually 60), so that a proxy never sends on a closed one",
        ),
    ] = 75

    @field_validator("trusted_hosts", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("trusted_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a host; give it without scheme, port and path")
        return names

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; give scheme, host and port, as https://example.org")
        return tuple(origin.lower() for origin in origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{proxy!r} is neither an address nor a network: {error}") from error
        return proxies

    @model_validator(mode="after")
    def _has_key_of_certificate(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set both VULTUS_HTTP__TLS_CERTIFICATE and VULTUS_HTTP__TLS_KEY, or neither")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("client certificates need TLS: set VULTUS_HTTP__TLS_CERTIFICATE and VULTUS_HTTP__TLS_KEY")
        return self


class SecuritySettings(_Group):
    """Who may use the service."""

    keys: Annotated[
        Literal["auto", "required", "off"],
        Field(
            description="whether requests need a key; `auto`: yes, except those of programs on this machine to a "
            "service on a loopback address, until the first key is made; `required`: always; `off`: never, if a proxy "
            "checks who sends requests"
        ),
    ] = "auto"
    directory: Annotated[
        Path | None,
        Field(description="directory of the keys and the audit log; if unset, `security` in the data directory"),
    ] = None
    secret_file: Annotated[
        Path | None,
        Field(
            description="file of the server secret, 64 hexadecimal digits, under which keys are stored; if unset, "
            "`server.secret` beside the keys, made at the first start"
        ),
    ] = None


class EncryptionSettings(_Group):
    """Encryption at rest of the galleries; a master key from one of three sources switches it on."""

    master_key_file: Annotated[
        Path | None,
        Field(
            description="file of the master key, under which the galleries are encrypted: 32 random bytes as 64 "
            "hexadecimal digits or base64; made at the first start if it is missing while nothing is encrypted"
        ),
    ] = None
    master_key: Annotated[
        SecretStr | None, Field(description="the master key itself; a file is seen by fewer programs")
    ] = None
    master_key_command: Annotated[
        str | None,
        Field(
            description="command that prints the master key, such as a call of a key management service; run without a "
            "shell at each start"
        ),
    ] = None
    directory: Annotated[
        Path | None,
        Field(
            description="directory of the data keys, which are encrypted under the master key; keep it out of copies "
            "of the disk, so that erased people cannot be read in them; if unset, `encryption` in the data directory"
        ),
    ] = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        sources = (self.master_key_file, self.master_key, self.master_key_command)
        if sum(source is not None for source in sources) > 1:
            raise ValueError("set only one of MASTER_KEY_FILE, MASTER_KEY and MASTER_KEY_COMMAND")
        return self


class AuditSettings(_Group):
    """The log of who did what."""

    log: Annotated[
        Literal["required", "best_effort", "off"],
        Field(
            description="whether acts are recorded in the audit log; `required`: what cannot be recorded, as on a full "
            "disk, is refused; `best_effort`: it is done, and the failure is logged"
        ),
    ] = "required"
    max_records: Annotated[
        int,
        Field(
            ge=1000,
            description="number of records in the table of the audit log above which the oldest are moved to files "
            "beside it, 10,000 at a time; a million take some 400 MB",
        ),
    ] = 1_000_000


class LogSettings(_Group):
    """The lines that the service writes to standard error."""

    format: Annotated[
        Literal["console", "json"],
        Field(description="form of the lines: `console` for people, `json` for programs that collect logs"),
    ] = "console"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level of the lines that are written")
    ] = "info"
    access: Annotated[
        bool,
        Field(
            description="whether each answered request is a line: its id, route, status, times and the id of the key"
        ),
    ] = True


class MetricsSettings(_Group):
    """Metrics for Prometheus."""

    port: Annotated[
        int | None,
        Field(
            gt=0,
            le=65535,
            description="port on which `/metrics` is served without a key, beside the port of the API, where it needs "
            "a key with the scope `metrics`; if unset, only there",
        ),
    ] = None
    host: Annotated[str, Field(description="address on which that port is opened")] = "127.0.0.1"


class TraceSettings(_Group):
    """Traces by OpenTelemetry."""

    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://",
            description="address to which traces are sent by OTLP over HTTP, such as "
            "`http://collector:4318/v1/traces`; if unset, nothing is traced. Headers for the receiver are in "
            "`OTEL_EXPORTER_OTLP_HEADERS`",
        ),
    ] = None
    share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of the requests that are traced, unless the client's `traceparent` decides",
        ),
    ] = 1.0


class RequestSettings(_Group):
    """Limits of requests."""

    max_bytes: Annotated[
        int, Field(gt=0, description="maximum size of a request body, or of one line of an NDJSON body")
    ] = 64 * 2**20
    max_images: Annotated[int, Field(gt=0, description="maximum number of images in a request")] = 64
    max_embeddings: Annotated[int, Field(gt=0, description="maximum number of embeddings in a request")] = 1024
    concurrency: Annotated[
        int | None,
        Field(
            gt=0, description="maximum number of requests that compute at the same time; if unset, two for each core"
        ),
    ] = None
    waiting: Annotated[
        int | None,
        Field(
            ge=0,
            description="maximum number of admitted requests that wait to compute; further requests are answered with "
            "429; if unset, six for each core, and a quarter of the concurrency while the service is overloaded",
        ),
    ] = None
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="time limit of a request, after which it is answered with 504; a client may set a shorter one",
        ),
    ] = 30.0
    buffered_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="maximum size of all request bodies in memory; requests that exceed it are answered with 429",
        ),
    ] = 512 * 2**20
    shutdown_s: Annotated[
        int,
        Field(ge=0, le=3600, description="seconds within which admitted requests are answered when the service stops"),
    ] = 25

    drain_s: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="seconds for which a service that was told to stop (SIGTERM) still accepts requests, while "
            "`/readyz` fails, so that balancers stop sending it requests first",
        ),
    ] = 0.0

    @property
    def streams_bytes(self) -> int:
        """Maximum size of what all NDJSON streams, or all bodies of one client, hold in memory.

        It is half of the budget, but at least one line or body.
        """
        return max(self.buffered_bytes // 2, self.max_bytes)

    @property
    def workers(self) -> int:
        """Maximum number of requests that compute at the same time."""
        return self.concurrency or 2 * usable_cores()

    @property
    def places(self) -> int:
        """Maximum number of requests that are admitted."""
        return self.workers + (6 * usable_cores() if self.waiting is None else self.waiting)

    @property
    def overload_places(self) -> int:
        """Maximum number of requests that are admitted under overload.

        If `waiting` is not set, the number of waiting requests is a quarter of the number of workers, at least 1.
        """
        return self.places if self.waiting is not None else self.workers + max(1, self.workers // 4)


class CacheSettings(_Group):
    """The cache of reference photos."""

    references: Annotated[
        int,
        Field(
            ge=0, description="maximum number of faces in the cache of verify's reference photos; 0 disables the cache"
        ),
    ] = 256
    lifetime_s: Annotated[float, Field(gt=0, description="time for which a reference photo stays in the cache")] = 600.0


class BatchingSettings(_Group):
    """How concurrent requests share runs of the engine."""

    largest: Annotated[
        int | None,
        Field(
            gt=0,
            le=128,
            description="maximum number of faces in a batch; if unset, as tuned, otherwise 8 on a CPU and 64 on a GPU",
        ),
    ] = None
    wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="maximum time that a batch waits for more entries; it waits only if the load makes them likely",
        ),
    ] = 2.0


class GallerySettings(_Group):
    """Where galleries are stored and how they are searched."""

    directory: Annotated[
        Path | None, Field(description="directory of the galleries; if unset, `galleries` in the data directory")
    ] = None
    erasure_log: Annotated[
        Path | None,
        Field(
            description="file of the list of erasures, which a restore needs; on another disk it survives the loss of "
            "the galleries; if unset, `erasures.log` beside the galleries"
        ),
    ] = None
    min_free_bytes: Annotated[
        int, Field(ge=0, description="free bytes of the disk of the galleries below which the service is not ready")
    ] = 2**26
    search_threads: Annotated[int, Field(ge=0, description="threads that search galleries; 0: one for each core")] = 0
    max_templates: Annotated[int, Field(gt=0, description="maximum number of templates of a subject")] = 10_000


class CompatSettings(_Group):
    """The APIs of other products, for their clients."""

    compreface: Annotated[bool, Field(description="whether clients of CompreFace are answered at `/api/v1`")] = False
    compreface_similarity: Annotated[
        CompreFaceSimilarity,
        Field(
            description="meaning of the similarities that they get: `probability` of the same person by the "
            "calibration, at even odds; or CompreFace's curve with the constants of one of its models"
        ),
    ] = "probability"
    rekognition: Annotated[
        bool, Field(description="whether clients of Amazon Rekognition are answered, at `POST /`")
    ] = False
    s3_directory: Annotated[
        Path | None,
        Field(
            description="directory whose subdirectories are the buckets from which they may name photos; if unset, "
            "photos must be in the requests"
        ),
    ] = None


class BackupSettings(_Group):
    """Where backups are made."""

    directory: Annotated[
        Path | None,
        Field(
            description="directory of backups of `vultus backup` and `POST /v1/backup`, outside of those of galleries "
            "and keys"
        ),
    ] = None
    keep: Annotated[int | None, Field(gt=0, description="number of newest backups to keep; if unset, all are kept")] = (
        None
    )


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", case_sensitive=False
    )

    data_dir: Annotated[Path, Field(description="directory of packs, galleries and all other stored files")] = Field(
        default_factory=lambda: platformdirs.user_data_path("vultus")
    )
    pack: Annotated[str, Field(description="name of the pack to serve")] = "opencv-zoo"
    model: Annotated[
        Path | None,
        Field(description="path of an exported artefact to serve instead of the pack's recognizer"),
    ] = None
    detector: Annotated[
        str | None,
        Field(description="name of a pack whose detector is served instead of the pack's; if unset, the pack's"),
    ] = None
    calibration: Annotated[
        Path | None,
        Field(
            description="path of the calibration to use, refused if it belongs to another model; if unset, the "
            "calibration of the model is used"
        ),
    ] = None
    runtime: RuntimeSettings = RuntimeSettings()
    image: ImageSettings = ImageSettings()
    detection: DetectionSettings = DetectionSettings()
    http: HttpSettings = HttpSettings()
    request: RequestSettings = RequestSettings()
    batching: BatchingSettings = BatchingSettings()
    cache: CacheSettings = CacheSettings()
    gallery: GallerySettings = GallerySettings()
    security: SecuritySettings = SecuritySettings()
    encryption: EncryptionSettings = EncryptionSettings()
    audit: AuditSettings = AuditSettings()
    compat: CompatSettings = CompatSettings()
    backup: BackupSettings = BackupSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    trace: TraceSettings = TraceSettings()

    def serving_at(self, host: str) -> "Settings":
        """Return the settings of a service that listens at a host, whose name is then trusted."""
        if not _HOST.fullmatch(host):
            return self
        http = self.http.model_copy(update={"trusted_hosts": (*self.http.trusted_hosts, host)})
        return self.model_copy(update={"http": http})

    @model_validator(mode="before")
    @classmethod
    def _ignore_blank(cls, values: Any) -> Any:
        return _without_blank(values)

    @property
    def packs_dir(self) -> Path:
        """Directory of the packs."""
        return self.data_dir / "packs"

    @property
    def calibrations_dir(self) -> Path:
        """Directory of the user's calibrations."""
        return self.data_dir / "calibrations"

    @property
    def runtime_options(self) -> RuntimeOptions:
        """Runtime options, with the directory for TensorRT engines."""
        return replace(self.runtime.options(), engines=self.tensorrt_dir)

    @property
    def tensorrt_dir(self) -> Path:
        """Directory of the files that TensorRT builds and caches."""
        return self.data_dir / "tensorrt"

    @property
    def tunings_dir(self) -> Path:
        """Directory of the tunings, which were measured on this machine."""
        return self.data_dir / "tunings"

    @property
    def comparisons_dir(self) -> Path:
        """Directory of the comparisons with float32 that passed on this machine."""
        return self.data_dir / "comparisons"

    @property
    def reports_dir(self) -> Path:
        """Directory of the reports that commands keep and the service shows."""
        return self.data_dir / "reports"

    @property
    def security_dir(self) -> Path:
        """Directory of the keys and the audit log."""
        return self.security.directory or self.data_dir / "security"

    @property
    def data_keys_file(self) -> Path:
        """File of the data keys of encrypted galleries."""
        return (self.encryption.directory or self.data_dir / "encryption") / "data_keys.sqlite"

    @property
    def galleries_dir(self) -> Path:
        """Directory of the galleries."""
        return self.gallery.directory or self.data_dir / "galleries"


def load_settings() -> Settings:
    """Read the settings from the environment and refuse unknown variables.

    Raises:
        SettingsInvalid: A variable is unknown or its value is invalid; the message names the variable.
    """
    names = {name.upper() for name in os.environ}
    known = {variable for variable, _, _ in describe_settings()} | _OTHERS
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsInvalid(f"unknown setting {unknown[0]}; available settings: {', '.join(sorted(known - _OTHERS))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsInvalid(f"{variable}: {first['msg']}") from error


def _without_blank(values: Any) -> Any:
    """Remove blank texts: `VULTUS_MODEL=` leaves the model unset, although `Path("")` is the working directory."""
    if not isinstance(values, dict):
        return values
    return {
        name: _without_blank(value)
        for name, value in values.items()
        if not (isinstance(value, str) and not value.strip())
    }


def describe_settings() -> Iterator[tuple[str, str, str]]:
    """Yield the variable, the default and the description of every setting."""
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
    return "none" if field.default in (None, ()) else str(field.default)
