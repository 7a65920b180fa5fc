"""A minimal service for comparison: FastAPI around OpenCV's face classes, with the same models.

Run as `python -m tests.bench.speed.plain_service DETECTOR RECOGNIZER PORT`.
"""

import sys
import threading
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, UploadFile

from tests.bench.speed.stages import OpenCvPipeline


def plain_service(detector: Path, recognizer: Path) -> FastAPI:
    app, local = FastAPI(), threading.local()

    @app.get("/readyz")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v1/verify")
    def verify(probe: Annotated[UploadFile, File()], reference: Annotated[UploadFile, File()]) -> dict[str, float]:
        if not hasattr(local, "pipeline"):  # OpenCV's classes are not thread-safe
            local.pipeline = OpenCvPipeline(detector, recognizer)
        return {"similarity": local.pipeline.verify(probe.file.read(), reference.file.read())}

    return app


if __name__ == "__main__":
    uvicorn.run(
        plain_service(Path(sys.argv[1]), Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[3]), log_level="error"
    )
