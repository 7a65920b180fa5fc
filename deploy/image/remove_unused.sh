#!/bin/sh
# Remove from an environment what the packages bring and a service on a CPU never loads: usage `remove_unused.sh VENV`.
set -eu
cd "$1"/lib/python3*/site-packages
# OpenVINO: plugins of other devices, and readers of formats other than ONNX and its own.
rm -f openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu_plugin.so openvino/libs/cache.json
for format in gguf jax paddle pytorch tensorflow tensorflow_lite; do
    rm -f openvino/libs/libopenvino_"$format"_frontend.so*
done
# ONNX Runtime: the library for programs in C; its Python module has a copy of its own.
rm -f onnxruntime/capi/libonnxruntime.so.*
# lapx: the solvers that are not called.
rm -f lap/_lapjv.*.so lap/_lapjvc.*.so lap/_lapjvs.*.so lap/_lapjvx.*.so
# Headers for C++, scripts that convert language models, and tests of the packages themselves.
rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnx/backend/test sqlalchemy/testing numpy/tests numpy/*/tests openvino/include
