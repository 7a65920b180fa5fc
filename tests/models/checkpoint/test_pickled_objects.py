"""What training code stores beside the weights is passed over, and no code of a file runs."""

import argparse
import collections
import datetime
import decimal
import fractions
import http
import os
import pathlib
import pickle
import re
import sys
import time
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint import read_checkpoint
from models.checkpoint.unpickling import unpickle_bytes
from models.errors import CheckpointIsModule, CheckpointUnreadable, CheckpointUnsafe
from tests.checkpoints import adaface_checkpoint, small_adaface, tensors, weights_for

WEIGHTS = {"conv.weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3), "bn.bias": np.ones(2, np.float32)}


class Config:
    """A class of the training code, which Vultus does not have."""

    def __init__(self) -> None:
        self.rate = 0.1

    def __setstate__(self, state: Any) -> None:
        Path("ran").touch()


class AttributeDict(dict[str, Any]):
    """A dict with a class of its own, as Lightning has for hyper-parameters."""


class Runs:
    """An object that pickles as a call."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


BESIDE = {
    "args": argparse.Namespace(rate=0.1, device=torch.device("cuda"), dtype=torch.float16),
    "config": Config(),
    "hyper_parameters": AttributeDict(h=0.5, inner=Config()),
    "random": np.random.RandomState(0).get_state(),
    "generator": np.random.RandomState(0),
    "best": np.float64(0.99),
    "curve": np.arange(3),
    "objects": np.array([None, {}], object),
    "when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "path": pathlib.PurePosixPath("/x"),
    "decimal": decimal.Decimal("0.1"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=1),
    "status": http.HTTPStatus.OK,
    "pattern": re.compile("x"),
    "counter": collections.Counter("ab"),
    "default": collections.defaultdict(list, a=[1]),
    "queue": collections.deque([1]),
    "bytes": b"\x00\xff",
    "range": range(3),
    "set": {1, 2},
    "size": torch.Size([1]),
    "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1).state_dict(),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_everything_beside_the_weights_is_passed_over(
    legacy: bool, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": tensors(WEIGHTS), **BESIDE}
    torch.save(content, "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(Path("a.pth"))
    assert checkpoint.weights.keys() == WEIGHTS.keys()
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", BESIDE)
def test_each_kind_of_object_alone_is_passed_over(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": tensors(WEIGHTS), name: BESIDE[name]}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").weights.keys() == WEIGHTS.keys()


def test_a_state_dict_of_another_class_of_dicts_is_read(tmp_path: Path) -> None:
    for content in (AttributeDict(tensors(WEIGHTS)), collections.defaultdict(None, tensors(WEIGHTS))):
        torch.save({"state_dict": content}, tmp_path / "a.pth")
        assert read_checkpoint(tmp_path / "a.pth").weights.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("place", [Runs(), {"x": Runs()}, AttributeDict(x=Runs()), [Config(), Runs()]])
def test_a_call_is_refused_at_any_place(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": tensors(WEIGHTS), "beside": place}, "a.pth")
    with pytest.raises(CheckpointUnsafe, match=r"posix\.system"):
        read_checkpoint(Path("a.pth"))
    assert not Path("ran").exists()


class OwnModule(torch.nn.Module):
    """A module of the training code."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_a_pickled_module_of_an_own_class_is_still_refused_as_a_module(legacy: bool, tmp_path: Path) -> None:
    torch.save({"model": OwnModule()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointIsModule, match="state_dict"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">f4"), np.ones((2, 3), "f8").T])
