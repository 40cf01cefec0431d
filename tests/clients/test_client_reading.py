import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from oms_client import Action, Line, Order, OrderStatus, Role, UnexpectedAnswer
from oms_client.reading import parse, read, write
from tests.clients.ground import Json, an_order


def an_answer(**fields: object) -> Json:
    """An order as it arrives."""
    document: Json = parse(json.dumps(an_order(**fields)))
    return document


class TestReading:
    """An answer becomes a dataclass."""

    def test_knows_money_times_ids_and_words(self) -> None:
        """None of them is a float, a naive time or a bare string."""
        order = read(Order, an_answer())

        assert (order.total_amount, order.items[0].price) == (Decimal("69.8"), Decimal("34.9"))
        assert order.created_at == datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
        assert isinstance(order.id, UUID)
        assert order.status is OrderStatus.PENDING
        assert order.allowed_actions == (Action.CANCEL,)
        assert order.status_reason is None

    def test_takes_a_whole_amount_for_money(self) -> None:
        """21 is 21.00."""
        assert read(Order, an_answer(totalAmount=21)).total_amount == Decimal("21.00")

    def test_leaves_aside_what_it_does_not_know(self) -> None:
        """A later server says more."""
        known = an_answer()

        assert read(Order, {**known, "loyaltyPoints": 7}) == read(Order, known)

    def test_does_without_what_may_be_missing(self) -> None:
        """An older server says less."""
        document = an_answer()
        del document["allowedActions"]

        assert read(Order, document).allowed_actions == ()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"totalAmount": "69.80"},
            {"totalAmount": True},
            {"createdAt": "2026-01-02T03:04:05"},
            {"createdAt": "yesterday"},
            {"id": "1"},
            {"status": 3},
            {"items": None},
            {"items": [1]},
            {"currency": None},
        ],
    )
    def test_refuses_what_does_not_fit(self, wrong: Json) -> None:
        """Rather than to carry a wrong value on."""
        with pytest.raises(UnexpectedAnswer):
            read(Order, an_answer(**wrong))

    def test_names_what_is_missing(self) -> None:
        """As the API writes it."""
        document = an_answer()
        del document["totalAmount"]

        with pytest.raises(UnexpectedAnswer, match="totalAmount"):
            read(Order, document)

    def test_refuses_what_is_no_json(self) -> None:
        """Such as a page of something else that listens there."""
        with pytest.raises(UnexpectedAnswer):
            parse(b"<html>")


class TestWords:
    """An enumeration outlives a word it does not know."""

    def test_keeps_it(self) -> None:
        """It is what the server said, and says that it is new."""
        status = read(Order, an_answer(status="Archived")).status

        assert (status, str(status), status.is_known, status.is_final) == ("Archived", "Archived", False, False)
        assert status == OrderStatus("Archived")
        assert pickle.loads(pickle.dumps(status)) == status  # noqa: S301 - our own

    def test_does_not_take_a_name_for_a_word(self) -> None:
        """The API says Pending."""
        assert not OrderStatus("PENDING").is_known
        assert OrderStatus("Pending").is_known

    @pytest.mark.parametrize(
        ("status", "wanted", "reached"),
        [
            ("Pending", "Confirmed", False),
            ("Confirmed", "Confirmed", True),
            ("Delivered", "Confirmed", True),
            ("Cancelled", "Confirmed", False),
            ("Delivered", "Cancelled", False),
            ("Archived", "Confirmed", False),
            ("Archived", "Archived", True),
        ],
    )
    def test_knows_the_way_of_an_order(self, status: str, wanted: str, reached: bool) -> None:  # noqa: FBT001 - a row
        """Shipped lies beyond Confirmed; Cancelled lies aside."""
        assert OrderStatus(status).has_reached(OrderStatus(wanted)) is reached


class TestWriting:
    """A request becomes JSON."""

    def test_writes_camel_case_without_what_is_not_given(self) -> None:
        """What is left out is the server's to choose."""
        product = uuid4()
        lines = [Line(product, 2), Line(product, price=Decimal("34.90"))]

        document = json.loads(write({"items": lines, "payment_method": None, "shipping_address": "Here"}))

        assert document == {
            "items": [
                {"productId": str(product), "quantity": 2},
                {"productId": str(product), "quantity": 1, "price": 34.9},
            ],
            "shippingAddress": "Here",
        }

    @pytest.mark.parametrize("amount", ["0.01", "0.1", "34.90", "1", "99999999999.99"])
    def test_writes_money_exactly(self, amount: str) -> None:
        """The cents that were meant."""
        assert parse(write({"price": Decimal(amount)}))["price"] == Decimal(amount)

    def test_writes_words_as_they_are(self) -> None:
        """And False is something."""
        assert json.loads(write({"role": Role.STAFF, "active": False})) == {"role": "staff", "active": False}

    def test_refuses_what_is_no_number(self) -> None:
        """JSON has none of these."""
        with pytest.raises(ValueError, match="JSON"):
            write({"price": Decimal("NaN")})
