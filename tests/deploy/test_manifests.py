"""Manifests of Kubernetes, the unit of systemd and the Dockerfile: their schemas, linters, and what they say of us."""

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from service.settings import Settings, describe_settings
from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
SETTINGS = {name for name, _, _ in describe_settings()}
PROBES = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
CUSTOM = {"Kustomization", "ServiceMonitor"}  # their schemas are not those of Kubernetes
PATHS = sorted(KUBERNETES.glob("*/*.yaml"))


def load(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    assert isinstance(document, dict)
    return document


def gpu_statefulset() -> dict[str, Any]:
    """Apply the patches of the overlay `gpu`."""
    manifest = load(KUBERNETES / "base" / "statefulset.yaml")
    for patch in load(KUBERNETES / "gpu" / "kustomization.yaml")["patches"]:
        assert patch["target"] == {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}
        for change in yaml.safe_load(patch["patch"]):
            assert change["op"] == "add"
            *parents, last = change["path"].removeprefix("/").split("/")
            place: Any = manifest
            for name in parents:
                place = place[int(name)] if isinstance(place, list) else place[name]
            if isinstance(place, list):
                assert last == "-"
                place.append(change["value"])
            else:
                place[last.replace("~1", "/")] = change["value"]
    return manifest


WORKLOADS = {
    "base": load(KUBERNETES / "base" / "statefulset.yaml"),
    "gpu": gpu_statefulset(),
    "replicas": load(KUBERNETES / "replicas" / "deployment.yaml"),
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_manifests_have_the_schema_of_kubernetes(path: Path) -> None:
    manifest = load(path)
    if manifest["kind"] not in CUSTOM:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_overlay_for_gpus_has_the_schema_of_kubernetes() -> None:
    kubernetes_validate.validate(copy.deepcopy(WORKLOADS["gpu"]), kubernetes_validate.latest_version(), strict=True)
    (container,) = WORKLOADS["gpu"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("folder", ["base", "replicas"])
def test_all_manifests_are_applied_in_one_namespace(folder: str) -> None:
    files = {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
    kustomization = load(KUBERNETES / folder / "kustomization.yaml")
    assert set(kustomization["resources"]) == files
    for name in files - {"namespace.yaml"}:
        assert load(KUBERNETES / folder / name)["metadata"]["namespace"] == kustomization["namespace"]


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_workloads_have_probes_limits_and_no_rights(name: str) -> None:
    pod = WORKLOADS[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {probe: container[probe]["httpGet"]["path"] for probe in PROBES} == PROBES
    assert {probe: container[probe]["httpGet"]["port"] for probe in PROBES} == dict.fromkeys(PROBES, "http")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    security = pod["securityContext"]
    assert [(str(security["runAsUser"]), str(security["runAsGroup"]))] == user
    assert security["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment.keys() <= SETTINGS
    assert ports == {"http": 8000, "metrics": int(environment["VULTUS_METRICS__PORT"])}
    shutdown_s = Settings().request.shutdown_s + float(environment["VULTUS_REQUEST__DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] > shutdown_s
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    directories = [value for variable, value in environment.items() if variable.endswith(("__DIRECTORY", "_FILE"))]
    assert all(any(value.startswith(f"{place}/") for place in mounted) for value in directories)


def test_the_unit_of_systemd_lets_the_service_end_in_time() -> None:
    unit = (ROOT / "deploy" / "systemd" / "vultus.service").read_text()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop) > Settings().request.shutdown_s + Settings().request.drain_s
    assert set(re.findall(r"VULTUS_[A-Z_]+", unit)) <= SETTINGS | {"VULTUS_DATA_DIR"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_of_systemd_is_valid_and_closed(tmp_path: Path) -> None:
    unit = tmp_path / "vultus.service"
    text = (ROOT / "deploy" / "systemd" / "vultus.service").read_text()
    unit.write_text(text.replace("/opt/vultus/bin/vultus", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "vultus.service" in line]) == (0, [])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    graded = subprocess.run(command, capture_output=True, text=True, check=False)
    assert graded.returncode == 0, graded.stdout  # at most 2.0 of 10


def test_the_dockerfile_has_no_warnings() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [linter, "--failure-threshold", "warning", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