def test_numpy_arrays_are_read_in_every_protocol(array: Any, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"conv.weight": array}, protocol))
    found = read_checkpoint(tmp_path / "a.pkl").weights["conv.weight"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


def test_the_objects_of_a_pickle_cannot_change_what_the_reader_uses() -> None:
    """BUILD would set attributes of a tensor's record, of a stand-in or of a number type."""
    float32 = b"ctorch\nFloatStorage\n"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" + float32
    tensor += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89}tR"
    tree, _ = unpickle_bytes(b"\x80\x02" + tensor + b"(K\x01K\x02K\x03K\x04K\x05tb.")
    assert tree.shape == (4,)
    state = b"}X\x05\x00\x00\x00shape)sb."
    for stand_in in (float32, b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"):
        with pytest.raises(CheckpointUnreadable):
            unpickle_bytes(b"\x80\x02" + stand_in + state)
    restored, _ = unpickle_bytes(b"\x80\x02cabsent\nName\n" + state)
    assert not hasattr(restored, "shape")


def test_a_pickle_cannot_encode_or_name_more_than_its_size_allows() -> None:
    text = b"X\x00\x01\x00\x00" + b"a" * 256 + b"q\x00X\x06\x00\x00\x00latin1q\x01c_codecs\nencode\nq\x02"
    with pytest.raises(CheckpointUnreadable, match="more bytes than"):
        unpickle_bytes(b"\x80\x02]" + text + b"h\x02h\x00h\x01\x86R0" * 100 + b".")
    names = b"".join(b"cm%d\nN\n0" % number for number in range(10_001))
    with pytest.raises(CheckpointUnreadable, match="more classes"):
        unpickle_bytes(b"\x80\x02" + names + b"].")


class SharedBytes:
    """An array of numpy whose bytes are the same object as those of others."""

    array = np.ones(100_000, np.float32)
    content = array.tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = self.array.__reduce__()[0]
        return rebuild, (np.ndarray, (0,), b"b"), (1, self.array.shape, self.array.dtype, False, self.content)


def test_one_block_that_is_named_many_times_is_refused_before_it_is_read(tmp_path: Path) -> None:
    shared = torch.ones(100_000)
    torch.save({f"layer.{number}.weight": shared for number in range(100)}, tmp_path / "a.pth")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({f"layer.{number}.weight": SharedBytes() for number in range(100)}))
    for name in ("a.pth", "b.pkl"):
        tracemalloc.start()
        with pytest.raises(CheckpointUnreadable, match="many times as large as the file"):
            read_checkpoint(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000, "of 40 MB"
        tracemalloc.stop()
    torch.save({"a.weight": shared, "b.weight": shared}, tmp_path / "tied.pth")
    assert read_checkpoint(tmp_path / "tied.pth").weights.keys() == {"a.weight", "b.weight"}


def of_one_hash(count: int, kind: str) -> bytes:
    """Return a pickle of a dict or set whose integers have the hash 0."""
    numbers = [number * sys.hash_info.modulus for number in range(count)]
    if kind == "text":
        return b"(" + b"".join(b"L%dL\nN" % number for number in numbers) + b"d."
    binary = [b"\x8a%c%b" % (len(encoded), encoded) for encoded in map(pickle.encode_long, numbers)]
    if kind == "set":
        return b"\x80\x04\x8f(" + b"".join(binary) + b"\x90."
    return b"\x80\x02}(" + b"".join(number + b"N" for number in binary) + b"u."


@pytest.mark.parametrize("kind", ["dict", "set", "text"])
def test_integers_that_all_have_one_hash_are_refused_at_once(kind: str) -> None:
    start = time.monotonic()
    with pytest.raises(CheckpointUnreadable, match="integers of over 61 bits, which no training code writes"):
        unpickle_bytes(of_one_hash(7_000, kind))
    assert time.monotonic() - start < 1
    assert len(unpickle_bytes(of_one_hash(100, kind))[0]) == 100, "a random state"


def test_a_pickle_that_copies_one_list_many_times_is_refused() -> None:
    rows = b"](" + b"".join(b"M" + number.to_bytes(2, "little") + b"N\x86" for number in range(1000)) + b"e"
    content = b"\x80\x02" + rows + b"q\x00ccollections\nOrderedDict\nq\x01](" + b"h\x01h\x00\x85R" * 1000 + b"e."
    with pytest.raises(CheckpointUnreadable, match="more items than"):
        unpickle_bytes(content)


def test_a_view_that_is_negated_when_it_is_read_is_refused(tmp_path: Path) -> None:
    """torch.load returns the weight, and the file holds its negation."""
    weight = torch.from_numpy(WEIGHTS["conv.weight"])
    torch.save({"conv.weight": torch._neg_view(-weight)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointUnreadable, match="negated or conjugated view"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("h", [float("nan"), -1.0, 0, 10**400, "0.3"])
def test_an_impossible_constant_of_adaface_is_replaced_by_that_of_the_paper(tmp_path: Path, h: object) -> None:
    content = adaface_checkpoint(weights_for(small_adaface()), 20.5, 5.0)
    content.setdefault("hyper_parameters", {})["h"] = h
    torch.save(content, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt").head
    assert found is not None
    assert found.h == 0.333


@pytest.mark.parametrize("text", ["color_space: !!bool maybe", "a: !!timestamp foo", "a: !!int ''", "[" * 2000])
def test_a_malformed_description_beside_a_checkpoint_is_passed_over(tmp_path: Path, text: str) -> None:
    torch.save(tensors(WEIGHTS), tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(text)
    assert read_checkpoint(tmp_path).weights.keys() == WEIGHTS.keys()
