"""Every protocol from the files on disk to the report, with drawn people and models without weights."""

import io
import json
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from models.alignment import TEMPLATES
from models.calibration import OperatingPoint
from models.errors import CalibrationUnfit, SetIncomplete, SetUnreadable, SingleClass, StorageFailed, TooFewSubjects
from models.evaluation.acquire.acquisition import FromCrops
from models.evaluation.calibrate.calibrating import calibrate
from models.evaluation.calibrate.degradation import DEGRADATIONS
from models.evaluation.calibrate.quality_validation import REAL, compare_degraded
from models.evaluation.metrics.all_pairs import similarities
from models.evaluation.metrics.pair_scores import listed_pairs
from models.evaluation.metrics.verification import squared_distances, ten_fold_accuracy
from models.evaluation.model import EvaluatedModel
from models.evaluation.protocols.bin_set import evaluate_bin
from models.evaluation.protocols.ijb import evaluate_ijb_1n, evaluate_ijb_11
from models.evaluation.protocols.lfw_view2 import evaluate_lfw_view2
from models.evaluation.protocols.user_pictures import evaluate_pairs, evaluate_pictures, evaluate_search
from models.evaluation.reports.calibration import describe_calibration
from models.evaluation.reports.cohorts import add_cohorts
from models.evaluation.reports.document import Chart, Evaluation, Table
from models.evaluation.reports.html import cell_text, write_report
from models.evaluation.sets.user_pictures import read_folders, read_pair_list
from models.quality import quality_scores
from tests.models.evaluation.people import draw, models_by_color, write_people
from tests.pictures import encode, faces_png


@pytest.fixture
def model(tmp_path: Path) -> EvaluatedModel:
    return EvaluatedModel(models_by_color(), tmp_path / "cache")


def figures(evaluation: Evaluation) -> dict[str, float]:
    return {figure.name: figure.value for figure in evaluation.figures}


def table(evaluation: Evaluation, name: str) -> Table:
    (found,) = [entry for entry in evaluation.tables if entry.name == name]
    return found


def lfw(directory: Path, subjects: int = 20, noise: float = 4.0) -> Path:
    """Write a set in the layout of LFW: two photos of each subject, and alternating mated and non-mated pairs."""
    lines = ["10\t2"]
    for subject in range(subjects):
        name = f"P_{subject:02}"
        folder = directory / "images" / name
        folder.mkdir(parents=True)
        for picture in (1, 2):
            Image.fromarray(draw(subject, picture, noise)).save(folder / f"{name}_{picture:04}.jpg", format="PNG")
        lines += [f"{name}\t1\t2", f"{name}\t1\tP_{(subject + 1) % subjects:02}\t2"]
    (directory / "pairs.txt").write_text("\n".join(lines) + "\n")
    return directory


def test_lfw_view_2_end_to_end(model: EvaluatedModel, tmp_path: Path) -> None:
    found = evaluate_lfw_view2(model, lfw(tmp_path / "lfw"), "single")
    assert figures(found)["accuracy"] == 1
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (20, 20)
    assert found.conditions["face_policy"] == "single"
    assert {chart.name for chart in found.charts} >= {"histogram", "roc"}


