"""Keep the engines from reporting to their makers: a service that sees faces talks to nobody.

ONNX Runtime from 1.29 on and OpenVINO write an identifier into the home directory and send usage events unless they
are told not to, before they are imported.
"""

import os
import sys


def silence_engines() -> None:
    """Switch the telemetry of ONNX Runtime and OpenVINO off; has no effect on an engine that is already imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # OpenVINO's tools fall back to a stub where this package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
