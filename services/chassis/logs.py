"""Structured logs: one JSON object a line on standard error, with the correlation id of the request or event.

Everything that is bound with :func:`bound` stands on each line of the same greenthread (structlog's context variables
are greenthread-local under eventlet). What libraries log through ``logging`` comes out in the same shape.
"""

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


# Commands and shells, which never ask for the formatter, answer on standard output, where a log line would spoil JSON.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def formatter() -> logging.Formatter:
    """The formatter ``config.yaml`` names; asking for it also routes structlog through ``logging``."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), structlog.processors.format_exc_info],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: ``log.info("what_happened", order_id=...)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bound(**values: object) -> AbstractContextManager[None]:
    """Within the block these values stand on every line this greenthread logs."""
    return structlog.contextvars.bound_contextvars(**values)
