import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest

from models.artefact.card import EMBEDDER_GRAPH
from models.artefact.parity import compare
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import EngineConflict, EngineMissing, InferenceFailed, PrecisionUnsupported
from models.graph import Preprocessing, recognizer_graph, simplify
from models.packs import PackStore, find_manifest
from models.runtime import RuntimeOptions, loading, open_session
from models.runtime.fake import FakeSession, fake_embedding
from models.serving.models import Models
from models.synthetic import synthetic_pictures
from models.types import Embeddings
from tests.models.test_graph import tiny_recognizer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    onnx.save(recognizer_graph(simplify(tiny_recognizer()[0]), Preprocessing("rgb")), path)
    return path


def load(graph: Path, **options: object):  # type: ignore[no-untyped-def]
    return open_session(graph, EMBEDDER_OUTPUTS, ((8, 8),), RuntimeOptions(**options))  # type: ignore[arg-type]


def test_auto_selects_openvino_on_the_cpu_and_reports_it(tiny: Path) -> None:
    description = load(tiny).describe()
    assert (description.engine, description.provider) == ("openvino", "CPU")
    assert description.threads >= 1


def test_onnxruntime_reports_the_provider_that_runs(tiny: Path) -> None:
    description = load(tiny, engine="onnxruntime").describe()
    assert (description.engine, description.provider) == ("onnxruntime", "CPUExecutionProvider")
    assert description.precision == "fp32"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_session_optimised_for_one_image_also_runs_a_batch(tiny: Path, engine: str) -> None:
    faces, options = synthetic_pictures(3, 8, 8), RuntimeOptions(engine, precision="fp32")  # type: ignore[arg-type]
    expected = open_session(tiny, EMBEDDER_OUTPUTS, ((8, 8),), options).run(faces)
    actual = open_session(tiny, EMBEDDER_OUTPUTS, ((8, 8),), options, single_image=True).run(faces)
    for array, reference in zip(actual, expected, strict=True):
        assert array.shape[0] == 3
        assert np.allclose(array, reference, atol=1e-6)


def test_a_missing_provider_is_an_error_without_fallback_to_the_cpu(tiny: Path) -> None:
    with pytest.raises(EngineMissing, match="CUDAExecutionProvider"):
        load(tiny, device="cuda")
    with pytest.raises(EngineMissing):
        load(tiny, engine="openvino", device="cuda")


def test_a_provider_that_silently_falls_back_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: stub)
    with pytest.raises(EngineMissing, match="selected CPUExecutionProvider"):
        load(tiny, engine="onnxruntime", device="cuda")


def test_an_engine_that_is_not_installed_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(EngineMissing, match="extras"):
        load(tiny, engine="openvino")


def test_two_builds_of_onnxruntime_are_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(name: str) -> None:
        if name not in ("onnxruntime", "onnxruntime-gpu"):
            raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "distribution", pretend)
    for engine in ("auto", "onnxruntime"):
        with pytest.raises(EngineConflict, match="onnxruntime and onnxruntime-gpu"):
            load(tiny, engine=engine)


def test_an_unsupported_precision_is_an_error(tiny: Path) -> None:
    with pytest.raises(PrecisionUnsupported):
        load(tiny, engine="onnxruntime", precision="bf16")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_batch_returns_the_same_as_single_images(tiny: Path, engine: str) -> None:
    session = load(tiny, engine=engine, precision="fp32")
    images = np.random.default_rng(0).integers(0, 256, (71, 8, 8, 3), dtype=np.uint8)
    together = session.run(images)
    alone = [session.run(image[None]) for image in images]
    for index, array in enumerate(together):
        np.testing.assert_allclose(array, np.concatenate([arrays[index] for arrays in alone]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_concurrent_threads_receive_their_own_outputs(tiny: Path, engine: str) -> None:
    session = load(tiny, engine=engine, precision="fp32")
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8, 3), dtype=np.uint8)
    expected = [session.run(image)[0] for image in images]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            for actual, wanted in zip(threads.map(session.run, images), expected, strict=True):
                np.testing.assert_allclose(actual[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 9, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
    ids=["size", "dtype", "rank", "none"],
)
def test_refuses_undeclared_image_shapes(tiny: Path, engine: str, images: np.ndarray) -> None:
    with pytest.raises(InferenceFailed):
        load(tiny, engine=engine).run(images)


def test_openvino_compiles_a_size_once_when_it_is_first_run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    original = ov.Core.compile_model

    def count(core: ov.Core, model: ov.Model, *options: object) -> ov.CompiledModel:
        compiled.append(model.input(0).partial_shape.to_string())
        return original(core, model, *options)

    monkeypatch.setattr(ov.Core, "compile_model", count)
    options = RuntimeOptions(engine="openvino", precision="fp32")
    session = open_session(tiny, EMBEDDER_OUTPUTS, ((8, 8), (8, 16)), options)
    assert len(compiled) == 1
    wide = np.zeros((1, 8, 16, 3), np.uint8)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(session.run, [wide] * 16))
    assert len(compiled) == 2
    assert all(np.array_equal(result[0], results[0][0]) for result in results)


