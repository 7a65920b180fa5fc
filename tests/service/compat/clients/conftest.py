"""A real service for real clients, and photos of real people under names that tell nobody who they are."""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.pictures import encode
from tests.service.compat.clients.aws import boto_client
from tests.service.compat.clients.driver import Driver, driver
from tests.service.compat.clients.running import BUCKET, Album, Service, new_name
from tests.service.test_end_to_end import client_of, own_galleries, serving

COMPREFACE_PYTHON = ROOT / "build" / "clients" / "compreface" / "bin" / "python"
NODE_CLIENTS = ROOT / "tests" / "service" / "compat" / "node"
PEOPLE, PHOTOS_OF_EACH = 3, 4


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("served")
    buckets = directory / "buckets"
    (buckets / BUCKET).mkdir(parents=True)
    environment = {
        **own_galleries(directory),
        "VULTUS_COMPAT__COMPREFACE": "true",
        "VULTUS_COMPAT__REKOGNITION": "true",
        "VULTUS_COMPAT__S3_DIRECTORY": str(buckets),
    }
    with serving(environment) as process, client_of(process):
        yield Service(process.port, environment, buckets)  # type: ignore[attr-defined]


@pytest.fixture(scope="package")
def album(server: Service, shared: Path, photos: Path) -> Album:
    """Photos of those who have the most in LFW, beside those of the demonstration."""
    everybody = (shared / "data" / "lfw" / "images").glob("*")
    most = sorted(everybody, key=lambda person: (-len(list(person.iterdir())), person.name))
    directory = server.buckets / BUCKET
    people = []
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        client.headers["x-api-key"] = server.compreface_key("detection")

        def has_one_face(photo: Path) -> bool:
            answer = client.post("/api/v1/detection/detect", files={"file": photo.read_bytes()}).json()
            return len(answer.get("result", [])) == 1

        for number, person in enumerate(most[:PEOPLE]):
            alone = islice(filter(has_one_face, sorted(person.iterdir())), PHOTOS_OF_EACH)
            people.append(
                [Path(shutil.copy(photo, directory / f"{number}-{nth}.jpg")) for nth, photo in enumerate(alone)]
            )
    group, nobody = directory / "group.jpg", directory / "nobody.jpg"
    shutil.copy(photos / "group.jpg", group)
    nobody.write_bytes(encode(Image.new("RGB", (400, 300), "grey"), "JPEG"))
    return Album(directory, people, group, nobody)


@pytest.fixture(scope="package")
def compreface_sdk(album: Album) -> Iterator[Driver]:
    """The SDK of CompreFace for Python."""
    if not COMPREFACE_PYTHON.exists():
        pytest.skip("the SDK of CompreFace is not installed; run: make clients")
    with driver([COMPREFACE_PYTHON, Path(__file__).with_name("compreface_driver.py")], album.directory) as running:
        yield running


@pytest.fixture(scope="package")
def node(album: Album) -> Iterator[Driver]:
    """The SDKs for Node."""
    program = shutil.which("node")
    if program is None or not (NODE_CLIENTS / "node_modules").is_dir():
        pytest.skip("the SDKs for Node are not installed; with node and npm, run: make clients")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"the SDKs need Node 20, and this is {version.strip()}")
    with driver([program, NODE_CLIENTS / "driver.mjs"], album.directory) as running:
        yield running


@pytest.fixture(scope="package")
def aws_key(server: Service) -> dict[str, Any]:
    """An access key of a tenant, who may have many collections."""
    return server.key("--aws", "--gallery", "tenant-*")


@pytest.fixture
def collection_id() -> str:
    """The id of a collection that does not exist yet, and that the access key reaches."""
    return new_name()


@pytest.fixture(scope="package")
def rekognition(server: Service, aws_key: dict[str, Any]) -> Iterator[Any]:
    """boto3's client."""
    with boto_client(server, aws_key) as client:
        yield client


@pytest.fixture
def collection(rekognition: Any, collection_id: str) -> str:
    """The id of an empty collection."""
    rekognition.create_collection(CollectionId=collection_id)
    return collection_id
