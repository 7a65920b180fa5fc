"""Inference engines behind one `Session` protocol."""

from models.runtime.batching import BatchedSession, Batching
from models.runtime.loading import RuntimeOptions, cpu_options, engines_for, open_session, usable_cores
from models.runtime.session import BATCH_BUCKETS, Precision, Session, SessionDescription
from models.runtime.telemetry import disable_telemetry

__all__ = [
    "BATCH_BUCKETS",
    "BatchedSession",
    "Batching",
    "Precision",
    "RuntimeOptions",
    "Session",
    "SessionDescription",
    "cpu_options",
    "engines_for",
    "open_session",
    "usable_cores",
]

disable_telemetry()  # importing any engine module imports this package first
