"""`vultus evaluate` and `vultus calibrate`, run as commands on real photos with the real pack."""

import json
import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner, Result

from models.calibration import read_calibrations, write_calibrations
from models.deadline import Deadline
from models.errors import CalibrationUnfit, SetIncomplete, SetUnsafe, SingleClass, StorageFailed, TooFewSubjects
from models.evaluation.calibrate.degradation import degrade
from models.pipeline import CroppedPhoto
from models.runtime import Precision, RuntimeOptions
from models.serving.models import Models
from service.cli.main import app
from service.settings import load_settings
from service.startup import load_configured_models
from tests.conftest import fake_calibration
from tests.models.evaluation.people import models_by_color, write_people
from tests.pictures import encode
from tests.service.cli.command import vultus


@pytest.fixture(scope="session")
def people(photos: Path, real_client: TestClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six people of the group photo, each unchanged and degraded in two ways, and a photo without a face."""
    root = tmp_path_factory.mktemp("set") / "people"
    faces = real_client.post("/v1/detect", files={"images": (photos / "group.jpg").read_bytes()}).json()["items"][0]
    with Image.open(photos / "group.jpg") as group:
        for number, face in enumerate(faces["faces"]):
            x1, y1, x2, y2 = face["box"]
            margin = 0.35 * (x2 - x1)
            picture = group.crop((int(x1 - margin), int(y1 - margin), int(x2 + margin), int(y2 + margin)))
            folder = root / f"person {number}"
            folder.mkdir(parents=True)
            picture.save(folder / "original.png")
            for kind in ("dark", "JPEG 10"):
                Image.fromarray(degrade(np.asarray(picture), kind)).save(folder / f"{kind}.png")
    (root / "person 0" / "empty.png").write_bytes(encode(Image.new("RGB", (120, 120), "gray")))
    return root


def run(*arguments: str | Path, status: int = 0) -> str:
    done: Result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.output


def numbers(path: Path) -> dict[str, float]:
    (evaluation,) = json.loads(path.read_text())["evaluations"]
    return {figure["name"]: figure["value"] for figure in evaluation["figures"]}


def test_user_pictures_end_to_end(people: Path, data_dir: Path, tmp_path: Path) -> None:
    page, content = tmp_path / "report.html", tmp_path / "report.json"
    out = run("evaluate", "pictures", people, "--html", page, "--json", content)
    assert "6 subjects" in out
    assert "18 mated comparisons" in out
    assert "failure to acquire: 1 of 19 pictures" in out
    assert re.search(r"person 0/empty.png +no_face", out)
    assert "sface on openvino" in out or "sface on onnxruntime" in out
    assert numbers(content)["non_mated"] == 18 * 17 / 2 - 18
    assert "person 0/empty.png" in page.read_text()
    assert list((data_dir / "evaluations").glob("*.sqlite"))
    printed = json.loads(run("evaluate", "pictures", people, "--json", "-"))
    assert printed["evaluations"][0]["figures"] == json.loads(content.read_text())["evaluations"][0]["figures"]


@pytest.mark.usefixtures("data_dir")
def test_the_requested_engine_and_precision_are_measured(people: Path, tmp_path: Path) -> None:
    for engine, precision in (("onnxruntime", "fp32"), ("openvino", "fp32")):
        content = tmp_path / f"{engine}.json"
        run("evaluate", "pictures", people, "--engine", engine, "--precision", precision, "--json", content)
        (evaluation,) = json.loads(content.read_text())["evaluations"]
        assert (evaluation["conditions"]["engine"], evaluation["conditions"]["precision"]) == (engine, precision)


def kept(data_dir: Path) -> list[Path]:
    """Return the kept reports, oldest first."""
    return sorted((data_dir / "reports").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def test_the_report_is_kept_without_names_of_people_and_files(people: Path, data_dir: Path, tmp_path: Path) -> None:
    cohorts = tmp_path / "cohorts.csv"
    cohorts.write_text("image,light\n" + "".join(f"person {n}/dark.png,dark\n" for n in range(6)))
    content = tmp_path / "all.json"
    run("evaluate", "pictures", people, "--cohorts", cohorts, "--json", content)
    run("evaluate", "search", people, people)
    first, second = map(Path.read_text, kept(data_dir))
    assert "person 0" in content.read_text()
    for text in (first, second):
        assert not re.search(r"person|empty\.png|original|dark\.png", text)
    (whole,), (left,) = json.loads(content.read_text())["evaluations"], json.loads(first)["evaluations"]
    assert [chart["name"] for chart in left["charts"]] == [chart["name"] for chart in whole["charts"]]
    assert left["figures"] == whole["figures"]
    tables = [{table["name"] for table in evaluation["tables"]} for evaluation in (whole, left)]
    assert tables[0] - tables[1] >= {"failures", "closest_non_mated", "farthest_mated"}
    assert {"points", "weighting"} <= tables[1]
    assert all(path.name.startswith("evaluation-people-2") for path in kept(data_dir)[:1])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept(data_dir))


def test_no_report_is_kept_on_request_or_where_it_cannot_be(people: Path, data_dir: Path) -> None:
    run("evaluate", "pictures", people, "--no-keep")
    assert not (data_dir / "reports").exists()
    (data_dir / "reports").write_text("in the way")
    done = CliRunner().invoke(app, ["evaluate", "pictures", str(people), "--json", "-"], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["evaluations"]
    assert re.search(r"the report was not kept: .+reports cannot be written: File exists", done.stderr)


def test_no_cache_writes_no_embeddings(people: Path, data_dir: Path) -> None:
    run("evaluate", "pictures", people, "--no-cache", "--pairs", "10", "--seed", "4")
    assert not (data_dir / "evaluations").exists()


@pytest.mark.usefixtures("data_dir")
def test_listed_pairs_and_search(people: Path, tmp_path: Path) -> None:
    listing = tmp_path / "pairs.csv"
    rows = [f"person {n}/dark.png,person {n}/original.png,1" for n in range(6)]
    rows += [f"person {n}/dark.png,person {(n + 1) % 6}/original.png,0" for n in range(6)]
    listing.write_text("\n".join(["first,second,mated", *rows]))
    out = run("evaluate", "pairs", listing, "--images", people)
    assert "6 mated comparisons" in out
    assert "support no operating point, which needs 30 errors" in " ".join(out.split())
    gallery, probes = tmp_path / "gallery", tmp_path / "probes"
    for number in range(6):
        for root, name in ((gallery, "original.png"), (probes, "JPEG 10.png")):
            if root == probes or number < 4:
                (root / f"person {number}").mkdir(parents=True)
                (root / f"person {number}" / name).write_bytes((people / f"person {number}" / name).read_bytes())
    out = run("evaluate", "search", gallery, probes)
    assert "4 subjects enrolled by 4 pictures" in out
    assert "rank 1: 100.00% of mated probes" in out


@pytest.mark.usefixtures("data_dir")
def test_a_bin_set_end_to_end(people: Path, real_models: Models, tmp_path: Path) -> None:
    """The set holds crops that the pipeline made from the real photos, in the format of insightface."""
    crops = []
    for number in range(6):
        files = [(people / f"person {number}" / name).read_bytes() for name in ("original.png", "dark.png")]
        for photo in real_models.pipeline.crop(files, "single", Deadline()):
            assert isinstance(photo, CroppedPhoto)
            crops.append(encode(Image.fromarray(photo.crops[0])))
    images, same = [], []
    for number in range(6):
        images += [crops[2 * number], crops[2 * number + 1], crops[2 * number], crops[(2 * number + 2) % 12]]
        same += [True, False]
    path = tmp_path / "people.bin"
    path.write_bytes(pickle.dumps((images, same), 2))
    out = run("evaluate", "bin", path, path, "--json", tmp_path / "bin.json")
    assert out.count("10-fold accuracy") == 2
    assert out.count("XNorm") == 2
    first, second = json.loads((tmp_path / "bin.json").read_text())["evaluations"]
    assert first == second


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("harm",)


@pytest.mark.usefixtures("data_dir")
def test_invalid_input_ends_in_one_line(people: Path, tmp_path: Path) -> None:
    harmful = tmp_path / "harm.bin"
    harmful.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(SetUnsafe, match=r"builtins\.print"):
        run("evaluate", "bin", harmful)
    done = vultus("evaluate", "bin", str(harmful))
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "nothing was run" in done.stderr
    listing = tmp_path / "pairs.csv"
    listing.write_text("first,second,mated\nperson 0/original.png,gone.png,1\n")
    with pytest.raises(SetIncomplete, match=r"gone\.png"):
        run("evaluate", "pairs", listing, "--images", people)
    with pytest.raises(SingleClass):
        run("evaluate", "pairs", listing, "--images", people, "--max-missing", "1")
    with pytest.raises(StorageFailed, match=r"the directory \S+gone does not exist"):
        run("evaluate", "pictures", people, "--html", tmp_path / "gone" / "report.html")
    with pytest.raises(StorageFailed, match=r"the directory \S+gone does not exist"):
        run("calibrate", people, "--out", tmp_path / "gone" / "c.json")
    with pytest.raises(CalibrationUnfit, match="support no operating point"):
        many = tmp_path / "many"
        for number in range(22):
            (many / f"{number}").mkdir(parents=True)
            for person in (number % 6, (number + 1) % 6):
                photo = (people / f"person {person}" / "original.png").read_bytes()
                (many / f"{number}" / f"{person}.png").write_bytes(photo)
        run("calibrate", many)
    with pytest.raises(SingleClass, match=r"no subject has two different photos; copies of other photos .*: 22 "):
        for folder in many.iterdir():
            first, second = folder.iterdir()
            with Image.open(first) as image:
                image.resize((image.width // 2, image.height // 2)).save(second)
        run("calibrate", many)


def test_the_calibration_of_the_user_is_found_or_named(
    data_dir: Path, real_models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A calibration in the data directory precedes the shipped one; a named calibration must match the model."""
    expected = fake_calibration(real_models.contract_id)
    write_calibrations(data_dir / "calibrations" / f"{real_models.contract_id}.json", [expected])
    assert load_configured_models(load_settings()).calibration == expected
    other = tmp_path / "other.json"
    write_calibrations(other, [fake_calibration("ec1-of-another-model")])
    monkeypatch.setenv("VULTUS_CALIBRATION", str(other))
    with pytest.raises(CalibrationUnfit, match="ec1-of-another-model"):
        load_configured_models(load_settings())
    named = tmp_path / "named.json"
    write_calibrations(named, [expected])
    monkeypatch.setenv("VULTUS_CALIBRATION", str(named))
    assert load_configured_models(load_settings()).calibration == expected
    monkeypatch.setenv("VULTUS_CALIBRATION", str(tmp_path / "gone.json"))
    with pytest.raises(CalibrationUnfit, match=r"gone\.json cannot be read"):
        load_configured_models(load_settings())


def with_fake_models(monkeypatch: pytest.MonkeyPatch, default: Precision) -> list[str]:
    """Let commands load models without weights that run in `default` unless another precision is requested.

    Returns:
        The requested precisions, in order.
    """
    requested: list[str] = []

    def load(_store: object, _manifest: object, runtime: RuntimeOptions, *_: object, **_more: object) -> Models:
        requested.append(runtime.precision)
        models = models_by_color()
        precision = default if runtime.precision == "auto" else runtime.precision
        session = replace(models.embedder_session, precision=precision)
        return replace(models, embedder_session=session, detector_session=session)

    monkeypatch.setattr("service.cli.measuring.load_models", load)
    return requested


@pytest.mark.parametrize(
    ("default", "options", "requested", "measured"),
    [
        ("bf16", (), ["auto", "fp32"], ["bf16", "fp32"]),
        ("fp32", (), ["auto"], ["fp32"]),
        ("bf16", ("--precision", "bf16"), ["bf16"], ["bf16"]),
        ("int8", ("--precision", "int8"), ["int8"], ["int8"]),
    ],
)
def test_calibrate_measures_every_precision_of_the_default_and_otherwise_the_named_one(
    default: Precision,
    options: tuple[str, ...],
    requested: list[str],
    measured: list[str],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = with_fake_models(monkeypatch, default)
    monkeypatch.setattr("models.evaluation.calibrate.quality_validation.MIN_SUBJECTS", 10_000)  # saves seconds
    threads = set(threading.enumerate())
    path = tmp_path / "c.json"
    out = run("calibrate", write_people(tmp_path / "people", 40, 2), "--out", path, *options)
    assert asked == requested
    (report,) = kept(data_dir)
    assert report.name.startswith("calibration-fake-2")
    assert str(tmp_path) not in report.read_text()  # not even where the calibration was written
    found = read_calibrations(path, models_by_color().contract_id)
    assert [calibration.conditions["precision"] for calibration in found] == measured
    assert out.count("Calibration of") == len(measured)
    assert "decided at fmr_1e-2, not at fmr_1e-4" in " ".join(out.split()), "the replaced default is stated"
    assert set(threading.enumerate()) <= threads, "the models are closed"


@pytest.mark.usefixtures("data_dir")
def test_a_precision_of_the_settings_is_the_only_one_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = with_fake_models(monkeypatch, "bf16")
    monkeypatch.setenv("VULTUS_RUNTIME__PRECISION", "bf16")
    with pytest.raises(TooFewSubjects):
        run("calibrate", write_people(tmp_path / "people", 10, 2), "--out", tmp_path / "c.json")
    assert asked == ["bf16"]
    assert not (tmp_path / "c.json").exists()


@pytest.mark.usefixtures("data_dir")
def test_enrolment_and_identification_are_gated_by_quality(people: Path, tmp_path: Path) -> None:
    report = tmp_path / "refused.csv"
    out = run("enrol", people, "--gallery", "staff", "--min-quality", "25", "--report", report, status=1)
    assert re.search(r"low_quality", out)
    refused = report.read_text()
    assert "person 0/JPEG 10.png" in refused
    assert "at least 25 is required" in refused
    assert "person 0/original.png" not in refused
    worse = people / "person 0" / "JPEG 10.png"
    ungated = json.loads(run("identify", worse, "--gallery", "staff", "--json"))[0]["faces"][0]
    assert ungated["candidates"][0]["subject"] == "person 0"
    gated = json.loads(run("identify", worse, "--gallery", "staff", "--min-quality", "25", "--json"))[0]["faces"][0]
    assert (gated["decision"], gated["refusal"], gated["candidates"]) == ("rejected", "low_quality", [])
    assert ungated["quality"] == gated["quality"] < 25
    assert "rejected: low_quality" in run("identify", worse, "--gallery", "staff", "--min-quality", "25")