def test_a_photo_without_a_face_counts_as_an_error_and_is_listed(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = lfw(tmp_path / "lfw")
    (directory / "images/P_03/P_03_0001.jpg").write_bytes(faces_png(0))
    found = evaluate_lfw_view2(model, directory, "single")
    assert figures(found)["failure_to_acquire"] == pytest.approx(1 / 40)
    assert table(found, "failures").rows == [("P_03/P_03_0001.jpg", "no_face", "no face was found in the image")]
    assert figures(found)["accuracy"] == pytest.approx(0.95), "its mated and its non-mated pair"
    assert figures(found)["mated"] == figures(found)["non_mated"] == 19, "only completed comparisons have rates"
    assert figures(found)["incomplete_mated"] == figures(found)["incomplete_non_mated"] == 1
    assert float(table(found, "farthest_mated").rows[0][0] or 0) > -1


def bin_file(path: Path, subjects: int = 20) -> Path:
    images, same = [], []
    for subject in range(subjects):
        for other in (subject, (subject + 1) % subjects):
            images += [crop(subject, 0), crop(other, 1)]
            same.append(other == subject)
    path.write_bytes(pickle.dumps((images, same), 2))
    return path


def crop(subject: int, picture: int) -> bytes:
    face = draw(subject, picture)[:28, :28]
    return encode(Image.fromarray(face).resize((112, 112), Image.Resampling.NEAREST))


def test_bin_sets_are_computed_as_the_official_code_does(model: EvaluatedModel, tmp_path: Path) -> None:
    found = evaluate_bin(model, bin_file(tmp_path / "agedb_30.bin"))
    assert found.title == "agedb_30"
    embedder = model.models.pipeline.embedder
    raw = []
    for pair in range(40):
        subject, other = pair // 2, (pair // 2 + pair % 2) % 20
        for owner, picture in ((subject, 0), (other, 1)):
            pixels = np.asarray(Image.open(io.BytesIO(crop(owner, picture))))
            plain, mirrored = (embedder.embed(view[None]) for view in (pixels, np.ascontiguousarray(pixels[:, ::-1])))
            raw.append((plain.embedding[0] * plain.norm[0], mirrored.embedding[0] * mirrored.norm[0]))
    fused = np.array([plain + mirrored for plain, mirrored in raw], np.float64)
    fused /= np.linalg.norm(fused, axis=1, keepdims=True)
    mated = np.arange(40) % 2 == 0
    expected = ten_fold_accuracy(squared_distances(fused[::2], fused[1::2]), mated)
    assert figures(found)["accuracy"] == expected.mean
    assert figures(found)["accuracy_deviation"] == expected.deviation
    norms = [np.linalg.norm(view) for views in raw for view in views]
    assert figures(found)["xnorm"] == pytest.approx(np.mean(norms), rel=1e-5)


def test_an_artefact_with_a_mirroring_graph_receives_one_view(model: EvaluatedModel, tmp_path: Path) -> None:
    models = model.models
    card = replace(models.recognizer, preprocessing={"color": "rgb", "mirror": True})
    mirrored = EvaluatedModel(replace(models, recognizer=card))
    path = bin_file(tmp_path / "lfw.bin")
    assert evaluate_bin(mirrored, path).conditions["views"] == 1
    assert evaluate_bin(model, path).conditions["views"] == 2


def test_a_narrow_template_receives_the_same_frame_cropped_at_the_sides() -> None:
    encoded = crop(1, 0)
    (wide,) = FromCrops(TEMPLATES["arcface-112"]).crops([encoded])
    (narrow,) = FromCrops(TEMPLATES["arcface-112x96"]).crops([encoded])
    assert not isinstance(wide, Exception)
    assert not isinstance(narrow, Exception)
    assert (wide.pixels[:, 8:104] == narrow.pixels).all()


def test_images_of_a_bin_set_that_cannot_be_read_stop_the_run(model: EvaluatedModel, tmp_path: Path) -> None:
    images = [b"no image", *[crop(n, 0) for n in range(39)]]
    path = tmp_path / "bad.bin"
    path.write_bytes(pickle.dumps((images, [True, False] * 10), 2))
    with pytest.raises(SetIncomplete, match=r"1 images of bad\.bin cannot be read; the first is bad/00000a"):
        evaluate_bin(model, path)
    model.max_missing = 1
    assert figures(evaluate_bin(model, path))["failure_to_acquire"] == pytest.approx(1 / 40)


def test_a_bin_set_of_fewer_pairs_than_folds_is_refused(model: EvaluatedModel, tmp_path: Path) -> None:
    with pytest.raises(TooFewSubjects, match="6 pairs"):
        evaluate_bin(model, bin_file(tmp_path / "tiny.bin", 3))


def test_the_format_fixture_of_insightface_has_one_class_only(model: EvaluatedModel, shared: Path) -> None:
    with pytest.raises(SingleClass):
        evaluate_bin(model, shared / "data" / "small_lfw.bin")


def test_all_pairs_of_a_picture_set(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 40, 3, noise=70)
    (people / "subject 01" / "bad.png").write_bytes(faces_png(0))
    found = evaluate_pictures(model, read_folders(people), "single")
    assert figures(found)["mated"] == 40 * 3
    assert figures(found)["non_mated"] == 120 * 119 // 2 - 120
    assert figures(found)["subjects"] == 40
    assert table(found, "failures").rows[0][0] == "subject 01/bad.png"
    assert [row[0] for row in table(found, "points").rows] == ["fmr_1e-2"]
    assert "bootstrap over subjects" in table(found, "points").note
    assert {chart.name for chart in found.charts} == {"histogram", "det", "roc", "error_versus_discard"}
    closest = table(found, "closest_non_mated").rows
    assert len(closest) == 20
    assert all(str(row[1]).split("/")[0] != str(row[2]).split("/")[0] for row in closest)
    assert all(str(row[1]).split("/")[0] == str(row[2]).split("/")[0] for row in table(found, "farthest_mated").rows)


def chart(evaluation: Evaluation, name: str) -> Chart:
    (found,) = [entry for entry in evaluation.charts if entry.name == name]
    return found


def test_charts_agree_with_directly_counted_rates(model: EvaluatedModel, tmp_path: Path) -> None:
    people = read_folders(write_people(tmp_path / "people", 40, 3, noise=70))
    faces = model.embed(model.photos("single"), people.pictures)
    subjects = people.numbers()
    first, second = np.triu_indices(len(subjects), 1)
    scores = np.einsum("ij,ij->i", faces.embedding[first], faces.embedding[second])
    same = subjects[first] == subjects[second]
    found = evaluate_pictures(model, people, "single")

    (det,), (roc,) = chart(found, "det").series, chart(found, "roc").series
    thresholds = np.unique(scores)
    fmr = np.array([(scores[~same] >= threshold - 1e-6).mean() for threshold in thresholds])
    fnmr = np.array([(scores[same] < threshold - 1e-6).mean() for threshold in thresholds])
    for x, y in zip(det.x, det.y, strict=True):
        assert np.min(np.abs(fmr - x) + np.abs(fnmr - y)) < 2e-3, "every point of the DET belongs to a threshold"
    for x, y in zip(roc.x, roc.y, strict=True):
        assert np.min(np.abs(fmr - x) + np.abs(1 - fnmr - y)) < 2e-3
    assert max(det.y) > 0.5 > min(det.y)
    (x, y, name) = chart(found, "roc").marks[0]
    (point,) = found.points
    assert (x, y, name) == (point.rate, 1 - point.fnmr, point.name)
    others, mated = chart(found, "histogram").series
    for series, expected in ((others, scores[~same]), (mated, scores[same])):
        assert sum(series.y) == pytest.approx(1)
        assert np.dot(series.x, series.y) == pytest.approx(expected.mean(), abs=0.01)

    quality = np.minimum(faces.norms[first, 0], faces.norms[second, 0])[same]
    assert figures(found)["norm_spearman"] == pytest.approx(spearmanr(quality, scores[same]).statistic, abs=1e-6)
    missed = scores[same][np.argsort(quality, kind="stable")] < point.threshold - 1e-6
    (discard,) = chart(found, "error_versus_discard").series
    assert discard.y[4] == pytest.approx(missed[int(0.2 * len(missed)) :].mean(), abs=0.01)


def test_a_sample_of_the_pairs_is_recorded_in_the_conditions(model: EvaluatedModel, tmp_path: Path) -> None:
    people = read_folders(write_people(tmp_path / "people", 30, 4))
    found = evaluate_pictures(model, people, "single", sample=150, seed=5)
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (150, 150)
    assert (found.conditions["pairs"], found.conditions["seed"]) == (150, 5)


def test_the_same_file_under_two_names_is_reported(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 12, 2)
    content = (people / "subject 00/0.png").read_bytes()
    (people / "subject 00/again.png").write_bytes(content)
    (people / "subject 05/stolen.png").write_bytes(content)
    found = evaluate_pictures(model, read_folders(people), "single")
    assert figures(found)["duplicates"] == 2
    assert table(found, "duplicates").rows == [("subject 00/0.png", "subject 00/again.png, subject 05/stolen.png")]
    (note,) = [note for note in found.notes if "similarities of 1.0" in note]
    assert "Files under several subjects, which count as false matches: 1." in note


def test_each_cohort_has_a_row(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 40, 3)
    cohorts = tmp_path / "cohorts.csv"
    rows = [f"subject {n:02},{'north' if n % 2 else 'south'},{n}" for n in range(40)]
    cohorts.write_text("subject,site,own\n" + "\n".join(rows) + "\n")
    found = evaluate_pictures(model, read_folders(people), "single", cohorts=cohorts)
    north, south = table(found, "cohort_site").rows
    assert north[:4] == ("north", 60, 60 * 59 // 2 - 60, 60)
    (point,) = table(found, "points").rows
    non_mated = 120 * 119 // 2 - 120
    inside = sum(float(row[4]) * int(row[2]) for row in (north, south) if row[4] is not None and row[2])
    assert inside <= int(point[3] or 0), "errors within the two cohorts are a subset of all errors"
    assert 0 < inside < non_mated
    assert "bootstrap over the subjects" in table(found, "cohort_site").note
    high = [float(str(row[7]).partition("–")[2]) for row in (north, south)]
    assert all(end >= 0.13 for end in high), "without an error, the rule of 3 over 20 subjects, not over 60 pairs"
    alone = table(found, "cohort_own").rows[0]
    assert alone[1:5] == (3, 0, 3, None), "one subject has mated pairs only"


def test_a_cohort_with_one_picture_per_subject_has_an_fmr(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 40, 3)
    for folder in sorted(people.iterdir())[:20]:
        for name in ("1.png", "2.png"):
            (folder / name).unlink()
    cohorts = tmp_path / "cohorts.csv"
    rows = [f"subject {n:02},{'single' if n < 20 else 'many'}" for n in range(40)]
    cohorts.write_text("subject,pictures\n" + "\n".join(rows) + "\n")
    found = evaluate_pictures(model, read_folders(people), "single", cohorts=cohorts)
    row = {str(row[0]): row for row in table(found, "cohort_pictures").rows}["single"]
    assert row[1:4] == (20, 190, 0)
    assert row[4] is not None
    assert row[6] is None
    assert row[8] == 0


def test_listed_pairs_with_a_face_that_was_not_acquired(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 6, 2)
    (people / "subject 00/0.png").write_bytes(faces_png(0))
    rows = ["first,second,mated"]
    for subject in range(6):
        rows.append(f"subject {subject:02}/0.png,subject {subject:02}/1.png,1")
        rows.append(f"subject {subject:02}/0.png,subject {(subject + 1) % 6:02}/1.png,0")
    listing = tmp_path / "pairs.csv"
    listing.write_text("\n".join(rows))
    found = evaluate_pairs(model, read_pair_list(listing, people), "single")
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (5, 5), "one of each kind is not completed"
    assert figures(found)["incomplete_mated"] == figures(found)["incomplete_non_mated"] == 1
    assert "subject 00/0.png" not in {name for row in table(found, "farthest_mated").rows for name in row}
    assert table(found, "points").rows == [], "six pairs support no operating point"


def test_missing_pictures_of_a_list_are_counted_up_to_the_maximum(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 3, 2)
    listing = tmp_path / "pairs.csv"
    listing.write_text(
        "first,second,mated\nsubject 00/0.png,subject 00/1.png,1\nsubject 00/0.png,gone.png,0\n"
        "subject 01/0.png,subject 02/1.png,0\n"
    )
    with pytest.raises(SetIncomplete, match=r"1 of 5 pictures are missing; the maximum is 0: gone\.png"):
        evaluate_pairs(model, read_pair_list(listing, people), "single")
    model.max_missing = 1
    found = evaluate_pairs(model, read_pair_list(listing, people), "single")
    assert figures(found)["missing"] == 1
    assert figures(found)["failure_to_acquire"] == 0, "a missing picture is not a failure to acquire"
    assert table(found, "failures").rows[0][:2] == ("gone.png", "image_missing")


def test_open_set_search_with_non_mated_probes(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "all", 30, 4)
    for name in ("gallery", "probes"):
        (tmp_path / name).mkdir()
    for folder in sorted(people.iterdir()):
        known = int(folder.name.split()[1]) < 20
        for path in sorted(folder.iterdir()):
            target = tmp_path / ("gallery" if known and path.stem == "0" else "probes") / folder.name / path.name
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    found = evaluate_search(model, read_folders(tmp_path / "gallery"), read_folders(tmp_path / "probes"), "single")
    assert figures(found)["enrolled"] == 20
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (60, 40)
    assert figures(found)["rank_1"] == 1
    (rate,) = table(found, "rates").rows
    assert rate[0] == 0.1
    assert found.charts == [], "a curve without a miss cannot be drawn on log axes"
    write_report(tmp_path / "search.html", [found], "Vultus test")
    with pytest.raises(SingleClass):
        evaluate_search(model, read_folders(tmp_path / "gallery"), read_folders(_write_non_mated(tmp_path)), "single")


def test_a_search_points_out_strangers_whose_names_differ_from_the_gallery_in_case_only(
    model: EvaluatedModel, tmp_path: Path
) -> None:
    gallery, probes = _search_set(tmp_path)
    before = evaluate_search(model, read_folders(gallery), read_folders(probes), "single")
    (probes / "subject 01").rename(probes / "Subject 01")
    found = evaluate_search(model, read_folders(gallery), read_folders(probes), "single")
    assert figures(found)["mated"] == figures(before)["mated"] - 1
    assert set(found.notes) - set(before.notes) == {
        "probes and gallery have names that differ in case only, which count as two subjects: "
        "Subject 01 and subject 01",
    }


def test_a_search_without_a_probe_face_has_a_rank_1_rate_of_0(model: EvaluatedModel, tmp_path: Path) -> None:
    gallery = write_people(tmp_path / "gallery", 4, 1)
    for subject in range(4):
        folder = tmp_path / "probes" / f"subject {subject:02}"
        folder.mkdir(parents=True)
        (folder / "nobody.png").write_bytes(faces_png(0))
    found = evaluate_search(model, read_folders(gallery), read_folders(tmp_path / "probes"), "single")
    assert figures(found)["rank_1"] == 0
    assert figures(found)["failure_to_acquire"] == 0.5


def _search_set(tmp_path: Path) -> tuple[Path, Path]:
    """Write a gallery of six subjects with two pictures each, and one probe of each and of six others."""
    people = write_people(tmp_path / "all", 12, 3)
    for folder in sorted(people.iterdir()):
        for path in sorted(folder.iterdir()):
            kind = "probes" if path.stem == "0" else "gallery" if int(folder.name.split()[1]) < 6 else None
            if kind is not None:
                target = tmp_path / kind / folder.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    return tmp_path / "gallery", tmp_path / "probes"


def test_a_failed_enrolment_makes_misses_and_no_strangers(model: EvaluatedModel, tmp_path: Path) -> None:
    gallery, probes = _search_set(tmp_path)
    for name in ("1.png", "2.png"):
        (gallery / "subject 00" / name).write_bytes(faces_png(0))
    (gallery / "subject 01" / "1.png").write_bytes(faces_png(0))
    found = evaluate_search(model, read_folders(gallery), read_folders(probes), "single")
    assert figures(found)["failure_to_enrol"] == pytest.approx(1 / 6), "one picture is enough to enrol"
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (6, 6)
    assert figures(found)["mated_not_enrolled"] == 1
    assert figures(found)["rank_1"] == pytest.approx(5 / 6)
    assert figures(found)["enrolled"] == 5


def test_missing_files_are_no_failures_to_enrol_and_no_misses(model: EvaluatedModel, tmp_path: Path) -> None:
    gallery, probes = _search_set(tmp_path)
    enrolled, searched = read_folders(gallery), read_folders(probes)
    for path in (gallery / "subject 00/1.png", gallery / "subject 00/2.png", probes / "subject 01/0.png"):
        path.unlink()
    model.max_missing = 2
    found = evaluate_search(model, enrolled, searched, "single")
    assert figures(found)["failure_to_enrol"] == 0
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (4, 6)
    assert figures(found)["left_out"] == 2
    assert figures(found)["rank_1"] == 1


def test_generalized_rates_count_failures_to_acquire_and_the_others_do_not(
    model: EvaluatedModel, tmp_path: Path
) -> None:
    """Of 41 subjects with three pictures, one picture of each of ten subjects has no face."""
    people = write_people(tmp_path / "people", 41, 3, noise=70)
    for subject in range(10):
        (people / f"subject {subject:02}/0.png").write_bytes(faces_png(0))
    pictures = read_folders(people)
    found = evaluate_pictures(model, pictures, "single")
    (point,) = found.points
    faces = model.embed(model.photos("single"), pictures.pictures)
    subjects = pictures.numbers()
    first, second = np.triu_indices(len(subjects), 1)
    mated, completed = subjects[first] == subjects[second], faces.found[first] & faces.found[second]
    accepted = completed & (np.einsum("ij,ij->i", faces.embedding[first], faces.embedding[second]) >= point.threshold)
    assert point.fnmr == pytest.approx(1 - accepted[mated & completed].mean(), abs=1e-9)
    assert point.gfrr == pytest.approx(1 - accepted[mated].mean(), abs=1e-9)
    assert point.gfar == pytest.approx(accepted[~mated].mean(), abs=1e-9)
    assert point.gfar < accepted[~mated & completed].mean()
    assert point.gfrr > point.fnmr
    assert figures(found)["incomplete_mated"] == (mated & ~completed).sum()
    own = [1 - accepted[mated & completed & (subjects[first] == one)].mean() for one in range(41)]
    assert point.fnmr_by_subject == pytest.approx(np.mean(own))
    sampled = evaluate_pictures(model, pictures, "single", sample=10_000)
    assert figures(sampled)["incomplete_mated"] == (mated & ~completed).sum(), "the sample holds all pairs"
    row = table(found, "weighting").rows[0]
    assert row[:3] == (point.name, point.fnmr, point.fnmr_by_subject)
    assert row[4:] == (point.gfar, point.gfrr)
    write_report(tmp_path / "report.html", [found], "Vultus test")
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in ("GFAR", "GFRR", "FNMR by subject", "FTA 8.13%"))


def test_a_subject_with_most_of_the_mated_pairs_is_named_by_its_share(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 30, 2)
    for picture in range(2, 12):
        Image.fromarray(draw(0, picture)).save(people / "subject 00" / f"{picture}.png")
    found = evaluate_pictures(model, read_folders(people), "single")
    assert figures(found)["largest_share"] == pytest.approx(66 / 95)
    assert any("one of 30 subjects supplies 69% of the mated comparisons" in figure.text for figure in found.figures)


def test_a_missing_file_of_listed_pairs_is_in_no_rate(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 6, 2)
    (people / "subject 00/0.png").write_bytes(faces_png(0))
    (people / "subject 01/0.png").unlink()
    names = [f"subject {subject:02}" for subject in range(6)]
    rows = [f"{name}/0.png,{name}/1.png,1" for name in names]
    rows += [f"{name}/0.png,{other}/1.png,0" for name in names for other in names if name != other]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,mated", *rows]))
    model.max_missing = 1
    found = evaluate_pairs(model, read_pair_list(tmp_path / "pairs.csv", people), "single")
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (4, 20)
    assert (figures(found)["incomplete_mated"], figures(found)["incomplete_non_mated"]) == (1, 5)


def test_invalid_file_names_count_as_missing_files(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 2, 2)
    listing = tmp_path / "pairs.csv"
    rows = ["first,second,mated", "subject 00/0.png,subject 00/1.png,1", "subject 00/0.png,subject 01/1.png,0"]
    rows += [f"{'x' * 300}.png,subject 00/1.png,0", "nul\0.png,subject 00/1.png,0"]
    listing.write_text("\n".join(rows))
    with pytest.raises(SetIncomplete, match="2 of 5 pictures are missing"):
        evaluate_pairs(model, read_pair_list(listing, people), "single")
    model.max_missing = 2
    found = evaluate_pairs(model, read_pair_list(listing, people), "single")
    assert figures(found)["missing"] == 2


def test_control_codes_in_file_names_are_replaced(model: EvaluatedModel, tmp_path: Path) -> None:
    """File names contain escape sequences and bytes that are not UTF-8."""
    people = write_people(tmp_path / "people", 12, 2)
    for name in (b"esc\x1b[31m\x07.png", b"latin\xe9.png"):
        (people / "subject 00" / os.fsdecode(name)).write_bytes(faces_png(0))
    found = evaluate_pictures(model, read_folders(people), "single")
    write_report(tmp_path / "report.html", [found], "Vultus test")
    page = (tmp_path / "report.html").read_text()
    assert "esc\ufffd[31m\ufffd.png" in page
    assert "latin\ufffd.png" in page
    assert json.dumps(found.record()).isascii()
    assert all(cell_text(cell).isprintable() for row in table(found, "failures").rows for cell in row)


def test_a_report_is_written_through_a_link_and_into_a_pipe(model: EvaluatedModel, tmp_path: Path) -> None:
    found = evaluate_pictures(model, read_folders(write_people(tmp_path / "people", 12, 2)), "single")
    target, link, pipe = tmp_path / "real.html", tmp_path / "link.html", tmp_path / "pipe.html"
    link.symlink_to(target)
    write_report(link, [found], "Vultus test")
    assert link.is_symlink()
    assert target.read_text().startswith("<!doctype html>")
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        write_report(pipe, [found], "Vultus test")
        assert read.result(timeout=30) == target.read_text()
    assert pipe.is_fifo()
    with pytest.raises(StorageFailed):
        write_report(tmp_path, [found], "Vultus test")
    assert not list(tmp_path.glob(".*+"))


def _write_non_mated(tmp_path: Path) -> Path:
    target = tmp_path / "non_mated"
    target.mkdir()
    (tmp_path / "probes" / "subject 25").rename(target / "subject 25")
    return target


def ijb(directory: Path) -> Path:
    """Write ten subjects with two templates of two images each; faces lie at the points of the alignment template."""
    (directory / "loose_crop").mkdir(parents=True)
    (directory / "meta").mkdir()
    points = " ".join(f"{value:.3f}" for point in TEMPLATES["arcface-112"].points for value in point)
    owners, faces, probes, galleries = [], [], [], ([], [])  # type: ignore[var-annotated]
    for subject in range(10):
        for template in (2 * subject, 2 * subject + 1):
            for picture in range(2):
                name = f"{subject}_{template}_{picture}.png"
                (directory / "loose_crop" / name).write_bytes(crop(subject, 2 * template + picture))
                owners.append(f"{name} {template} {picture}")
                faces.append(f"{name} {points} {0.5 + 0.04 * template:.2f}")
        galleries[subject % 2].append(f"{2 * subject},{subject},x")
        probes.append(f"{2 * subject + 1},{subject},x")
    pairs = [f"{2 * first} {2 * second + 1} {int(first == second)}" for first in range(10) for second in range(10)]
    for name, lines in (
        ("ijbb_face_tid_mid.txt", owners),
        ("ijbb_name_5pts_score.txt", faces),
        ("ijbb_template_pair_label.txt", pairs),
        ("ijbb_1N_gallery_S1.csv", ["TEMPLATE_ID,SUBJECT_ID,FILENAME", *galleries[0]]),
        ("ijbb_1N_gallery_S2.csv", ["TEMPLATE_ID,SUBJECT_ID,FILENAME", *galleries[1]]),
        ("ijbb_1N_probe_mixed.csv", ["TEMPLATE_ID,SUBJECT_ID,FILENAME", *probes]),
    ):
        (directory / "meta" / name).write_text("\n".join(lines) + "\n")
    return directory


def test_ijb_in_the_official_layout(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = ijb(tmp_path / "IJBB")
    for variant in ("insightface", "adaface"):
        found = evaluate_ijb_11(model, directory, "ijbb", variant)
        assert found.title == f"IJB-B 1:1, {variant}"
        assert (figures(found)["mated"], figures(found)["non_mated"]) == (10, 90)
        assert figures(found)["tar_at_far_1e-02"] == 1
        searched = evaluate_ijb_1n(model, directory, "ijbb", variant)
        assert figures(searched)["rank_1"] == 1
        assert figures(searched)["tpir_at_fpir_0.1"] == 1
        assert [row[0] for row in table(searched, "tpir_at_fpir").rows][:2] == ["both (official)"] * 2


def test_a_template_without_a_usable_image_is_in_no_completed_comparison(model: EvaluatedModel, tmp_path: Path) -> None:
    """The official TAR keeps its similarity of 0, so that it stays the official number."""
    directory = ijb(tmp_path / "IJBB")
    for picture in range(2):
        (directory / f"loose_crop/0_1_{picture}.png").write_bytes(b"no image")
    found = evaluate_ijb_11(model, directory, "ijbb", "adaface")
    assert (figures(found)["mated"], figures(found)["non_mated"]) == (9, 81), "template 1 was in one and nine pairs"
    assert (figures(found)["incomplete_mated"], figures(found)["incomplete_non_mated"]) == (1, 9)
    assert figures(found)["tar_at_far_1e-02"] == pytest.approx(0.9)


def test_the_two_ijb_variants_build_different_templates(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = ijb(tmp_path / "IJBB")
    scores = (directory / "meta/ijbb_name_5pts_score.txt").read_text().splitlines()
    uneven = [f"{line.rsplit(' ', 1)[0]} {0.1 if number % 2 else 1.0}" for number, line in enumerate(scores)]
    (directory / "meta/ijbb_name_5pts_score.txt").write_text("\n".join(uneven) + "\n")
    charts = [evaluate_ijb_11(model, directory, "ijbb", variant).charts for variant in ("insightface", "adaface")]
    assert charts[0] != charts[1]


def test_fnir_falls_as_fpir_rises(model: EvaluatedModel, tmp_path: Path) -> None:
    """The drawn noise causes misses, and a stricter threshold causes more of them."""
    people = read_folders(write_people(tmp_path / "all", 40, 3, noise=110))
    faces = model.embed(model.photos("single"), people.pictures)
    numbers = people.numbers()
    enrolled = (np.arange(120) % 3 == 0) & (numbers < 25)
    gallery, probes = people.where(enrolled), people.where(~enrolled)
    found = evaluate_search(model, gallery, probes, "single")
    (curve,) = chart(found, "open_set").series
    assert curve.x == sorted(curve.x)
    assert curve.y == sorted(curve.y, reverse=True)
    similarity = faces.embedding[~enrolled] @ faces.embedding[enrolled].T
    mated = numbers[~enrolled] < 25
    mated_scores = similarity[np.arange(len(mated)), np.where(mated, numbers[~enrolled], 0)][mated]
    hit = mated_scores >= similarity[mated].max(axis=1) - 1e-6
    thresholds = np.sort(similarity[~mated].max(axis=1))[::-1]
    fnir = [1 - (hit & (mated_scores >= threshold - 1e-6)).mean() for threshold in thresholds]
    drawn = [rate for rate in fnir if rate > 0]
    assert curve.y == pytest.approx(drawn, abs=1.5 / mated.sum())


def test_cohorts_of_listed_pairs_count_only_pairs_within_the_cohort(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 8, 2)
    names = [f"subject {n:02}" for n in range(8)]
    rows = [f"{name}/0.png,{name}/1.png,1" for name in names]
    rows += [f"{first}/0.png,{second}/1.png,0" for first in names for second in names if first < second]
    listing, cohorts = tmp_path / "pairs.csv", tmp_path / "cohorts.csv"
    listing.write_text("\n".join(["first,second,mated", *rows]))
    pictures = [f"{name}/{n}.png,{'a' if name < 'subject 03' else 'b'}" for name in names for n in (0, 1)]
    cohorts.write_text("\n".join(["image,half", *pictures]))
    scores = evaluate_pairs(model, read_pair_list(listing, people), "single", cohorts)
    assert any("Cohorts were not compared" in note for note in scores.notes), "36 pairs support no operating point"
    pairs = read_pair_list(listing, people)
    faces = model.embed(model.photos("single"), pairs.pictures)
    compared = listed_pairs(
        similarities(faces.embedding, pairs.first, pairs.second), pairs.mated, pairs.first, pairs.second
    )
    point = OperatingPoint("fmr_1e-1", 0.1, 0.5, (0.0, 1.0), (0.0, 1.0), 0.0, (0.0, 1.0), 30, "a test", 0.1, 0.0)
    evaluation = Evaluation("pairs", "a test", {})
    halves = ["a" if picture.name < "subject 03" else "b" for picture in pairs.pictures]
    add_cohorts(evaluation, compared, faces, {"half": [*halves]}, [point])
    assert [row[:4] for row in table(evaluation, "cohort_half").rows] == [("a", 6, 3, 3), ("b", 10, 10, 5)]


def test_nan_in_the_lists_of_ijb_is_refused(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = ijb(tmp_path / "IJBB")
    path = directory / "meta/ijbb_name_5pts_score.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].rsplit(" ", 1)[0] + " nan"]) + "\n")
    with pytest.raises(SetUnreadable, match="not a number"):
        evaluate_ijb_1n(model, directory, "ijbb", "insightface")


def test_a_subject_with_two_gallery_templates_is_refused(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = ijb(tmp_path / "IJBB")
    with (directory / "meta/ijbb_1N_gallery_S1.csv").open("a") as file:
        file.write("1,0,x\n")
    with pytest.raises(SetUnreadable, match="several templates"):
        evaluate_ijb_1n(model, directory, "ijbb", "adaface")


def test_a_template_without_an_image_is_refused(model: EvaluatedModel, tmp_path: Path) -> None:
    directory = ijb(tmp_path / "IJBB")
    with (directory / "meta/ijbb_template_pair_label.txt").open("a") as file:
        file.write("0 77 0\n")
    with pytest.raises(SetIncomplete, match="1 templates of the pairs have no image; the first is 77"):
        evaluate_ijb_11(model, directory, "ijbb", "adaface")
    (directory / "loose_crop/0_0_0.png").unlink()
    with pytest.raises(SetIncomplete, match=r"1 of 40 pictures are missing"):
        evaluate_ijb_1n(model, directory, "ijbb", "adaface")


def test_the_report_is_complete_and_self_contained(model: EvaluatedModel, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", 40, 3)
    (people / "subject 00" / "<script>.png").write_bytes(faces_png(0))
    found = evaluate_pictures(model, read_folders(people), "single")
    target = tmp_path / "report.html"
    write_report(target, [found], "Vultus test")
    page = target.read_text()
    for chart in found.charts:
        assert chart.title in page
    assert page.count("<svg") == len(found.charts)
    assert "<script" not in page
    assert "&lt;" in page, "file names are escaped"
    for outside in ("http://", "https://", "src=", "url(", "@import"):
        assert outside not in _without_svg_names(page)
    assert json.loads(json.dumps(found.record()))["protocol"] == "pictures"
    write_report(tmp_path / "again.html", [found], "Vultus test")
    assert (tmp_path / "again.html").read_text() == page, "the page is deterministic"


def _without_svg_names(page: str) -> str:
    """Remove addresses that load nothing: namespaces and metadata of SVG, and references to clips in the same file."""
    page = re.sub(r"<metadata>.*?</metadata>", "", page, flags=re.DOTALL)
    return re.sub(r'xmlns(:\w+)?="[^"]*"|url\(#', "", page)


def test_calibration_contains_what_the_service_needs(model: EvaluatedModel, tmp_path: Path) -> None:
    people = read_folders(write_people(tmp_path / "people", 60, 4, noise=45))
    calibration, faces = calibrate(model, people, "single")
    assert faces.found.all()
    assert calibration.contract_id == model.models.contract_id
    assert [point.name for point in calibration.points] == ["fmr_1e-2"]
    assert calibration.default == "fmr_1e-2"
    assert calibration.score_map.probability(0.99, 0.5) > calibration.score_map.probability(0.0, 0.5)
    assert calibration.score_map.folds == 10
    assert calibration.conditions["non_mated"] == 240 * 239 // 2 - 60 * 6
    assert calibration.conditions["engine"] == "fake"
    assert calibration.quality.source == "measured"
    assert calibration.quality.evidence["subjects"] == 60
    assert calibration.quality.validated or calibration.quality.because
    shown = describe_calibration(calibration)
    assert shown.points == list(calibration.points)
    assert {chart.name for chart in shown.charts} == {"score_map", "error_versus_discard"}
    assert [row[0] for row in table(shown, "quality").rows] == [REAL, *DEGRADATIONS]
    write_report(tmp_path / "calibration.html", [shown], "Vultus test")
    page = (tmp_path / "calibration.html").read_text()
    assert all(kind in page for kind in DEGRADATIONS), "the report names every degradation"
    evidence = calibration.quality.evidence
    assert evidence["noise"]["spearman"] != evidence["real"]["spearman"]
    pairs = [(people.pictures[4 * n], people.pictures[4 * n + 1]) for n in range(60)]
    compared = compare_degraded(model, pairs, "single", calibration.quality.statistics)
    norms = [model.embed(model.photos("single"), list(side)).norms[:, 0] for side in zip(*pairs, strict=True)]
    lower = quality_scores(np.minimum(*norms), calibration.quality.statistics)
    assert compared[REAL].quality == pytest.approx(lower), "quality is the lower one of the two faces"
    assert (compared["dark"].quality != compared[REAL].quality).any()
    assert (compared["dark"].quality <= quality_scores(norms[0], calibration.quality.statistics) + 1e-4).all()
    again, _ = calibrate(model, people, "single")
    assert again == calibration, "seeds are fixed"


def test_calibrating_on_too_few_pictures_is_refused(model: EvaluatedModel, tmp_path: Path) -> None:
    with pytest.raises(TooFewSubjects, match="19 subjects cannot be divided into 10 folds of two or more"):
        calibrate(model, read_folders(write_people(tmp_path / "nineteen", 19, 3)), "single")
    with pytest.raises(SingleClass, match="no mated pairs"):
        calibrate(model, read_folders(write_people(tmp_path / "single", 30, 1)), "single")
    with pytest.raises(CalibrationUnfit, match="support no operating point"):
        calibrate(model, read_folders(write_people(tmp_path / "few", 24, 2)), "single")
    people = read_folders(write_people(tmp_path / "people", 40, 2))
    with pytest.raises(CalibrationUnfit, match="fmr_1e-5 cannot be the default: the data supports fmr_1e-2"):
        calibrate(model, people, "single", default="fmr_1e-5")
    with pytest.raises(CalibrationUnfit, match="unknown operating point fmr_5e-5; possible points: fmr_1e-2, "):
        calibrate(model, people, "single", default="fmr_5e-5")
