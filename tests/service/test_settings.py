from pathlib import Path

import platformdirs
import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsInvalid, describe_settings, load_settings


def test_reads_nested_groups_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_RUNTIME__ENGINE", "onnxruntime")
    monkeypatch.setenv("VULTUS_IMAGE__MAX_BYTES", "1000")
    monkeypatch.setenv("VULTUS_DATA_DIR", "/somewhere")
    settings = load_settings()
    assert settings.runtime.options().engine == "onnxruntime"
    assert settings.image.limits().max_bytes == 1000
    assert settings.packs_dir == Path("/somewhere/packs")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("VULTUS_RUNTIM__ENGINE", "openvino", "unknown setting VULTUS_RUNTIM__ENGINE"),
        ("VULTUS_RUNTIME__ENGINE", "tpu", "VULTUS_RUNTIME__ENGINE"),
        ("VULTUS_IMAGE__MAX_BYTES", "-1", "VULTUS_IMAGE__MAX_BYTES"),
        ("VULTUS_DETECTION__MAX_SIDE_PX", "700", "multiple of 128"),
        ("VULTUS_REQUEST__CONCURRENCY", "many", "VULTUS_REQUEST__CONCURRENCY"),
    ],
)
def test_refuses_unknown_settings_and_invalid_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=reason):
        load_settings()


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().pack = "another"  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    rows = list(describe_settings())
    assert len(rows) >= 14
    assert all(description for _, _, description in rows)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_value_leaves_every_setting_unset(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    """A path of `""` would be the working directory."""
    before = load_settings()
    for variable, _, _ in describe_settings():
        monkeypatch.setenv(variable, blank)
    settings = load_settings()
    assert (settings.model, settings.calibration, settings.gallery.directory) == (None, None, None)
    assert settings == before.model_copy(update={"data_dir": platformdirs.user_data_path("vultus")})


@pytest.mark.parametrize(
    ("device", "kind", "gpus"),
    [
        ("cpu", "cpu", (0,)),
        ("cuda", "cuda", (0,)),
        ("cuda:1", "cuda", (1,)),
        ("cuda:3,0,3", "cuda", (0, 3)),
        ("cuda:all", "cuda", ()),
        ("all", "cuda", ()),
    ],
)
def test_a_device_names_the_gpus(
    device: str, kind: str, gpus: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_RUNTIME__DEVICE", device)
    options = load_settings().runtime_options
    assert (options.device, options.gpus) == (kind, gpus)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "cuda:0,", "cpu:0"])
def test_an_unknown_device_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_RUNTIME__DEVICE", device)
    with pytest.raises(SettingsInvalid, match="VULTUS_RUNTIME__DEVICE"):
        load_settings()
