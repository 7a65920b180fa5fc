import http.server
import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import trustme
from numpy.typing import NDArray

from models.artefact.card import CARD, PROOF
from models.artefact.digests import file_digest
from models.errors import ArtefactUnfit, ManifestInvalid, PackDamaged, PackMissing, PackUnknown, SourceUnavailable
from models.export.packs import build_recognizer, fetch_pack
from models.packs import PackStore, find_manifest, list_manifests
from models.packs.manifest import DetectorEntry, Manifest, read_manifest

Progress = list[tuple[str, int, int | None]]


@pytest.fixture
def fetched() -> Progress:
    return []


def photos_manifest(folder: Path, content: bytes = b"picture", **source: str) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.bin").write_bytes(content)
    file = {"name": "one.bin", "sha256": file_digest(folder / "one.bin"), "sources": [source] if source else []}
    return Manifest.model_validate({"name": "own", "summary": "", "kind": "photos", "files": [file]})


def quiet(*_: object) -> None:
    pass


def test_the_default_pack_is_converted_proven_and_intact(store: PackStore) -> None:
    path = store.verify(find_manifest("opencv-zoo"))
    proof = json.loads((path / "recognizer" / PROOF).read_text())
    assert proof["passed"] is True
    assert proof["measured"][0]["worst_relative_l2"] < 1e-4
    for graph, name in ((path / "detector/detector.onnx", "images"), (path / "recognizer/embedder.onnx", "faces")):
        model = onnx.load(graph)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == [name]
        assert {node.op_type for node in model.graph.node}.isdisjoint({"DequantizeLinear", "Dropout"})


def test_every_built_in_manifest_is_valid_and_has_a_source_for_each_file() -> None:
    manifests = list_manifests()
    assert {"opencv-zoo", "demo-photos"} <= {manifest.name for manifest in manifests}
    assert all(file.sources for manifest in manifests for file in manifest.files)


