"""`make bench-compat`: what a call costs through the APIs of CompreFace and Rekognition, beside the own one.

One service answers all three, in turn in each round, with the same photo of one face against one gallery.
"""

import argparse
import base64
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from rich.console import Console
from rich.table import Table

from models.packs import PackStore
from service.security.keys.protocols import REKOGNITION_SCOPES, SERVICE_SCOPES, CompreFaceService, access_key_id
from service.security.keys.store import KeyRequest, KeyStore
from service.settings import load_settings
from tests.bench.speed.load import Request, closed_loop
from tests.bench.speed.serving import serving
from tests.bench.speed.stages import SMALL, bench_photos

_SECONDS = 3.0
_BOUNDARY = "boundary-of-the-benchmark"
_GALLERY = "bench"
_OWN, _COMPREFACE, _REKOGNITION = "own API", "CompreFace", "Rekognition"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-compat")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    photo = bench_photos(PackStore(load_settings().packs_dir))[SMALL][0]
    console = Console()
    title = "calls per second; ratios to the own API are medians of rounds"
    table = Table("call", "clients", _OWN, _COMPREFACE, "ratio", _REKOGNITION, "ratio", title=title)
    with tempfile.TemporaryDirectory() as directory:
        keys = _Keys(Path(directory) / "security")
        settings = {
            "VULTUS_SECURITY__DIRECTORY": f"{directory}/security",
            "VULTUS_COMPAT__COMPREFACE": "true",
            "VULTUS_COMPAT__REKOGNITION": "true",
            "VULTUS_CACHE__REFERENCES": "0",
        }
        with serving(**settings) as served:
            _enrol(served.port, keys, photo)
            for call, requests in _calls(keys, photo).items():
                for clients in (1, 16):
                    rates = _rates(served.port, requests, clients, rounds)
                    ratios = [
                        median(other / own for own, other in zip(rates[_OWN], rates[name], strict=True))
                        for name in (_COMPREFACE, _REKOGNITION)
                    ]
                    shown = [f"{median(rates[name]):.1f}" for name in (_OWN, _COMPREFACE, _REKOGNITION)]
                    table.add_row(
                        *(call, str(clients), shown[0], shown[1], f"{ratios[0]:.3f}", shown[2], f"{ratios[1]:.3f}")
                    )
    console.print(table)


class _Keys:
    """A key of each protocol."""

    def __init__(self, directory: Path) -> None:
        store = KeyStore(directory)
        self.own = store.create(KeyRequest("own", ["admin"]))[1].text.encode()
        self.compreface = {
            service: self._compreface(store, service) for service in ("recognition", "verification", "detection")
        }
        key, token = store.create(KeyRequest("aws", REKOGNITION_SCOPES, protocol="rekognition"))
        self.rekognition = Credentials(access_key_id(key.id), token.text)
        store.close()

    @staticmethod
    def _compreface(store: KeyStore, service: CompreFaceService) -> bytes:
        galleries = [_GALLERY] if service == "recognition" else None
        request = KeyRequest(service, SERVICE_SCOPES[service], galleries, protocol="compreface", service=service)
        return store.create(request)[1].text.encode()


def _rates(port: int, requests: dict[str, Request], clients: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            outcome = closed_loop(port, [request], clients, _SECONDS)
            if outcome.lost:
                raise SystemExit(f"{name}: {outcome.lost} requests were not answered correctly: {outcome.statuses}")
            rates[name].append(outcome.rate)
    return rates


def _calls(keys: _Keys, photo: bytes) -> dict[str, dict[str, Request]]:
    """Return each call through each API; signatures are valid for some minutes."""
    image = {"Bytes": base64.b64encode(photo).decode()}
    return {
        "1:N": {
            _OWN: _own("/v1/identify", keys, b'"candidates"', images=photo, gallery=_GALLERY.encode()),
            _COMPREFACE: _form(
                "/api/v1/recognition/recognize", keys.compreface["recognition"], b'"ann"', {"file": photo}
            ),
            _REKOGNITION: _signed(
                "SearchFacesByImage", keys, b"Similarity", {"CollectionId": _GALLERY, "Image": image}
            ),
        },
        "1:1": {
            _OWN: _own("/v1/verify", keys, b'"match"', probe=photo, reference=photo),
            _COMPREFACE: _form(
                "/api/v1/verification/verify",
                keys.compreface["verification"],
                b"similarity",
                {"source_image": photo, "target_image": photo},
            ),
            _REKOGNITION: _signed("CompareFaces", keys, b"Similarity", {"SourceImage": image, "TargetImage": image}),
        },
        "detect": {
            _OWN: _own("/v1/detect", keys, b'"box"', images=photo),
            _COMPREFACE: _form("/api/v1/detection/detect", keys.compreface["detection"], b'"box"', {"file": photo}),
            _REKOGNITION: _signed("DetectFaces", keys, b"BoundingBox", {"Image": image}),
        },
    }


def _enrol(port: int, keys: _Keys, photo: bytes) -> None:
    """Create the gallery with one template."""
    body = json.dumps({"gallery": _GALLERY}).encode()
    headers = {b"X-Api-Key": keys.own, b"Content-Type": b"application/json"}
    create = Request(_wire("/v1/galleries", headers, body), lambda *_: True)
    path = f"/v1/galleries/{_GALLERY}/subjects/ann/templates"
    for request in (create, _own(path, keys, b"enrolled", images=photo)):
        closed_loop(port, [request], 1, 0.05)


def _own(path: str, keys: _Keys, expected: bytes, **parts: bytes) -> Request:
    return _form(path, keys.own, expected, parts)


def _form(path: str, key: bytes, expected: bytes, parts: dict[str, bytes]) -> Request:
    pieces = []
    for name, content in parts.items():
        file = b"" if name == "gallery" else b'; filename="photo.jpg"\r\nContent-Type: image/jpeg'
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        pieces.append(head + file + b"\r\n\r\n" + content + b"\r\n")
    body = b"".join(pieces) + f"--{_BOUNDARY}--\r\n".encode()
    media_type = f"multipart/form-data; boundary={_BOUNDARY}".encode()
    return _request(_wire(path, {b"X-Api-Key": key, b"Content-Type": media_type}, body), expected)


def _signed(operation: str, keys: _Keys, expected: bytes, members: dict[str, object]) -> Request:
    body = json.dumps(members).encode()
    headers = {
        "Host": "localhost",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"RekognitionService.{operation}",
    }
    request = AWSRequest("POST", "http://localhost/", headers, body)
    SigV4Auth(keys.rekognition, "rekognition", "eu-west-1").add_auth(request)
    sent = {name.encode(): value.encode() for name, value in request.headers.items() if name != "Host"}
    return _request(_wire("/", sent, body), expected)


def _request(wire: bytes, expected: bytes) -> Request:
    return Request(wire, lambda _status, body: expected in body)


def _wire(path: str, headers: dict[bytes, bytes], body: bytes) -> bytes:
    lines: Sequence[bytes] = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: localhost",
        f"Content-Length: {len(body)}".encode(),
        *(name + b": " + value for name, value in headers.items()),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


if __name__ == "__main__":
    main()
