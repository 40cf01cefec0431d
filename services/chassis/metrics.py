"""What Prometheus may scrape at ``/metrics`` of every service. Durations are seconds, counters end in ``_total``."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SAGA_DURATIONS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600)

OUTBOX_WAITING: Final = Gauge("oms_outbox_waiting", "Events committed and not yet taken by the broker")
OUTBOX_LAG: Final = Gauge("oms_outbox_lag_seconds", "Age of the oldest event not yet taken by the broker")
OUTBOX_PUBLISHED: Final = Counter("oms_outbox_published_total", "Events the broker has taken", ["event"])
OUTBOX_REFUSED: Final = Counter("oms_outbox_refused_total", "Events the broker could not route or refused", ["event"])
INBOX_DUPLICATES: Final = Counter("oms_inbox_duplicates_total", "Deliveries that had already taken effect", ["handler"])
HANDLER_SECONDS: Final = Histogram(
    "oms_handler_seconds", "Time in an event handler", ["handler", "outcome"], buckets=_DURATIONS
)
RETRIES: Final = Counter("oms_retries_total", "Events put off after a failure", ["handler", "kind"])
DEAD_LETTERS: Final = Counter("oms_dead_letters_total", "Messages given up", ["handler", "reason"])
SAGA_SECONDS: Final = Histogram(
    "oms_saga_seconds", "From placing an order to its outcome", ["outcome"], buckets=_SAGA_DURATIONS
)
RPC_SERVER_SECONDS: Final = Histogram(
    "oms_rpc_server_seconds", "Time in an RPC method", ["method", "outcome"], buckets=_DURATIONS
)
RPC_CLIENT_SECONDS: Final = Histogram(
    "oms_rpc_client_seconds", "Time until an RPC was answered", ["method", "outcome"], buckets=_DURATIONS
)
HTTP_SECONDS: Final = Histogram(
    "oms_http_seconds", "Time to answer an HTTP request", ["method", "route", "status"], buckets=_DURATIONS
)
RATE_LIMITED: Final = Counter("oms_rate_limited_total", "Requests refused because too many came", ["limit"])
EVENT_STREAMS: Final = Gauge("oms_event_streams", "Streams of server-sent events that are open")
WORK_FAILURES: Final = Counter("oms_work_failures_total", "Units of work that were rolled back", ["reason"])


@contextmanager
def timed(histogram: Histogram, *labels: str) -> Iterator[None]:
    """Observe how long the block took, under the labels and an outcome: ``ok`` or the error's class name."""
    started = monotonic()
    outcome = "ok"
    try:
        yield
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        histogram.labels(*labels, outcome).observe(monotonic() - started)
