from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.payments.models import Pace, Request
from services.payments.transitions import AttemptKind, Refused, Unanswered


def a_request(kind: AttemptKind = AttemptKind.CHARGE, number: int = 1) -> Request:
    """What the processor is to be asked."""
    return Request(
        attempt_id=1,
        payment_id=uuid4(),
        order_id=uuid4(),
        kind=kind,
        number=number,
        amount_cents=4_200,
        currency="EUR",
        payment_method="pm_ok",
        transaction_id=None,
        lease_until=datetime(2026, 1, 2, tzinfo=UTC),
        correlation_id="the-request",
        traceparent=None,
        causation_id=uuid4(),
    )


class TestRequest:
    """What is asked of the processor."""

    def test_has_one_key_for_a_charge_and_its_abandoning_and_another_for_the_refund(self) -> None:
        """So that a refund is never taken for the charge."""
        charge, abandon, refund = (a_request(kind) for kind in AttemptKind)

        assert charge.key == str(charge.order_id)
        assert abandon.key == str(abandon.order_id)
        assert refund.key == f"{refund.order_id}:refund"


class TestPace:
    """How long to wait before asking again."""

    @pytest.mark.parametrize(("number", "seconds"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (10_000, 30)])
    def test_doubles_up_to_half_a_minute(self, number: int, seconds: float) -> None:
        """Also after more attempts than a float has powers of two."""
        pace = Pace(retry_seconds=1, refund_retry_seconds=3600)

        assert pace.pause_seconds(a_request(number=number), Unanswered()) == seconds

    def test_is_an_hour_after_a_refusal(self) -> None:
        """However often it was refused."""
        pace = Pace(retry_seconds=1, refund_retry_seconds=3600)

        assert pace.pause_seconds(a_request(AttemptKind.REFUND, 3), Refused()) == 3600
