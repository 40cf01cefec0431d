"""What each operation of the gateway takes, gives and refuses: the services' own schemas, and the stable codes.

Routes, methods, ids in paths and who must sign in are read from ``gateway.py``; statuses and sentences of the codes
from where they are raised. A new route fails the generation until it has a line here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cli.contract_examples import (
    AT,
    CURSOR,
    ENTRY,
    LAMP,
    ME,
    ORDER,
    PAID,
    PASSWORD,
    PLACED,
    PLACING,
    PRODUCT,
    SESSION,
    STEP,
    SUMMARY,
)
from cli.contract_schemas import Journey, OrderPage, ProductPage
from services.chassis.schema import Schema
from services.inventory import schemas as inventory
from services.orders import schemas as orders
from services.users import schemas as users

CONNECTION: Final = (
    *("bad_request_line", "bad_header", "repeated_header", "bad_host", "bad_framing", "incomplete_body"),
    *("headers_too_slow", "body_too_slow", "body_too_large", "uri_too_long", "headers_too_large"),
    *("expectation_failed", "internal_error", "overloaded", "too_many_connections", "stopping"),
)
"""What any request may be told before it reaches its operation."""

CALL: Final = (
    *("broker_unavailable", "database_unavailable", "interrupted", "malformed_reply"),
    *("timed_out", "deadline_passed", "expired"),
)
"""What any operation may say that asks a service."""

TOKEN: Final = ("token_missing", "token_invalid", "token_expired", "token_revoked")
ROLE: Final = ("role_required",)
PATH: Final = ("not_found",)
QUERY: Final = ("malformed_query", "validation_failed")
BODY: Final = ("malformed_json", "unsupported_media_type", "validation_failed")
LIMIT: Final = ("rate_limited",)
MATCH: Final = ("precondition_failed",)
KEY: Final = ("bad_idempotency_key", "idempotency_key_in_use", "idempotency_key_reused")

ELSEWHERE: Final = frozenset(
    {
        "method_not_allowed",  # another method at the path of an operation
        *("malformed_call", "unknown_method"),  # services of different releases
        *("dead_letter_not_found", "not_replayable", "token_unknown"),  # RPC that the gateway does not call
        *("mail_unavailable", "mailbox_busy", "order_busy", "redis_away"),  # between services and what they stand on
    }
)
"""Codes that no operation answers with."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation. ``role`` is who may, beyond being signed in; ``headers`` what the answer has besides."""

    tag: str
    gives: Schema | None
    status: int = 200
    takes: Schema | None = None
    may_be_empty: bool = False
    query: Schema | None = None
    role: str = ""
    headers: tuple[str, ...] = ()
    keyed: bool = False
    limited: bool = False
    """Whether it may be asked only so often."""
    reads: tuple[str, ...] = ()
    """Request headers that mean something to it besides."""
    also: Mapping[int, str] = field(default_factory=dict)
    """Further good statuses without a body, and what each says."""
    stream: Schema | None = None
    """What each server-sent event of its answer carries."""
    conditional: bool = False
    """Whether it writes only over what the client knows, if the client says so."""
    refuses: tuple[str, ...] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)
    """Bodies that are accepted, each under its summary."""
    answer: Any = None
    """What the first of them may get."""


def codes_of(operation: Operation, *, signed_in: bool, has_path: bool) -> Sequence[str]:
    """Every code that the operation may answer with."""
    return [
        *CONNECTION,
        *CALL,
        *(TOKEN if signed_in else ()),
        *(ROLE if operation.role else ()),
        *(PATH if has_path else ()),
        *(QUERY if operation.query else ()),
        *(BODY if operation.takes else ()),
        *(KEY if operation.keyed else ()),
        *(MATCH if operation.conditional else ()),
        *(LIMIT if operation.limited else ()),
        *operation.refuses,
    ]


