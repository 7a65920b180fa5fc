"""Engines behind one `Session` protocol."""

from models.runtime.loading import RuntimeOptions, open_session
from models.runtime.session import BATCH_BUCKETS, Session, SessionDescription

__all__ = ["BATCH_BUCKETS", "RuntimeOptions", "Session", "SessionDescription", "open_session"]