def test_a_pack_of_an_older_conversion_is_fetched_again(store: PackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.packs.store.CONVERSION", 99)
    with pytest.raises(PackDamaged, match="at 99"):
        store.verify(find_manifest("opencv-zoo"))


def test_an_unknown_pack_is_an_error_that_names_it() -> None:
    with pytest.raises(PackUnknown, match="nonsense"):
        find_manifest("nonsense")


def test_the_error_for_a_missing_pack_names_the_fetch_command(tmp_path: Path) -> None:
    with pytest.raises(PackMissing, match="vultus packs fetch opencv-zoo"):
        PackStore(tmp_path).verify(find_manifest("opencv-zoo"))


@pytest.mark.parametrize(
    "name",
    [
        "detector/detector.onnx",
        "detector/model.json",
        "recognizer/embedder.onnx",
        "recognizer/model.json",
        "recognizer/parity.json",
    ],
)
@pytest.mark.parametrize("how", ["flipped", "truncated", "missing", "replaced"])
def test_a_damaged_file_is_found_and_named(store: PackStore, tmp_path: Path, name: str, how: str) -> None:
    manifest = find_manifest("opencv-zoo")
    shutil.copytree(store.path(manifest), tmp_path / manifest.name)
    victim = tmp_path / manifest.name / name
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    match how:
        case "flipped":
            victim.write_bytes(content)
        case "replaced":
            victim.write_bytes(b"[1]")
        case "truncated":
            victim.write_bytes(content[: len(content) // 2])
        case _:
            victim.unlink()
    with pytest.raises(PackDamaged, match=victim.name):
        PackStore(tmp_path).verify(manifest)


def test_a_damaged_pack_is_fetched_again(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "source", directory=str(tmp_path / "source"))
    store = PackStore(tmp_path / "packs")
    path = fetch_pack(store, manifest, quiet)
    (path / "one.bin").write_bytes(b"altered")
    with pytest.raises(PackDamaged, match=r"one\.bin"):
        store.verify(manifest)
    assert (fetch_pack(store, manifest, quiet) / "one.bin").read_bytes() == b"picture"
    remaining = sorted(entry.name for entry in (tmp_path / "packs").iterdir())
    assert remaining == [".own.lock", "own"], "no scratch directory is left"


def test_a_link_to_a_pack_is_followed(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "source", directory=str(tmp_path / "source"))
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs/own").symlink_to(tmp_path / "disk/own")
    (tmp_path / "disk/.own+killed").mkdir(parents=True)
    for _ in range(2):
        path = fetch_pack(PackStore(tmp_path / "packs"), manifest, quiet)
        assert path.is_symlink()
        assert [entry.name for entry in (tmp_path / "disk").iterdir()] == ["own"]
        (tmp_path / "disk/own/one.bin").write_bytes(b"altered")


def test_files_of_a_killed_fetch_are_removed(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "source", directory=str(tmp_path / "source"))
    for name in (".own+killed", ".own-larger+busy"):  # the second belongs to another pack, which is being fetched
        (tmp_path / "packs" / name / "published").mkdir(parents=True)
    fetch_pack(PackStore(tmp_path / "packs"), manifest, quiet)
    remaining = sorted(entry.name for entry in (tmp_path / "packs").iterdir())
    assert remaining == [".own-larger+busy", ".own.lock", "own"]


def test_concurrent_fetches_download_once(tmp_path: Path, fetched: Progress) -> None:
    source = tmp_path / "source"
    manifest = photos_manifest(source, wheel="iniconfig==2.3.1", member="iniconfig/py.typed")
    (source / "one.bin").write_bytes(b"")
    file = {**manifest.files[0].model_dump(), "sha256": file_digest(source / "one.bin")}
    manifest = Manifest.model_validate({**manifest.model_dump(), "files": [file]})
    store = PackStore(tmp_path / "packs")
    with ThreadPoolExecutor(3) as threads:
        paths = list(threads.map(lambda _: fetch_pack(store, manifest, lambda *step: fetched.append(step)), range(3)))
    assert paths == [tmp_path / "packs" / "own"] * 3
    assert [step[1] for step in fetched].count(0) == 1, "one download was started"


def test_a_published_file_that_is_not_a_graph_is_unfit(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x.onnx").write_bytes(b"not a graph")
    network = {"family": "yunet", "file": "x.onnx", "licence": "", "color": "rgb"}
    recognizer = {**network, "name": "x", "architecture": "", "template": "arcface-112"}
    file = {"name": "x.onnx", "sha256": file_digest(source / "x.onnx"), "sources": [{"directory": str(source)}]}
    pack = {"name": "own", "summary": "", "kind": "models", "detector": network, "recognizer": recognizer}
    with pytest.raises(ArtefactUnfit, match="cannot be converted"):
        fetch_pack(PackStore(tmp_path / "packs"), Manifest.model_validate({**pack, "files": [file]}), quiet)


def test_a_manifest_states_the_training_data_or_that_it_is_not_documented() -> None:
    manifest = find_manifest("opencv-zoo")
    assert manifest.detector is not None
    assert manifest.recognizer is not None
    assert "WIDER FACE" in manifest.detector.training_data
    assert manifest.recognizer.training_data.startswith("not documented by the authors (opencv/opencv_zoo #124")
    assert DetectorEntry(family="yunet", file="a", licence="MIT", color="bgr").training_data == "not stated"


def test_an_intact_pack_is_not_fetched_again(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "source", directory=str(tmp_path / "source"))
    store = PackStore(tmp_path / "packs")
    fetch_pack(store, manifest, quiet)
    shutil.rmtree(tmp_path / "source")
    fetch_pack(store, manifest, quiet)


def test_a_failed_fetch_leaves_the_old_pack_and_no_partial_files(tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs")
    path = fetch_pack(store, photos_manifest(tmp_path / "a", b"old", directory=str(tmp_path / "a")), quiet)
    newer = photos_manifest(tmp_path / "b", b"new")
    with pytest.raises(SourceUnavailable, match="no source"):
        fetch_pack(store, newer, quiet)
    assert (path / "one.bin").read_bytes() == b"old"
    assert sorted(entry.name for entry in (tmp_path / "packs").iterdir()) == [".own.lock", "own"]


def test_sources_are_tried_in_order_and_failures_are_reported(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "good")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "one.bin").write_bytes(b"something else")
    sources = [{"directory": str(tmp_path / "void")}, {"directory": str(wrong)}]
    file = {**manifest.files[0].model_dump(), "sources": sources}
    broken = Manifest.model_validate({**manifest.model_dump(), "files": [file]})
    with pytest.raises(SourceUnavailable, match=r"void.*wrong: its SHA-256") as caught:
        fetch_pack(PackStore(tmp_path / "packs"), broken, quiet)
    assert "one.bin" in str(caught.value)
    path = fetch_pack(PackStore(tmp_path / "packs"), broken, quiet, mirror=tmp_path / "good")
    assert (path / "one.bin").read_bytes() == b"picture"


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a local web server with TLS and return its URL."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    (tmp_path / "www").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    handler.log_message = quiet  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()


def test_fetches_over_https_with_progress(https: str, tmp_path: Path, fetched: Progress) -> None:
    content = bytes(3_000_000)
    manifest = photos_manifest(tmp_path / "www", content, url=f"{https}/one.bin")
    path = fetch_pack(PackStore(tmp_path / "packs"), manifest, lambda *step: fetched.append(step))
    assert (path / "one.bin").read_bytes() == content
    assert fetched[-1] == ("one.bin", len(content), len(content))
    assert len(fetched) >= 3


def test_a_missing_web_file_is_an_error(https: str, tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "elsewhere", url=f"{https}/missing.bin")
    with pytest.raises(SourceUnavailable, match="404"):
        fetch_pack(PackStore(tmp_path / "packs"), manifest, quiet)


def test_an_untrusted_web_server_is_an_error(https: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = photos_manifest(tmp_path / "www", url=f"{https}/one.bin")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceUnavailable, match=r"(?i)certificate"):
        fetch_pack(PackStore(tmp_path / "packs"), manifest, quiet)


def test_a_wheel_without_the_member_is_an_error(tmp_path: Path, fetched: Progress) -> None:
    manifest = photos_manifest(tmp_path / "source", wheel="iniconfig==2.3.1", member="no/such.file")
    with pytest.raises(SourceUnavailable, match=r"no member no/such\.file"):
        fetch_pack(PackStore(tmp_path / "packs"), manifest, lambda *step: fetched.append(step))
    assert fetched, "the download by pip reports progress"


def test_a_wheel_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    manifest = photos_manifest(tmp_path / "source", wheel="iniconfig==0.0.0.1", member="x")
    with pytest.raises(SourceUnavailable, match="iniconfig"):
        fetch_pack(PackStore(tmp_path / "packs"), manifest, quiet)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "cannot be read"),
        ('name = "x"\nsummary = ""\nkind = "photos"\nfiles = []\nextra = 1', "extra"),
        ('name = "../x"\nsummary = ""\nkind = "photos"\nfiles = []', "name"),
        ('name = "x"\nsummary = ""\nkind = "models"\nfiles = []', "detector"),
        ('name = "x"\nsummary = ""\nkind = "photos"\nfiles = [{ name = "../../etc", sha256 = "0" }]', "name"),
        (
            f'name = "x"\nsummary = ""\nkind = "photos"\n[[files]]\nname = "a"\nsha256 = "{"0" * 64}"\n'
            'sources = [{ url = "http://plain" }]',
            "https",
        ),
    ],
    ids=["not-toml", "unknown-member", "escaping-name", "no-detector", "escaping-file", "plain-http"],
)
def test_an_invalid_manifest_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ManifestInvalid, match=reason):
        read_manifest(tmp_path / "m.toml")


