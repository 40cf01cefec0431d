import json
from typing import Any

import pytest
from nameko.exceptions import ContainerBeingKilled

from services.chassis.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    TimedOut,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from services.chassis.problems import Refusal, document, refusal_of


def the_document(error: Exception) -> dict[str, Any]:
    """What a client reads about this error."""
    text = document(refusal_of(error), instance="/api/order", request_id="r-1")
    members: dict[str, Any] = json.loads(text)
    return members


class TestStatus:
    """The HTTP status of an error."""

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            (NotFound, 404),
            (Conflict, 409),
            (TooMany, 429),
            (InvalidInput, 422),
            (Unauthenticated, 401),
            (Forbidden, 403),
            (Unavailable, 503),
            (TimedOut, 504),
        ],
    )
    def test_is_decided_by_the_kind_of_error(self, kind: type[ServiceError], status: int) -> None:
        """One table maps each kind."""
        refusal = refusal_of(kind("some_code", "A sentence."))

        assert refusal.status == status
        assert refusal.code == "some_code"

    def test_is_412_for_the_conflict_that_a_condition_asked_for(self) -> None:
        """HTTP has a status of its own for it."""
        refusal = refusal_of(Conflict("precondition_failed", "A sentence."))

        assert (refusal.status, refusal.code) == (412, "precondition_failed")

    def test_is_503_while_the_container_dies(self) -> None:
        """A request that comes too late may come again."""
        refusal = refusal_of(ContainerBeingKilled())

        assert refusal.status == 503
        assert "Retry-After" in refusal.headers

    def test_is_500_for_everything_else_and_says_nothing(self) -> None:
        """A bug's text may hold anything, so none of it leaves."""
        problem = the_document(KeyError("postgresql://user:secret@host"))

        assert problem["status"] == 500
        assert problem["code"] == "internal_error"
        assert "secret" not in json.dumps(problem)


class TestHeaders:
    """The headers an error brings along."""

    def test_of_401_name_the_scheme(self) -> None:
        """Without a token there is no error attribute (RFC 6750, section 3)."""
        headers = refusal_of(Unauthenticated("token_missing", "No.")).headers

        assert headers == {"WWW-Authenticate": 'Bearer realm="oms"'}

    def test_of_401_say_that_a_presented_token_was_wrong(self) -> None:
        """With a token the error attribute tells a client to get another one."""
        headers = refusal_of(Unauthenticated("token_expired", "No."), with_token=True).headers

        assert headers == {"WWW-Authenticate": 'Bearer realm="oms", error="invalid_token"'}

    def test_take_the_waiting_time_from_the_error(self) -> None:
        """Also for kinds other than Unavailable."""
        assert refusal_of(Conflict("busy", "Busy.", {"retry_after": 7})).headers == {"Retry-After": "7"}
        assert refusal_of(Unavailable("away", "Away.")).headers == {"Retry-After": "2"}


class TestDocument:
    """The problem document."""

    def test_has_every_member_of_the_contract(self) -> None:
        """As docs and clients know it."""
        problem = the_document(NotFound("order_not_found", "There is no such order."))

        assert problem == {
            "type": "urn:oms:problem:order_not_found",
            "title": "Order not found",
            "status": 404,
            "detail": "There is no such order.",
            "instance": "/api/order",
            "code": "order_not_found",
            "requestId": "r-1",
        }

    def test_passes_further_members_on(self) -> None:
        """What an illegal transition says about itself."""
        problem = the_document(Conflict("illegal_transition", "No.", {"from": "Shipped", "allowed": ["deliver"]}))

        assert problem["from"] == "Shipped"
        assert problem["allowed"] == ["deliver"]

    def test_lets_no_further_member_replace_its_own(self) -> None:
        """A service cannot change the status by accident."""
        problem = the_document(Conflict("c", "No.", {"status": 200, "requestId": "x", "retry_after": 1}))

        assert problem["status"] == 409
        assert problem["requestId"] == "r-1"
        assert "retry_after" not in problem

    def test_of_a_refusal_is_what_the_refusal_says(self) -> None:
        """HTTP's own refusals come the same way."""
        problem = the_document(Refusal(415, "unsupported_media_type", "Send JSON."))

        assert (problem["status"], problem["code"]) == (415, "unsupported_media_type")