def test_engines_write_no_telemetry_identifier(tiny: Path, tmp_path: Path) -> None:
    """By default, both engines write an identifier into the home directory when they are imported."""
    program = (
        "import sys; from pathlib import Path; from models.embedding import EMBEDDER_OUTPUTS\n"
        "from models.runtime import RuntimeOptions, open_session\n"
        "for engine in ('openvino', 'onnxruntime'):\n"
        "    open_session(Path(sys.argv[1]), EMBEDDER_OUTPUTS, ((8, 8),), RuntimeOptions(engine=engine))\n"
    )
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    (tmp_path / "home").mkdir()
    subprocess.run([sys.executable, "-c", program, str(tiny)], env=environment, check=True, timeout=60)
    assert not list((tmp_path / "home").rglob("*"))


def test_numbers_that_are_not_finite_are_an_error() -> None:
    session = FakeSession(lambda _: (np.array([np.nan], np.float32), np.ones(1, np.float32)))
    with pytest.raises(InferenceFailed, match="finite"):
        session.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_the_fake_session_distinguishes_images() -> None:
    session = FakeSession(fake_embedding)
    embedding, norm = session.run(synthetic_pictures(3, 112, 112))
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    assert np.abs(embedding @ embedding.T - np.eye(3)).max() < 0.5
    assert norm.shape == (3,)


def test_engines_and_precisions_agree_on_the_default_recognizer(store: PackStore, real_models: Models) -> None:
    graph = store.path(find_manifest("opencv-zoo")) / "recognizer" / EMBEDDER_GRAPH
    faces = synthetic_pictures(8, 112, 112)
    embeddings = {}
    for engine, precision in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "auto")):
        options = RuntimeOptions(engine=engine, precision=precision)  # type: ignore[arg-type]
        embeddings[engine, precision] = Embeddings(
            *open_session(graph, EMBEDDER_OUTPUTS, ((112, 112),), options).run(faces)
        )
    reference = embeddings["onnxruntime", "fp32"]
    raw = reference.raw
    assert compare(raw, embeddings["openvino", "fp32"]).failures("fp32") == []
    assert compare(raw, embeddings["openvino", "auto"]).failures("bf16") == []
    assert real_models.recognizer.dimensions == raw.shape[1]


@pytest.mark.parametrize(("threads", "streams", "pool"), [(8, 1, 8), (8, 2, 7), (8, 8, 1), (2, 4, 1)])
def test_onnxruntime_uses_every_thread_with_the_threads_of_the_callers(
    threads: int, streams: int, pool: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of n has n - 1 threads beside those of the callers, of which there is one for each stream."""
    seen: list[int] = []
    original = onnxruntime.InferenceSession

    def opened(path: str, options: onnxruntime.SessionOptions, **others: object) -> onnxruntime.InferenceSession:
        seen.append(options.intra_op_num_threads)
        return original(path, options, **others)

    monkeypatch.setattr("onnxruntime.InferenceSession", opened)
    load(tiny, engine="onnxruntime", threads=threads, streams=streams)
    assert seen == [pool]
