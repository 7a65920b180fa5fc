"""boto3's client of Amazon Rekognition: collections, faces, and photos, against the real service."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.compat.clients.running import BUCKET, Album

LANDMARKS = {"eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def image(photo: Path) -> dict[str, Any]:
    return {"Bytes": photo.read_bytes()}


def stored(photo: Path) -> dict[str, Any]:
    return {"S3Object": {"Bucket": BUCKET, "Name": photo.name}}


def test_collections_are_created_described_listed_and_deleted(rekognition: Any, collection_id: str) -> None:
    created = rekognition.create_collection(CollectionId=collection_id, Tags={"team": "door"})
    assert created["StatusCode"] == 200
    assert created["CollectionArn"].endswith(f":collection/{collection_id}")
    described = rekognition.describe_collection(CollectionId=collection_id)
    assert (described["FaceCount"], described["UserCount"]) == (0, 0)
    assert described["FaceModelVersion"] == created["FaceModelVersion"]
    assert described["CollectionARN"] == created["CollectionArn"]
    assert abs(described["CreationTimestamp"].timestamp() - time.time()) < 60
    for name in ("b", "c"):
        rekognition.create_collection(CollectionId=f"{collection_id}-{name}")
    pages = list(rekognition.get_paginator("list_collections").paginate(PaginationConfig={"PageSize": 2}))
    listed = [name for page in pages for name in page["CollectionIds"] if name.startswith(collection_id)]
    assert listed == [collection_id, f"{collection_id}-b", f"{collection_id}-c"]
    assert all(len(page["CollectionIds"]) == len(page["FaceModelVersions"]) <= 2 for page in pages)
    for name in listed:
        deleted = rekognition.delete_collection(CollectionId=name)
        assert deleted["StatusCode"] == deleted["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_faces_are_indexed_listed_searched_and_deleted(rekognition: Any, collection: str, album: Album) -> None:
    (ann, again, probe, _), (bob, *_), (stranger, *_) = album.people
    ids = []
    for photo, name in ((ann, "ann"), (again, "ann"), (bob, "bob")):
        indexed = rekognition.index_faces(CollectionId=collection, Image=image(photo), ExternalImageId=name)
        (record,) = indexed["FaceRecords"]
        assert record["Face"]["ExternalImageId"] == name
        assert set(record["Face"]["BoundingBox"]) == {"Width", "Height", "Left", "Top"}
        assert {point["Type"] for point in record["FaceDetail"]["Landmarks"]} == LANDMARKS
        assert indexed["UnindexedFaces"] == []
        ids.append(record["Face"]["FaceId"])
    assert rekognition.describe_collection(CollectionId=collection)["FaceCount"] == 3
    same = rekognition.index_faces(CollectionId=collection, Image=image(ann), ExternalImageId="ann")
    assert same["FaceRecords"][0]["Face"]["FaceId"] == ids[0]
    pages = list(
        rekognition.get_paginator("list_faces").paginate(CollectionId=collection, PaginationConfig={"PageSize": 2})
    )
    assert [face["FaceId"] for page in pages for face in page["Faces"]] == ids
    assert len(pages) == 2
    (only,) = rekognition.list_faces(CollectionId=collection, FaceIds=[ids[2]])["Faces"]
    assert only["ExternalImageId"] == "bob"

    found = rekognition.search_faces_by_image(CollectionId=collection, Image=image(probe), MaxFaces=5)
    assert {match["Face"]["ExternalImageId"] for match in found["FaceMatches"]} == {"ann"}
    assert found["FaceMatches"][0]["Similarity"] >= found["FaceMatches"][1]["Similarity"] >= 80
    assert 0 < found["SearchedFaceBoundingBox"]["Width"] < 1
    assert 80 < found["SearchedFaceConfidence"] <= 100
    assert rekognition.search_faces_by_image(CollectionId=collection, Image=image(stranger))["FaceMatches"] == []
    everybody = rekognition.search_faces_by_image(
        CollectionId=collection, Image=image(stranger), FaceMatchThreshold=0, QualityFilter="AUTO"
    )
    assert len(everybody["FaceMatches"]) == 3
    assert max(match["Similarity"] for match in everybody["FaceMatches"]) < 60
    by_id = rekognition.search_faces(CollectionId=collection, FaceId=ids[0], FaceMatchThreshold=70)
    assert by_id["SearchedFaceId"] == ids[0]
    assert [match["Face"]["FaceId"] for match in by_id["FaceMatches"]] == [ids[1]]

    deleted = rekognition.delete_faces(CollectionId=collection, FaceIds=[ids[0], UNKNOWN])
    assert deleted["DeletedFaces"] == [ids[0]]
    assert deleted["UnsuccessfulFaceDeletions"] == [{"FaceId": UNKNOWN, "Reasons": ["FACE_NOT_FOUND"]}]


def test_the_largest_faces_of_a_photo_are_indexed_and_the_others_have_reasons(
    rekognition: Any, collection: str, album: Album
) -> None:
    indexed = rekognition.index_faces(
        CollectionId=collection, Image=image(album.group), MaxFaces=2, QualityFilter="NONE", DetectionAttributes=["ALL"]
    )
    assert len(indexed["FaceRecords"]) == 2
    assert [face["Reasons"] for face in indexed["UnindexedFaces"]] == [["EXCEEDS_MAX_FACES"]] * 4
    assert rekognition.index_faces(CollectionId=collection, Image=image(album.nobody))["FaceRecords"] == []


def test_photos_are_compared(rekognition: Any, album: Album) -> None:
    (ann, again, *_), (bob, *_), _ = album.people
    same = rekognition.compare_faces(SourceImage=image(ann), TargetImage=image(again))
    assert same["FaceMatches"][0]["Similarity"] >= 80
    assert same["UnmatchedFaces"] == []
    assert set(same["SourceImageFace"]) == {"BoundingBox", "Confidence"}
    other = rekognition.compare_faces(SourceImage=image(ann), TargetImage=image(bob), SimilarityThreshold=90)
    assert other["FaceMatches"] == []
    assert {point["Type"] for point in other["UnmatchedFaces"][0]["Landmarks"]} == LANDMARKS
    low = rekognition.compare_faces(SourceImage=image(ann), TargetImage=image(bob), SimilarityThreshold=0)
    assert low["FaceMatches"][0]["Similarity"] < 60


def test_faces_are_detected_also_where_there_is_none(rekognition: Any, album: Album) -> None:
    faces = rekognition.detect_faces(Image=image(album.group), Attributes=["ALL"])["FaceDetails"]
    assert len(faces) == 6
    assert all(0 <= face["BoundingBox"]["Left"] < 1 and 0 < face["Confidence"] <= 100 for face in faces)
    assert rekognition.detect_faces(Image=image(album.nobody))["FaceDetails"] == []


def test_objects_of_a_bucket_are_files_of_a_directory(rekognition: Any, collection: str, album: Album) -> None:
    (ann, again, *_), *_ = album.people
    rekognition.index_faces(CollectionId=collection, Image=stored(ann), ExternalImageId="ann")
    found = rekognition.search_faces_by_image(CollectionId=collection, Image=stored(again))
    assert [match["Face"]["ExternalImageId"] for match in found["FaceMatches"]] == ["ann"]
    assert rekognition.compare_faces(SourceImage=stored(ann), TargetImage=image(again))["FaceMatches"]
    for bucket, name in ((BUCKET, "missing.jpg"), ("other", ann.name), (BUCKET, "../../security/keys.sqlite")):
        with pytest.raises(rekognition.exceptions.InvalidS3ObjectException, match="Unable to get object metadata"):
            rekognition.detect_faces(Image={"S3Object": {"Bucket": bucket, "Name": name}})
