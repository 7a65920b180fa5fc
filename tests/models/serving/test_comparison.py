"""A proof holds for the instruction set on which it was measured; elsewhere the embeddings are compared at loading."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.artefact.card import Card
from models.errors import ArtefactUnfit, InferenceFailed
from models.runtime import Precision, RuntimeOptions, Session, SessionDescription, open_session
from models.runtime.fake import FakeSession, fake_embedding
from models.runtime.instructions import instruction_set
from models.runtime.session import Arrays, EngineName, Images
from models.serving import comparison, recognizer
from models.serving.choice import row_of
from models.serving.comparison import comparison_key, has_passed, is_proven_here, write_passed
from models.serving.recognizer import open_recognizer
from models.types import Embeddings
from tests.conftest import ROOT
from tests.models.serving.saturating import make_artefact, proof_on

INT8 = RuntimeOptions("onnxruntime", precision="int8")
HERE = instruction_set("onnxruntime")

Open = Callable[..., Session]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    directory = tmp_path_factory.mktemp("artefact")
    return directory, make_artefact(directory, 7)  # 7 bits, so that the tests pass on any processor


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engine and precision of each comparison; every comparison is still done."""
    names: list[str] = []
    original = comparison.require_parity

    def require_parity(session: Session, directory: Path, card: Card, graph: str) -> list[dict[str, Any]]:
        described = session.describe()
        names.append(f"{described.precision} on {described.engine}")
        return original(session, directory, card, graph)

    monkeypatch.setattr(recognizer, "require_parity", require_parity)
    return names


class DescribedSession(FakeSession):
    """A fake that returns the embeddings of a fake recognizer, or others, and states an engine and a precision."""

    def __init__(self, engine: EngineName, precision: Precision, right: bool) -> None:
        super().__init__(fake_embedding if right else lambda image: fake_embedding(255 - image))
        self._described = (engine, precision)

    def describe(self) -> SessionDescription:
        engine, precision = self._described
        return replace(super().describe(), engine=engine, precision=precision)


def engines(monkeypatch: pytest.MonkeyPatch, *wrong: tuple[str, str]) -> list[str]:
    """Replace the engines by fakes, of which some return other embeddings; `auto` runs bf16.

    Returns:
        The names of the graphs that the recognizer opens from now on.
    """
    names: list[str] = []

    def opened(graph: Path, _: Any, __: Any, options: RuntimeOptions) -> Session:
        precision: Precision = "bf16" if options.precision == "auto" else options.precision
        assert options.engine != "auto"
        return DescribedSession(options.engine, precision, (options.engine, Path(graph).stem) not in wrong)

    def noted(graph: Path, *arguments: Any) -> Session:
        names.append(graph.name)
        return opened(graph, *arguments)

    monkeypatch.setattr(recognizer, "open_session", noted)
    monkeypatch.setattr(comparison, "open_session", opened)
    monkeypatch.setattr(
        "models.runtime.onnxruntime_engine.exact_embeddings",
        lambda _, faces: Embeddings(*FakeSession(fake_embedding).run(faces)).raw,
    )
    return names


def test_a_proof_of_this_instruction_set_is_believed(artefact: tuple[Path, Card], compared: list[str]) -> None:
    open_recognizer(*artefact, proof_on(HERE, "fp32", "int8", engine="onnxruntime"), INT8, None)
    assert compared == []


