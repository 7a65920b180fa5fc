"""Engines behind one `Session` protocol."""

from models.runtime.loading import RuntimeOptions, cpu_options, engines_for, open_session
from models.runtime.session import BATCH_BUCKETS, Precision, Session, SessionDescription
from models.runtime.silence import silence_engines

__all__ = [
    "BATCH_BUCKETS",
    "Precision",
    "RuntimeOptions",
    "Session",
    "SessionDescription",
    "cpu_options",
    "engines_for",
    "open_session",
]

silence_engines()  # every way to an engine leads through this package
