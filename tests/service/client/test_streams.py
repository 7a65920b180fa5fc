"""Streams of lines in both directions, against the real service."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.client import AsyncClient, Client, Content, Embedding, NotFound
from service.client.lines import identify_line
from service.client.windows import MAX_BYTES, Windows

Vectors = NDArray[np.float32]


def entries_of(vectors: Vectors) -> Iterator[tuple[str, Content]]:
    return ((f"person {number}", vector) for number, vector in enumerate(vectors))


def threads_of_streams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vultus-client")]


@pytest.fixture(scope="module")
def crowd(vultus: Client, vectors: Vectors) -> str:
    """A gallery of the vectors, enrolled as one stream."""
    vultus.create_gallery("crowd")
    outcomes = list(vultus.enrol_many("crowd", entries_of(vectors)))
    assert [subject for (subject, _), _ in outcomes] == [f"person {number}" for number in range(len(vectors))]
    assert {item.status for _, item in outcomes} == {"enrolled"}
    return "crowd"


def test_thousands_of_lines_are_answered_in_order(vultus: Client, crowd: str, vectors: Vectors) -> None:
    assert sum(map(len, map(identify_line, vectors))) > 40 * MAX_BYTES
    # 100 candidates each: the answers are larger than the lines
    answers = vultus.identify_many(vectors, gallery=crowd, k=100, operating_point="none")
    for number, (vector, item) in enumerate(answers):
        assert vector is not None
        assert item.faces[0].candidates[0].subject == f"person {number}"
    assert number == len(vectors) - 1


def test_a_repeated_enrolment_finds_duplicates(vultus: Client, crowd: str, vectors: Vectors) -> None:
    known, new = vectors[:200], -vectors[:200]
    statuses = [item.status for _, item in vultus.enrol_many(crowd, entries_of(np.concatenate([known, new])))]
    assert statuses == ["duplicate"] * 200 + ["enrolled"] * 200


def test_photos_and_embeddings_may_be_mixed_and_bad_ones_fail_alone(vultus: Client, gallery: str, photos: Path) -> None:
    portrait = photos / "astronaut.png"
    vector = vultus.embed(portrait).items[0].faces[0].embedding
    contents: list[Content] = [b"text", portrait, vector[:9], Embedding(vector, 9.0), photos / "group.jpg"]
    entries = [(f"person {number}", content) for number, content in enumerate(contents)]
    outcomes = list(vultus.enrol_many(gallery, entries, faces="single"))
    assert [item.status for _, item in outcomes] == ["error", "enrolled", "error", "enrolled", "error"]
    codes = [item.problem.code for _, item in outcomes if item.problem]
    assert codes == ["image_unreadable", "embedding_wrong_dimension", "several_faces"]
    found = [item for _, item in vultus.identify_many(contents, gallery=gallery)]
    assert [len(item.faces) for item in found] == [0, 1, 0, 1, 6]
    assert found[1].faces[0].candidates[0].subject in ("person 1", "person 3")


def test_an_endless_stream_is_read_as_its_answers_are(vultus: Client, crowd: str, vectors: Vectors) -> None:
    read = 0

    def endless() -> Iterator[Content]:
        nonlocal read
        for vector in itertools.cycle(vectors):
            read += 1
            yield vector

    answers = vultus.identify_many(endless(), gallery=crowd, at_once=2)
    for position, _ in enumerate(answers, start=1):
        assert read - position < 6 * MAX_BYTES / len(identify_line(vectors[0]))
        if position == 3000:
            break
    answers.close()
    assert not threads_of_streams()


def test_a_slow_stream_does_not_wait_for_a_full_window(vultus: Client, crowd: str, vectors: Vectors) -> None:
    answered, behind = 0, []

    def slow() -> Iterator[Content]:
        for position, vector in enumerate(vectors[:8]):
            behind.append(position - answered)
            yield vector
            time.sleep(0.1)  # many times what an answer takes

    for _ in vultus.identify_many(slow(), gallery=crowd):
        answered += 1
    assert max(behind) <= 2


def test_the_error_of_a_source_and_of_the_service_end_a_stream(vultus: Client, crowd: str, vectors: Vectors) -> None:
    def broken() -> Iterator[Content]:
        yield from vectors[:500]
        raise OSError("the camera was unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(vultus.identify_many(broken(), gallery=crowd))
    with pytest.raises(FileNotFoundError):
        list(vultus.identify_many(["none.jpg"], gallery=crowd))
    with pytest.raises(NotFound, match="gallery"):
        list(vultus.identify_many(vectors, gallery="nobody"))
    assert list(vultus.identify_many([], gallery=crowd)) == []
    assert not threads_of_streams()


def test_asynchronous_streams_are_answered_in_order_and_stop_early(url: str, crowd: str, vectors: Vectors) -> None:
    async def endless() -> AsyncIterator[Content]:
        for vector in itertools.cycle(vectors):
            yield vector

    async def ask() -> None:
        async with AsyncClient(url, trust_env=False) as client:
            number = 0
            async for _, item in client.identify_many(vectors, gallery=crowd, k=1):
                assert item.faces[0].candidates[0].subject == f"person {number}"
                number += 1
            assert number == len(vectors)
            async with aclosing(client.identify_many(endless(), gallery=crowd)) as answers:
                async for _ in answers:
                    number += 1
                    if number == len(vectors) + 1000:
                        break
            assert asyncio.all_tasks() == {asyncio.current_task()}
            again = [item.status async for _, item in client.enrol_many(crowd, entries_of(vectors[:300]))]
            assert again == ["duplicate"] * 300

    asyncio.run(ask())


def test_an_asynchronous_source_that_waits_for_its_answers_gets_them(url: str, crowd: str, vectors: Vectors) -> None:
    answered = asyncio.Semaphore(1)

    async def one_by_one() -> AsyncIterator[Content]:
        for vector in vectors[:5]:
            await asyncio.wait_for(answered.acquire(), 10)
            yield vector

    async def ask() -> int:
        count = 0
        async with AsyncClient(url, trust_env=False) as client:
            async for _ in client.identify_many(one_by_one(), gallery=crowd):
                answered.release()
                count += 1
        return count

    assert asyncio.run(ask()) == 5


def test_a_window_is_bounded_and_a_longer_line_is_one_alone() -> None:
    windows: Windows[int] = Windows()
    sizes = [3, MAX_BYTES, 5, MAX_BYTES - 6, 2, 4 * MAX_BYTES, 1]
    made = [window for n, size in enumerate(sizes) for window in windows.add(n, b"x" * size, idle=False)]
    made += windows.rest()
    assert [window.entries for window in made] == [(0,), (1,), (2, 3), (4,), (5,), (6,)]
    (alone,) = windows.add(7, b"x", idle=True)
    assert alone.entries == (7,)