def test_a_recognizer_with_different_outputs_is_refused(
    store: PackStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parity proof detects a channel swap in the conversion."""
    manifest = find_manifest("opencv-zoo")
    assert manifest.recognizer is not None
    from models.export import packs as build

    published = tmp_path / "published.onnx"
    model = onnx.load(store.path(manifest) / "recognizer" / "embedder.onnx")
    onnx.save(_raw_sface(model), published)
    entry = manifest.recognizer.model_copy(update={"file": published.name})
    build_recognizer(entry, published, tmp_path / "good")
    assert (tmp_path / "good" / CARD).is_file()
    swapped = entry.model_copy(update={"color": "bgr"})
    monkeypatch.setattr(build, "_network_input", lambda faces, _: _rgb(faces))
    with pytest.raises(ArtefactUnfit, match="differs"):
        build_recognizer(swapped, published, tmp_path / "bad")


def _rgb(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    return faces.transpose(0, 3, 1, 2).astype(np.float32)


def _raw_sface(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the layers that the conversion added: float NCHW in, the raw embedding out."""
    raw = next(node.input[0] for node in model.graph.node if node.output[0] == "vultus_squares")
    planes = next(node.output[0] for node in model.graph.node if node.op_type == "Transpose")
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
    inner = extractor.extract_model([planes], [raw])
    inner.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return inner
