"""What is said of a file that is no checkpoint, whatever its name."""

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.checkpoint import read_checkpoint
from models.checkpoint.formats import kind_of
from models.errors import CheckpointIsModule, CheckpointUnreadable, ExportError


def onnx_graph(producer: str) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model: onnx.ModelProto = helper.make_model(graph, producer_name=producer)
    return bytes(model.SerializeToString())


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tar_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


FILES = {
    "ONNX": (onnx_graph("pytorch"), "an ONNX graph, not a checkpoint; give it to: vultus import"),
    "ONNX without a producer": (onnx_graph(""), "an ONNX graph"),
    "a login page": (b"\r\n<!DOCTYPE html>\n<html>", "an HTML page, most likely of a failed download"),
    "a virus scan notice": (b"\xef\xbb\xbf<HTML><head>", "an HTML page"),
    "an error of an object store": (b'<?xml version="1.0"?><Error><Code>', "an XML error message"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "an error in JSON": (b'{"error": "not found"}', "a JSON text"),
    "an index of parts": (b'{"metadata": {}, "weight_map": {}}', "the index of a checkpoint in several parts"),
    "notes": ("Gewichte: später".encode(), "a plain text"),
    "gzip": (gzip.compress(b"x" * 100), "compressed with gzip, not a checkpoint; unpack it"),
    "xz": (b"\xfd7zXZ\x00" + bytes(99), "compressed with xz"),
    "bzip2": (b"BZh91AY&SY", "compressed with bzip2"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed with zstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive"),
    "tar": (tar_of("model.pth"), "a tar archive, not a checkpoint; unpack it"),
    "the first form of PyTorch": (tar_of("storages"), "PyTorch before 0.1.10"),
    "a zip of a checkpoint": (zip_of("models/best.pth", "readme.txt"), "holds models/best.pth; unpack it first"),
    "another zip": (zip_of("word/document.xml"), "not in the form that PyTorch writes"),
    "Keras": (zip_of("config.json", "model.weights.h5"), "a Keras model"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    "SavedModel": (b"\x08\x01\x12\x99\x01" + bytes(99), "a TensorFlow SavedModel"),
    "a frozen graph": (b"\n\x20\n\x05input\x12\x0bPlaceholder", "a TensorFlow graph"),
    "a Caffe model": (b"\n\x07res\xff\x12\x0bConvolution", "a Caffe model"),
    "MXNet's parameters": (b"\x12\x01" + bytes(99), "an MXNet model"),
    "MXNet's graph": (b'{\n  "nodes": [', "the graph of an MXNet model"),
    "Paddle's parameters": (pickle.dumps({"StructuredToParameterName@@": {}}, 2), "a Paddle model"),
    "ncnn": (b"7767517\n75 83\n", "an ncnn model"),
    "TensorRT": (b"ftrt" + bytes(99), "a TensorRT engine"),
    "an array": (b"\x93NUMPY\x01\0" + bytes(99), "a single numpy array"),
    "a photo": (b"\xff\xd8\xff\xe0" + bytes(99), "an image"),
    "zeros": (bytes(5000), "full of zero bytes"),
    "nothing": (b"", "is empty"),
    "anything": (bytes(range(200, 256)) * 9, "not a PyTorch checkpoint, a safetensors file or an .npz file"),
}


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a"])
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_named_by_its_bytes(kind: str, name: str, tmp_path: Path) -> None:
    content, sentence = FILES[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointUnreadable) as caught:
        read_checkpoint(tmp_path / name)
    assert sentence in str(caught.value)


def test_a_program_of_torch_export_is_refused_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(zip_of("a/archive_format", "a/models/model.json"))
    with pytest.raises(CheckpointIsModule, match=r"torch\.export"):
        read_checkpoint(tmp_path / "a.pt2")


def test_a_directory_of_a_distributed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / ".metadata").touch()
    with pytest.raises(CheckpointUnreadable, match="dcp_to_torch"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [np.array([{}], object), np.zeros(2, "V2"), np.zeros(10**7)])
def test_an_npz_file_with_objects_or_of_a_hundredfold_size_is_refused(content: Any, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", allow_pickle=True, **{"conv.weight": content})
    with pytest.raises(ExportError, match=r"holds Python objects|is stored as void|expands far more"):
        read_checkpoint(tmp_path / "a.npz")


def test_no_beginning_of_a_file_raises_another_error() -> None:
    rng = np.random.default_rng(0)
    for content, _ in FILES.values():
        for length in range(min(len(content), 40)):
            kind_of(content[:length], length)
    for _ in range(500):
        kind_of(rng.bytes(int(rng.integers(0, 300))), 300)