OPERATIONS: Final[Mapping[str, Operation]] = {
    "register": Operation(
        tag="accounts",
        takes=users.REGISTRATION,
        gives=users.SESSION_VIEW,
        status=201,
        limited=True,
        refuses=("email_taken", "busy"),
        examples={
            "With a name": {"email": "ada@example.com", "password": PASSWORD, "firstName": "Ada"},
            "With a phone": {"email": "grace@example.com", "password": PASSWORD, "phone": "+4915112345678"},
        },
        answer=SESSION,
    ),
    "login": Operation(
        tag="accounts",
        takes=users.CREDENTIALS,
        gives=users.SESSION_VIEW,
        limited=True,
        refuses=("invalid_credentials", "busy"),
        examples={"E-mail and password": {"email": "ada@example.com", "password": PASSWORD}},
        answer={**SESSION, "message": "Logged in."},
    ),
    "refresh": Operation(
        tag="accounts",
        takes=users.REFRESH,
        gives=users.SESSION_VIEW,
        limited=True,
        refuses=("refresh_token_invalid",),
        examples={"The last refresh token": {"refreshToken": SESSION["refreshToken"]}},
        answer={**SESSION, "message": "Refreshed."},
    ),
    "logout": Operation(tag="accounts", gives=None, status=204),
    "get_me": Operation(tag="accounts", gives=users.USER_VIEW, answer=ME),
    "change_user": Operation(
        tag="accounts",
        takes=users.ACCOUNT_CHANGE,
        gives=users.ACCOUNT_VIEW,
        role="admin",
        refuses=("user_unknown", "last_admin"),
        examples={"Make somebody staff": {"role": "staff"}, "Close an account": {"active": False}},
        answer={**ME, "role": "staff", "active": True},
    ),
    "place_order": Operation(
        tag="orders",
        takes=orders.PLACE_ORDER,
        gives=orders.ORDER_VIEW,
        status=201,
        headers=("Location", "ETag", "Idempotent-Replayed"),
        keyed=True,
        limited=True,
        refuses=("too_many_open_orders", "price_changed", "product_unavailable", "mixed_currencies", "total_too_large"),
        examples={
            "Two of one product": {"items": [{"productId": PRODUCT, "quantity": 2}]},
            "Only at the price I saw": {"items": [{"productId": PRODUCT, "quantity": 1, "price": 34.9}]},
            "A card that is declined": {
                "items": [{"productId": PRODUCT, "quantity": 1}],
                "shippingAddress": "12 Example Street\n12345 Sampletown",
                "paymentMethod": "pm_declined",
            },
        },
        answer=PLACED,
    ),
    "list_orders": Operation(
        tag="orders",
        query=orders.LIST_ORDERS,
        gives=OrderPage(),
        answer={"items": [SUMMARY], "nextCursor": CURSOR},
    ),
    "get_order": Operation(
        tag="orders", gives=orders.ORDER_VIEW, headers=("ETag",), refuses=("order_not_found",), answer=PLACED
    ),
    "cancel_order": Operation(
        tag="orders",
        takes=orders.CANCEL,
        may_be_empty=True,
        gives=orders.ORDER_VIEW,
        headers=("ETag", "Idempotent-Replayed"),
        keyed=True,
        conditional=True,
        refuses=("order_not_found", "illegal_transition"),
        examples={"Saying why": {"reason": "Ordered by mistake."}, "Saying nothing": {}},
        answer={**PLACED, "status": "Cancelled", "statusReason": "customer", "allowedActions": []},
    ),
    "ship_order": Operation(
        tag="orders",
        takes=orders.SHIP,
        may_be_empty=True,
        gives=orders.ORDER_VIEW,
        role="staff",
        headers=("ETag",),
        conditional=True,
        refuses=("order_not_found", "illegal_transition"),
        examples={"With a parcel's number": {"tracking": "JD014600003SE"}},
        answer={**PAID, "status": "Shipped", "allowedActions": ["deliver"]},
    ),
    "deliver_order": Operation(
        tag="orders",
        gives=orders.ORDER_VIEW,
        role="staff",
        headers=("ETag",),
        conditional=True,
        refuses=("order_not_found", "illegal_transition"),
        answer={**PAID, "status": "Delivered", "allowedActions": []},
    ),
    "get_journey": Operation(
        tag="orders",
        gives=Journey(),
        refuses=("order_not_found",),
        answer={
            "orderId": ORDER,
            "status": "Pending",
            "deadline": AT,
            "waitingFor": "inventory to reserve the stock",
            "steps": [STEP],
            "missing": [],
        },
    ),
    "stream_events": Operation(
        tag="orders",
        gives=None,
        reads=("Last-Event-ID",),
        also={204: "There was nothing after `Last-Event-ID`, and nothing will come any more."},
        stream=orders.ENTRY,
        answer={"id": "1", "data": json.dumps(PLACING)},
        refuses=("order_not_found", "bad_last_event_id", "too_many_streams"),
    ),
    "list_products": Operation(
        tag="catalogue",
        query=inventory.PRODUCT_QUERY,
        gives=ProductPage(),
        headers=("ETag",),
        answer={"items": [LAMP], "nextCursor": None},
    ),
    "get_product": Operation(
        tag="catalogue",
        gives=inventory.PRODUCT_VIEW,
        headers=("ETag",),
        refuses=("product_not_found",),
        answer=LAMP,
    ),
    "create_product": Operation(
        tag="catalogue",
        takes=inventory.NEW_PRODUCT,
        gives=inventory.PRODUCT_VIEW,
        status=201,
        role="admin",
        headers=("Location", "ETag"),
        examples={
            "A product on sale": {"name": "Desk lamp", "description": LAMP["description"], "price": 34.9},
            "Not on sale yet": {"name": "Floor lamp", "price": 79, "active": False},
        },
        answer={**LAMP, "available": 0},
    ),
    "change_product": Operation(
        tag="catalogue",
        takes=inventory.PRODUCT_CHANGE,
        gives=inventory.PRODUCT_VIEW,
        role="admin",
        headers=("ETag",),
        conditional=True,
        refuses=("product_not_found",),
        examples={"Another price": {"price": 29.9}, "Off sale": {"active": False}},
        answer={**LAMP, "price": 29.9},
    ),
    "adjust_stock": Operation(
        tag="stock",
        takes=inventory.STOCK_ADJUSTMENT,
        gives=inventory.LEDGER_VIEW,
        status=201,
        role="staff",
        refuses=("product_not_found", "insufficient_stock"),
        examples={"More came in": {"delta": 5, "reason": "Five more were delivered."}},
        answer=ENTRY,
    ),
    "get_stock": Operation(
        tag="stock",
        query=inventory.LIST_QUERY,
        gives=inventory.STOCK_VIEW,
        role="staff",
        refuses=("product_not_found",),
        answer={"onHand": 125, "reserved": 2, "available": 123, "ledger": [ENTRY], "nextCursor": None},
    ),
}
"""Each operation by the name of its method."""
