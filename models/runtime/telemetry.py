"""Disable the telemetry of the engines, because a service that processes faces must not report to third parties.

ONNX Runtime from 1.29 on and OpenVINO write an identifier into the home directory and send usage events, unless
telemetry is switched off before they are imported.
"""

import os
import sys


def disable_telemetry() -> None:
    """Switch off the telemetry of ONNX Runtime and OpenVINO. Has no effect on an engine that is already imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # OpenVINO's tools fall back to a stub if this package cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
