"""The real program: a separate process, real models and real photos, over HTTP."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from tests.pictures import empty_png, encode, noise_jpeg, png_bomb

COMMAND = [sys.executable, "-c", "from service.cli.main import main; main()"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_galleries(directory: Path) -> dict[str, str]:
    """Return an environment for a service with its own galleries and keys, and the packs of the other services."""
    names = {"GALLERY": "galleries", "SECURITY": "security", "ENCRYPTION": "encryption"}
    own = {f"VULTUS_{group}__DIRECTORY": str(directory / name) for group, name in names.items()}
    return {**os.environ, "VULTUS_LOG__ACCESS": "false", **own}  # nobody reads the pipe of the log


@contextmanager
def serving(environment: dict[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Run `vultus serve` until the block ends. The attribute `port` of the process is its port."""
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    process.port = port  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()


@contextmanager
def client_of(server: "subprocess.Popen[str]") -> Iterator[httpx2.Client]:
    """Yield a client as soon as the service is ready."""
    address = f"http://127.0.0.1:{server.port}"  # type: ignore[attr-defined]
    with httpx2.Client(base_url=address, timeout=30, trust_env=False) as client:
        for _ in range(300):
            try:
                client.get("/readyz").raise_for_status()
                break
            except httpx2.HTTPError:
                assert server.poll() is None
                time.sleep(0.1)  # polling is the only way to wait for the socket of another process
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    with serving(own_galleries(tmp_path_factory.mktemp("galleries"))) as process:
        yield process


