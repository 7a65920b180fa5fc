"""The choice follows the measurements, is checked for parity, and applies to one machine and one model."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artefact.card import EMBEDDER_GRAPH
from models.artefact.digests import value_digest
from models.artefact.integrity import open_artefact
from models.detection import DetectionOptions
from models.errors import EngineMissing, InferenceFailed, StorageFailed
from models.packs import PackStore, find_manifest
from models.packs.store import RECOGNIZER_DIRECTORY
from models.runtime import RuntimeOptions, Session
from models.runtime.fake import FakeSession
from models.serving.load import Sharing, load_models
from models.serving.models import Models
from models.serving.tuning import (
    GraphTuning,
    RuntimeChoice,
    Timing,
    TunedGraph,
    Tuning,
    TuningKey,
    describe_machine,
    tuner,
)
from models.serving.tuning.graphs import FACE_BATCHES, common_canvas, recognizer_tuning, tuning_key
from models.serving.tuning.machine import _processor
from models.serving.tuning.records import read_tuning, write_tuning
from models.serving.tuning.tuner import choose, stream_counts, tune_graph, tune_graph_quickly

WIDE = RuntimeChoice("openvino", "cpu", "fp32", 2, 1)
NARROW = replace(WIDE, streams=2)
BF16, INT8 = replace(WIDE, precision="bf16"), replace(WIDE, precision="int8")


def timed(**rates: float) -> list[Timing]:
    choices = {"wide": WIDE, "narrow": NARROW, "bf16": BF16, "int8": INT8}
    timings = []
    for name, rate in rates.items():
        choice, _, batch = name.partition("_")
        timings.append(Timing(choices[choice], int(batch), rate, 1.0))
    return timings


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"wide_1": 100, "narrow_1": 120}, (NARROW, 1)),
        ({"wide_1": 104, "narrow_1": 100}, (NARROW, 1)),  # about as fast, and preferred beside other threads
        ({"wide_1": 120, "narrow_1": 100}, (WIDE, 1)),
        ({"wide_1": 100, "bf16_1": 104}, (WIDE, 1)),  # too little speedup for a lower precision
        ({"wide_1": 100, "bf16_1": 200, "int8_1": 208}, (BF16, 1)),
        ({"wide_1": 100, "bf16_1": 200, "int8_1": 260}, (INT8, 1)),
        ({"wide_1": 90, "wide_4": 99, "wide_8": 100, "wide_16": 95}, (WIDE, 4)),  # the smallest fast batch
        ({"wide_1": 40, "bf16_1": 50, "bf16_8": 90, "wide_8": 89}, (WIDE, 8)),
    ],
)
def test_chooses_the_fastest_unless_a_more_exact_one_or_a_smaller_batch_is_about_as_fast(
    rates: dict[str, float], chosen: tuple[RuntimeChoice, int]
) -> None:
    best = choose(timed(**rates))
    assert (best.choice, best.batch) == chosen


def test_latency_of_a_single_request_can_be_preferred() -> None:
    assert choose(timed(wide_1=100, narrow_1=104), "latency").choice == WIDE
    assert choose(timed(wide_1=100, narrow_1=120), "latency").choice == NARROW


def fake_graph(check: Any = None, choices: tuple[RuntimeChoice, ...] = (WIDE, BF16)) -> TunedGraph:
    return TunedGraph(lambda _: Path("none"), ("pixel",), (2, 2), choices, (1, 4), check or (lambda *_: None))


class Slow(FakeSession):
    """A session that takes some milliseconds per image, depending on the precision."""

    def __init__(self, choice: RuntimeChoice) -> None:
        spent = {"fp32": 0.004, "bf16": 0.001, "int8": 0.0005}[choice.precision]

        def answer(_: Any) -> Any:
            time.sleep(spent)
            return (np.zeros(1, np.float32),)

        super().__init__(answer)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "_TIMED_S", 0.02)

    def pretend(_graph: Path, _outputs: Any, _sizes: Any, options: Any, **_: Any) -> Session:
        if options.precision == "fp16":
            raise EngineMissing("this engine is missing")
        return Slow(RuntimeChoice("openvino", "cpu", options.precision, options.threads, options.streams))

    monkeypatch.setattr(tuner, "open_session", pretend)


@pytest.mark.usefixtures("engines")
def test_measures_every_choice_and_reports_progress() -> None:
    steps: list[tuple[str, int, int | None]] = []
    tuned = tune_graph(fake_graph(), lambda *step: steps.append(step))
    assert tuned.choice == BF16
    assert {(timing.choice, timing.batch) for timing in tuned.timings} == {
        (choice, batch) for choice in (WIDE, BF16) for batch in (1, 4)
    }
    assert tuned.chosen.rate == pytest.approx(800, rel=0.4)
    assert steps[0] == ("openvino fp32 on cpu, 1 stream", 0, 6)
    assert all(total is not None and done < total for _, done, total in steps)


@pytest.mark.usefixtures("engines")
def test_excludes_a_choice_that_fails_the_check_even_if_it_is_fastest() -> None:
    graph = fake_graph(lambda choice, _: "cosine 0.5" if choice.precision == "int8" else None, (WIDE, INT8))
    tuned = tune_graph(graph, lambda *_: None)
    assert tuned.choice == WIDE
    assert tuned.excluded == ("openvino int8 on cpu, 1 stream: cosine 0.5",)
    assert {timing.choice for timing in tuned.timings} == {WIDE}


@pytest.mark.usefixtures("engines")
def test_excludes_an_engine_that_fails_and_raises_if_all_fail() -> None:
    missing = replace(WIDE, precision="fp16")
    assert tune_graph(fake_graph(choices=(WIDE, missing)), lambda *_: None).choice == WIDE
    with pytest.raises(InferenceFailed, match="this engine is missing"):
        tune_graph(fake_graph(choices=(missing,)), lambda *_: None)


@pytest.mark.usefixtures("engines")
def test_excludes_a_choice_that_fails_later_and_does_not_measure_a_slow_one_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    pretend: Callable[..., Session] = vars(tuner)["open_session"]

    def counted(graph: Path, outputs: Any, sizes: Any, options: Any, **more: Any) -> Session:
        opened.append(options.precision)
        if options.precision == "int8" and opened.count("int8") > 1:
            raise EngineMissing("the engine has gone")
        return pretend(graph, outputs, sizes, options, **more)

    monkeypatch.setattr(tuner, "open_session", counted)
    tuned = tune_graph(fake_graph(choices=(WIDE, BF16, INT8)), lambda *_: None)
    assert tuned.choice == BF16
    assert "the engine has gone" in tuned.excluded[0]
    assert opened.count("fp32") == 1  # a quarter of the best rate, so not measured again
    assert opened.count("int8") == 2  # fails in its second round


@pytest.mark.usefixtures("engines")
def test_all_streams_are_busy_while_they_are_measured() -> None:
    tuned = tune_graph(fake_graph(choices=(WIDE, NARROW)), lambda *_: None)
    rates = {timing.choice: timing.rate for timing in tuned.timings if timing.batch == 1}
    assert rates[NARROW] == pytest.approx(2 * rates[WIDE], rel=0.3)


def test_layouts_go_from_one_wide_stream_to_one_for_each_core() -> None:
    assert list(stream_counts(1)) == [1]
    assert list(stream_counts(2)) == [1, 2]
    assert list(stream_counts(16)) == [1, 4, 16]


KEY = TuningKey({"cpu": "x", "cores": "2"}, "cpu", "r", "d", 640)
TUNING = Tuning(
    KEY,
    "2026-01-01T00:00:00+00:00",
    GraphTuning(BF16, 4, (Timing(BF16, 4, 100.5, 9.9), Timing(WIDE, 1, 50.0, 20.0)), ("int8: why",)),
    GraphTuning(WIDE, 1, (Timing(WIDE, 1, 50.0, 20.0),), ()),
)


def test_a_stored_tuning_is_read_only_for_the_same_machine_and_model(tmp_path: Path) -> None:
    write_tuning(tmp_path, TUNING)
    assert read_tuning(tmp_path, KEY) == TUNING
    assert read_tuning(tmp_path, KEY._replace(machine={"cpu": "y", "cores": "2"})) is None
    assert read_tuning(tmp_path, KEY._replace(recognizer="other")) is None
    assert read_tuning(tmp_path, KEY._replace(max_side_px=1024)) is None
    assert read_tuning(tmp_path, KEY._replace(device="cuda")) is None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("largest", 0),
        ("largest", "x"),
        ("largest", 3),
        ("timings", []),
        ("timings.0.rate", "quick"),
        ("timings.1.latency_ms", 0),
        ("choice.engine", "bogus"),
        ("choice.streams", 0),
    ],
)
def test_a_choice_that_was_never_measured_is_not_read(member: str, value: object, tmp_path: Path) -> None:
    path = write_tuning(tmp_path, TUNING)
    content = json.loads(path.read_text())
    del content["digest"]
    part = content["recognizer"]
    *outer, name = member.split(".")
    for step in outer:
        part = part[int(step) if step.isdigit() else step]
    part[name] = value
    path.write_text(json.dumps({**content, "digest": value_digest(content)}))
    assert read_tuning(tmp_path, KEY) is None


def test_a_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        write_tuning(tmp_path / "file" / "tunings", TUNING)


def test_a_renamed_tuning_of_another_machine_is_not_read(tmp_path: Path) -> None:
    other = KEY._replace(machine={"cpu": "y", "cores": "2"})
    write_tuning(tmp_path, TUNING).rename(tmp_path / f"{other.digest}.json")
    assert read_tuning(tmp_path, other) is None


@pytest.mark.parametrize("change", ["altered", "truncated", "version", "missing", "deep"])
def test_an_invalid_file_is_not_read(change: str, tmp_path: Path) -> None:
    path = write_tuning(tmp_path, TUNING)
    content = json.loads(path.read_text())
    if change == "altered":
        content["recognizer"]["largest"] = 32
    if change == "version":
        content["version"] = 99
    path.write_text({"truncated": "{", "deep": "[" * 100_000}.get(change) or json.dumps(content))
    if change == "missing":
        path.unlink()
    assert read_tuning(tmp_path, KEY) is None


def test_describes_the_processor_the_cores_and_the_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = describe_machine()
    assert machine["cpu"]
    assert int(machine["cores"]) >= 1
    assert "onnxruntime" in machine or "openvino" in machine
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: Some CPU\nmodel : 7\n\nprocessor : 1\nmodel name : Some CPU\n")
    monkeypatch.setattr("models.serving.tuning.machine._CPUINFO", cpuinfo)
    assert _processor() == "Some CPU 7"
    monkeypatch.setattr("models.serving.tuning.machine._CPUINFO", tmp_path / "missing")
    assert _processor()


def test_the_proven_precisions_are_tuned(real_models: Models, store: PackStore) -> None:
    card = replace(
        real_models.recognizer, graphs={**dict.fromkeys(("fp32", "int8", "int8-cpu", "fp16"), EMBEDDER_GRAPH)}
    )
    proof = {"measured": [{"precision": p, "engine": "openvino", "passed": True} for p in ("fp32", "int8", "int8-cpu")]}
    faces = np.zeros((2, 112, 112, 3), np.uint8)
    directory = store.path(find_manifest("opencv-zoo")) / RECOGNIZER_DIRECTORY
    graph = recognizer_tuning(directory, card, proof, "cpu", faces, {"fp32"})
    assert {choice.precision for choice in graph.choices} == {"fp32"}
    graph = recognizer_tuning(directory, card, proof, "cpu", faces)
    assert {choice.precision for choice in graph.choices} == {"fp32", "int8"}
    proof["measured"].append({"precision": "fp16", "engine": "onnxruntime", "passed": True})
    graph = recognizer_tuning(directory, card, proof, "cuda", faces)
    assert {(choice.engine, choice.precision) for choice in graph.choices} == {
        ("onnxruntime", "fp16"),
        ("onnxruntime-tensorrt", "fp16"),
        ("tensorrt", "fp16"),
    }
    assert graph.batches == FACE_BATCHES["cuda"]


def test_serving_uses_the_tuning_and_settings_override_it(
    real_models: Models, store: PackStore, tmp_path: Path
) -> None:
    key = tuning_key(real_models.recognizer, real_models.detector, DetectionOptions(), "cpu")
    choice = RuntimeChoice("onnxruntime", "cpu", "fp32", 2, 2)
    chosen = GraphTuning(choice, 4, (Timing(choice, 4, 1.0, 1.0),), ())
    write_tuning(tmp_path, Tuning(key, "now", chosen, chosen))
    manifest = find_manifest("opencv-zoo")
    tuned = load_models(store, manifest, sharing=Sharing(2), tunings=tmp_path)
    other = load_models(store, manifest, RuntimeOptions(streams=1), sharing=Sharing(2, largest=3), tunings=tmp_path)
    try:
        assert tuned.embedder_session.engine == tuned.detector_session.engine == "onnxruntime"
        assert (tuned.embedder_session.streams, tuned.untuned_because) == (2, None)
        assert [session._batching.largest for session in tuned.shared] == [4, 4]
        assert [session._batching.workers for session in tuned.shared] == [2, 2]
        assert (other.embedder_session.engine, other.tuning) == ("openvino", None)
        assert "settings" in str(other.untuned_because)
        assert [session._batching.largest for session in other.shared] == [3, 1]
    finally:
        tuned.close()
        other.close()
    assert common_canvas(DetectionOptions()) == (480, 640)


def test_a_tuning_that_the_proof_no_longer_covers_is_not_used(
    real_models: Models, store: PackStore, tmp_path: Path
) -> None:
    key = tuning_key(real_models.recognizer, real_models.detector, DetectionOptions(), "cpu")
    choice = RuntimeChoice("openvino", "cpu", "fp16", 2, 1)
    chosen = GraphTuning(choice, 4, (Timing(choice, 4, 1.0, 1.0),), ())
    write_tuning(tmp_path, Tuning(key, "now", chosen, chosen))
    models = load_models(store, find_manifest("opencv-zoo"), tunings=tmp_path)
    assert models.tuning is None
    assert "run vultus tune" in str(models.untuned_because)
    assert "fp16" in str(models.untuned_because)
    assert models.embedder_session.engine == real_models.embedder_session.engine


@pytest.mark.usefixtures("engines")
def test_a_quick_tuning_measures_each_kind_and_then_the_streams_of_the_fastest() -> None:
    steps: list[str] = []
    split = replace(BF16, streams=2)
    graph = fake_graph(choices=(WIDE, NARROW, BF16, split))
    tuned = tune_graph_quickly(graph, 60.0, lambda name, *_: steps.append(name))
    assert [step.removeprefix("openvino ").replace(" on cpu", "") for step in steps] == [
        "fp32, 1 stream",
        "bf16, 1 stream",
        "bf16, 2 streams",
    ]
    assert tuned.choice == split
    assert tuned.chosen.batch == 1


@pytest.mark.usefixtures("engines")
def test_a_quick_tuning_ends_in_time_with_what_an_untuned_machine_runs() -> None:
    tuned = tune_graph_quickly(fake_graph(choices=(WIDE, BF16)), 0.0, lambda *_: None)
    assert tuned.choice == WIDE
    assert tuned.excluded == ("openvino bf16 on cpu, 1 stream: not measured within 0 s",)


@pytest.mark.usefixtures("engines")
def test_a_quick_tuning_goes_on_if_the_first_choice_fails() -> None:
    missing = replace(WIDE, precision="fp16")
    tuned = tune_graph_quickly(fake_graph(choices=(missing, WIDE)), 0.0, lambda *_: None)
    assert tuned.choice == WIDE


def test_the_first_choice_is_what_an_untuned_machine_runs(real_models: Models, store: PackStore) -> None:
    directory = store.path(find_manifest("opencv-zoo")) / RECOGNIZER_DIRECTORY
    card, proof = open_artefact(directory)
    first = recognizer_tuning(directory, card, proof, "cpu", np.zeros((1, 112, 112, 3), np.uint8)).choices[0]
    described = real_models.embedder_session
    assert (first.engine, first.precision, first.streams) == (described.engine, described.precision, described.streams)
