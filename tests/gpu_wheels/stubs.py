"""Libraries of the NVIDIA driver and of TensorRT that only resolve names, so that the code that links them loads.

The CUDA provider of ONNX Runtime links the driver, and the TensorRT provider and the bindings of TensorRT link
TensorRT; none of both is on a package index. Every function of these libraries fails. What the real code does before it
calls them, such as reading its options, can then be checked on a machine without a GPU.
"""

import shutil
import subprocess
from pathlib import Path

_DRIVER = """
int cuInit(unsigned flags) { return 100; }  /* CUDA_ERROR_NO_DEVICE */
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuTensorMapEncodeTiled(void) { return 100; }
"""
_INFER = """
static long zero(void) { return 0; }
static void *methods[256];
static struct { void **table; } object = { methods };  /* its virtual methods return nothing */
void *getPluginRegistry(void) { for (int i = 0; i < 256; i++) methods[i] = (void *)zero; return &object; }
void *getBuilderPluginRegistry(int kind) { return getPluginRegistry(); }
int getInferLibVersion(void) { return 101601; }
int initLibNvInferPlugins(void *logger, const char *space) { return 1; }
void *createInferBuilder_INTERNAL(void *logger, int version) { return 0; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }
void *createInferRuntime_INTERNAL(void *logger, int version) { return 0; }
"""
_PARSER = """
int getNvOnnxParserVersion(void) { return 101601; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }
"""
SOURCES = {
    "libcuda.so.1": _DRIVER,
    "libnvinfer.so.10": _INFER,
    "libnvinfer_plugin.so.10": "",
    "libnvonnxparser.so.10": _PARSER,
}


def compiler() -> str | None:
    """Return the path of a C compiler, or None if there is none."""
    return shutil.which("cc") or shutil.which("gcc")


def compile_stubs(directory: Path) -> None:
    """Compile the libraries into a directory."""
    for name, source in SOURCES.items():
        command = [str(compiler()), "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(directory / name), "-xc", "-"]
        subprocess.run(command, input=source.encode(), check=True, timeout=60)