@pytest.mark.parametrize("isa", ["elsewhere", None])
def test_a_proof_of_another_or_unknown_instruction_set_is_compared_once(
    isa: str | None, artefact: tuple[Path, Card], compared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, card = artefact
    proof = proof_on(isa, "fp32", "int8", engine="onnxruntime")
    for _ in range(2):
        _, session, graph = open_recognizer(directory, card, proof, INT8, tmp_path / "comparisons")
        assert session.describe().precision == "int8"
        assert row_of(card, graph, session.describe()) == ("int8", "onnxruntime")
    (stored,) = (tmp_path / "comparisons").iterdir()
    (row,) = json.loads(stored.read_text())["measured"]
    assert row["worst_cosine"] > 0.9
    assert compared == ["int8 on onnxruntime"]
    other = replace(card, files={**card.files, "embedder.int8.onnx": "other weights"})
    open_recognizer(directory, other, proof, INT8, tmp_path / "comparisons")
    assert len(compared) == 2
    monkeypatch.setattr(comparison, "instruction_set", lambda _: "another processor")
    open_recognizer(directory, card, proof, INT8, tmp_path / "comparisons")
    assert len(compared) == 3


def test_a_quantised_source_is_not_served_where_its_sums_saturate(
    artefact: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its float32 graph is quantised too, so a comparison with it shows nothing."""
    directory, card = artefact
    quantised = replace(card, source={**card.source, "arithmetic": "int8"})
    wanted = RuntimeOptions("onnxruntime", precision="fp32")
    for saturating, isa, served in ((True, "elsewhere", False), (True, HERE, True), (False, "elsewhere", True)):
        monkeypatch.setattr(recognizer, "saturates", lambda _, answer=saturating: answer)
        proof = proof_on(isa, "fp32", engine="onnxruntime")
        if served:
            open_recognizer(directory, quantised, proof, wanted, None)
        else:
            with pytest.raises(ArtefactUnfit, match="8-bit sums saturate on this processor"):
                open_recognizer(directory, quantised, proof, wanted, None)


def test_float32_on_a_cpu_is_not_compared(artefact: tuple[Path, Card], compared: list[str]) -> None:
    wanted = RuntimeOptions("onnxruntime", precision="fp32")
    open_recognizer(*artefact, proof_on(None, "fp32", engine="onnxruntime"), wanted, None)
    assert compared == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_proof_of_a_cpu_does_not_hold_on_a_gpu(precision: Precision) -> None:
    described = SessionDescription("onnxruntime", "0", "CUDAExecutionProvider", precision, 0)
    assert not is_proven_here(described, HERE, "cuda")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_every_precision_but_float32_depends_on_the_instruction_set(precision: Precision) -> None:
    described = SessionDescription("onnxruntime", "0", "CPUExecutionProvider", precision, 1)
    assert is_proven_here(described, HERE, "cpu")
    assert not is_proven_here(described, "elsewhere", "cpu")


def test_auto_passes_over_bfloat16_that_differs_here(
    artefact: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory, card = artefact
    original = comparison.require_parity

    def require_parity(session: Session, directory: Path, card: Card, graph: str) -> list[dict[str, Any]]:
        if session.describe().precision == "bf16":
            raise ArtefactUnfit("bf16 differs here")
        return original(session, directory, card, graph)

    engines(monkeypatch)
    monkeypatch.setattr(recognizer, "require_parity", require_parity)
    options, session, _ = open_recognizer(
        directory, card, proof_on("elsewhere", "fp32", "bf16"), RuntimeOptions(), None
    )
    assert (options.engine, options.precision, session.describe().precision) == ("openvino", "fp32", "fp32")
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == "passed over: bf16 differs here"
    with pytest.raises(ArtefactUnfit, match="bf16 differs here"):
        open_recognizer(
            directory, card, proof_on("elsewhere", "fp32", "bf16"), RuntimeOptions("openvino", precision="bf16"), None
        )


def test_int8_moves_to_the_next_engine_within_the_settings_or_is_refused(
    artefact: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory, card = artefact
    rows = [proof_on("elsewhere", "int8", engine=engine)["measured"][0] for engine in ("openvino", "onnxruntime")]
    proof = {"measured": rows}
    wanted = RuntimeOptions(precision="int8")
    engines(monkeypatch, ("openvino", "embedder.int8"))
    options, *_ = open_recognizer(directory, card, proof, wanted, tmp_path)
    assert options.engine == "onnxruntime"
    with pytest.raises(ArtefactUnfit, match=r"small in int8 on openvino is not the same model on this processor \("):
        open_recognizer(directory, card, proof, replace(wanted, engine="openvino"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # a failed comparison is not stored
    engines(monkeypatch, ("openvino", "embedder.int8"), ("onnxruntime", "embedder.int8"))
    with pytest.raises(ArtefactUnfit, match="int8 on onnxruntime is not the same model"):
        open_recognizer(directory, replace(card, files={}), proof, wanted, tmp_path)


def test_the_variant_for_cpus_is_passed_over_where_only_the_other_one_holds(
    artefact: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, card = artefact
    card = replace(card, graphs={**card.graphs, "int8-cpu": "embedder.int8-cpu.onnx"})
    opened = engines(monkeypatch, ("openvino", "embedder.int8-cpu"))
    _, session, graph = open_recognizer(
        directory, card, proof_on("elsewhere", "int8", "int8-cpu"), RuntimeOptions("openvino", precision="int8"), None
    )
    assert row_of(card, graph, session.describe()) == ("int8", "openvino")
    assert opened == ["embedder.int8-cpu.onnx", "embedder.int8.onnx"]


def test_numbers_that_are_not_finite_fail_the_comparison(artefact: tuple[Path, Card]) -> None:
    class Broken(DescribedSession):
        def run(self, images: Images, deadline: Any = None) -> Arrays:  # noqa: ARG002
            raise InferenceFailed("onnxruntime returned numbers that are not finite")

    with pytest.raises(ArtefactUnfit, match="not finite; serve another precision"):
        comparison.require_parity(Broken("onnxruntime", "fp16", True), *artefact, "embedder.fp16.onnx")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"graph": "embedder.int8.onnx"', '"graph": "embedder.onnx"'),
        lambda _: "[]",
        lambda _: "[" * 10**6,
    ],
)
def test_a_damaged_record_of_a_comparison_does_not_count(
    damage: Callable[[str], str], artefact: tuple[Path, Card], tmp_path: Path
) -> None:
    session = open_session(artefact[0] / "embedder.int8.onnx", ("embedding",), ((16, 16),), INT8).describe()
    key = comparison_key(artefact[1], "embedder.int8.onnx", session, "cpu")
    write_passed(tmp_path, key, [{"worst_cosine": 1.0}])
    assert has_passed(tmp_path, key)
    assert not has_passed(None, key)
    assert not has_passed(tmp_path, key._replace(isa="elsewhere"))
    assert not has_passed(tmp_path, key._replace(limits={"mean_cosine": 0.999}))
    (file,) = tmp_path.iterdir()
    (tmp_path / f"{key._replace(isa='elsewhere').digest}.json").write_text(file.read_text())
    assert not has_passed(tmp_path, key._replace(isa="elsewhere"))
    file.write_text(damage(file.read_text()))
    assert not has_passed(tmp_path, key)


def test_a_directory_that_cannot_be_written_does_not_end_the_start(
    artefact: tuple[Path, Card], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    proof = proof_on(None, "fp32", "int8", engine="onnxruntime")
    open_recognizer(*artefact, proof, INT8, tmp_path / "file/comparisons")
    assert "the comparison will be repeated at the next start" in caplog.text


@pytest.mark.skipif(HERE.startswith("neon"), reason="8-bit products do not saturate on ARM")
def test_8_bit_weights_that_saturate_are_refused_and_7_bit_weights_are_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.models.serving.saturating", str(tmp_path)]
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(command, env=limited, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    with_8_bits, with_7_bits = json.loads(done.stdout)
    assert with_8_bits["cosine"] < 0.9 < 0.999 < with_7_bits["cosine"]
    assert "int8 on openvino is not the same model on this processor (avx2)" in with_8_bits["error"]
    assert with_8_bits["error"].endswith("export it with --weight-bits 7, or serve another precision")
    assert with_7_bits["error"] is None