@pytest.fixture(scope="module")
def http(server: "subprocess.Popen[str]") -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def resident_bytes(process: "subprocess.Popen[str]") -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def altered(path: Path) -> bytes:
    """Return the photo at half its size, rotated, as a JPEG of low quality."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((image.width // 2, image.height // 2))
    return encode(small.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=40)


def test_a_mated_pair_matches_and_a_non_mated_pair_does_not(http: httpx2.Client, photos: Path) -> None:
    portrait, group = (photos / "astronaut.png").read_bytes(), (photos / "group.jpg").read_bytes()
    same = http.post("/v1/verify", files={"probe": portrait, "reference": altered(photos / "astronaut.png")}).json()
    assert same["decision"] == "match"
    assert same["similarity"] > 0.7
    assert same["operating_point"]["measured_on"].startswith("LFW, deep-funneled")
    other = http.post("/v1/verify", files={"probe": portrait, "reference": group}, data={"faces": "all"}).json()
    assert other["decision"] == "no_match"
    assert other["comparisons"] == 6


def test_six_people_are_six_faces(http: httpx2.Client, photos: Path) -> None:
    answer = http.post("/v1/embed", files={"images": (photos / "group.jpg").read_bytes()})
    (item,) = answer.json()["items"]
    assert len(item["faces"]) == 6
    assert all(5 < face["norm"] < 30 for face in item["faces"])
    stages = set(re.findall(r"(\w+);dur=", answer.headers["server-timing"]))
    assert stages - {"queue"} == {"decode", "detect", "align", "embed"}  # it may wait for the warm-up


def test_a_client_that_offers_http_2_is_answered(http: httpx2.Client, photos: Path) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    photo = (photos / "astronaut.png").read_bytes()
    for _ in range(2):  # on one connection
        answer = http.post("/v1/detect", content=photo, headers={**offer, "Content-Type": "image/png"})
        assert len(answer.json()["items"][0]["faces"]) == 1


def test_info_names_the_active_engine(http: httpx2.Client) -> None:
    session = http.get("/v1/info").json()["recognizer"]["session"]
    assert (session["engine"], session["provider"]) == ("openvino", "CPU")


def test_parallel_requests_get_their_own_answers(http: httpx2.Client, photos: Path) -> None:
    with Image.open(photos / "group.jpg") as group:
        image = group.convert("RGB")
    full = http.post("/v1/detect", files={"images": encode(image)}).json()["items"][0]["faces"]
    crops = []
    for face in full:
        x1, y1, x2, y2 = face["box"]
        crops.append(encode(image.crop((int(x1) - 60, int(y1) - 60, int(x2) + 60, int(y2) + 60))))

    def embed(crop: bytes) -> list[float]:
        answer = http.post("/v1/embed?faces=central", content=crop, headers={"Content-Type": "image/png"})
        embedding: list[float] = answer.json()["items"][0]["faces"][0]["embedding"]
        return embedding

    alone = [embed(crop) for crop in crops]
    with ThreadPoolExecutor(8) as threads:
        for index, together in enumerate(threads.map(embed, crops * 8)):
            assert sum(a * b for a, b in zip(together, alone[index % len(crops)], strict=True)) > 0.999


def test_invalid_input_does_not_harm_the_service_or_increase_its_memory(
    server: "subprocess.Popen[str]", http: httpx2.Client, photos: Path
) -> None:
    bad = [b"", b"text", noise_jpeg(640, 480)[:9000], png_bomb(30_000), empty_png(), encode(Image.new("RGB", (1, 1)))]
    good = (photos / "astronaut.png").read_bytes()
    no_face = encode(Image.new("RGB", (400, 300), "grey"), "JPEG")

    def round_of_requests() -> None:
        for image in bad:
            answer = http.post("/v1/verify", files={"probe": image, "reference": good})
            assert 400 <= answer.status_code < 500
        assert http.post("/v1/embed?faces=largest", content=no_face, headers={"Content-Type": "image/jpeg"}).is_error
        for body in (b"{", b'{"images": ["?"]}', b'{"images": [], "x": NaN}'):
            assert http.post("/v1/detect", content=body, headers={"Content-Type": "application/json"}).is_client_error
        assert http.post("/v1/embed?faces=largest", content=good, headers={"Content-Type": "image/png"}).is_success

    for _ in range(20):
        round_of_requests()
    before = resident_bytes(server)
    for _ in range(60):
        round_of_requests()
    assert resident_bytes(server) - before < 0.05 * before
    assert http.get("/readyz").is_success


def test_memory_of_large_photos_is_released(server: "subprocess.Popen[str]", http: httpx2.Client) -> None:
    large = encode(Image.new("RGBA", (7900, 5000), (9, 200, 9, 120)))
    before = resident_bytes(server)
    for _ in range(2):
        assert http.post("/v1/detect", files=[("images", large)] * 2).is_success
    assert resident_bytes(server) - before < 0.1 * before


def test_stops_at_once_after_sigterm(tmp_path: Path) -> None:
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=own_galleries(tmp_path)
    ) as process:
        for line in process.stderr or io.StringIO():
            if "running on" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0  # status 0: models and galleries were closed, and the signal did not kill it


def test_a_service_that_was_told_to_stop_drains_first(tmp_path: Path) -> None:
    """It is not ready at once, accepts requests meanwhile, and then ends with status 0."""
    with serving({**own_galleries(tmp_path), "VULTUS_REQUEST__DRAIN_S": "4"}) as process:
        with client_of(process) as client:
            process.send_signal(signal.SIGTERM)
            refused = client.get("/readyz")
            while refused.status_code == 200:  # the signal has not arrived yet
                refused = client.get("/readyz")
            assert refused.json()["detail"] == "the service was told to stop"
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/galleries", headers={"Connection": "close"}).status_code == 200
        assert process.wait(10) == 0


def test_admitted_requests_are_answered_after_sigterm(photos: Path, tmp_path: Path) -> None:
    photo = (photos / "group.jpg").read_bytes()

    def embed(client: httpx2.Client) -> int:
        try:
            answer = client.post("/v1/embed", files={"images": photo})
        except httpx2.ConnectError:
            return 0  # the service had already stopped
        assert len(answer.json()["items"][0]["faces"]) == 6
        return answer.status_code

    with (
        serving({**own_galleries(tmp_path), "VULTUS_REQUEST__CONCURRENCY": "1"}) as process,
        client_of(process) as client,
    ):
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(embed, client) for _ in range(8)]
            waiting[0].result()
            process.send_signal(signal.SIGTERM)
            statuses = {future.result() for future in waiting}
        assert process.wait(10) == 0
    assert statuses <= {200, 0}
    assert 200 in statuses


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"VULTUS_PACK": "nonsense"}, "unknown pack"),
        ({"VULTUS_PACK": "[/red]"}, "unknown pack '[/red]'"),
        ({"VULTUS_PACK": "demo-photos"}, "holds photos, not models"),
        ({"VULTUS_DATA_DIR": "/nowhere"}, "run: vultus packs fetch opencv-zoo"),
        ({"VULTUS_RUNTIME__DEVICE": "cuda"}, "CUDAExecutionProvider"),
        ({"VULTUS_TYPO": "1"}, "unknown setting VULTUS_TYPO"),
    ],
)
def test_a_failed_start_ends_in_one_line(
    environment: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
