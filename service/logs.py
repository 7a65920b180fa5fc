"""Lines of the log in one form, JSON or for people, also those of the server and of libraries."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from service.settings import LogSettings

_QUIET = {  # loggers whose lines below a level say nothing to an operator
    "python_multipart": logging.ERROR,  # the response already describes an invalid body
    "alembic": logging.WARNING,
}


def configure_logs(settings: LogSettings) -> None:
    """Write all lines of the process to standard error in the configured form."""
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("vultus.access").disabled = not settings.access


def _rendering(settings: LogSettings) -> list[Processor]:
    """Return the last steps. Tracebacks are plain, because those with local variables would show photos and names."""
    if settings.format == "json":
        return [_cleaned, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        _cleaned,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _cleaned(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Return an event without members that have no value, and without the second, coloured message of uvicorn."""
    return {name: value for name, value in event.items() if value is not None and name != "color_message"}
