from uuid import UUID

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from services.chassis.http import Refusal, Request, idempotency_key, json_object, reply, tagged

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def a_request(body: bytes = b"", *, query: str = "", method: str = "GET", **headers: str) -> Request:
    """A request with these headers, ``content_type="..."`` for ``Content-Type: ...``."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(EnvironBuilder(method=method, query_string=query, headers=Headers(fields)).get_environ())
    request.body = body
    return request


class TestRequestId:
    """The id of a request."""

    def test_is_the_clients_when_it_is_sane(self) -> None:
        """So that a client finds its own requests in our logs."""
        assert a_request(x_request_id="order-4711.a_b").request_id == "order-4711.a_b"

    @pytest.mark.parametrize("value", ["", "a b", "a" * 65, "ä", "a\tb", '"}', None])
    def test_is_a_new_one_otherwise(self, value: str | None) -> None:
        """Nothing a client sends gets into headers and logs unseen."""
        request = a_request() if value is None else a_request(x_request_id=value)

        assert UUID(request.request_id).version == 4
        assert request.request_id == request.request_id


class TestContext:
    """What a request sends along with its calls."""

    def test_carries_id_token_and_trace(self) -> None:
        """All that travels with an RPC."""
        request = a_request(x_request_id="r-1", authorization="bearer abc.def", traceparent=TRACEPARENT)

        assert request.context == {"correlation_id": "r-1", "auth_token": "abc.def", "traceparent": TRACEPARENT}

    def test_leaves_out_what_is_not_there(self) -> None:
        """A trace that is none is not passed on."""
        assert set(a_request(traceparent="00-zz").context) == {"correlation_id"}

    @pytest.mark.parametrize("header", ["Basic abc", "Bearer", "abc", ""])
    def test_has_no_token_where_none_was_presented(self, header: str) -> None:
        """Another scheme is no bearer token."""
        assert a_request(authorization=header).bearer_token is None

    @pytest.mark.parametrize("header", ["Bearer a b", "Bearer a,Bearer b", "Bearer ä", "Bearer  "])
    def test_passes_no_raw_garbage_on_as_a_token(self, header: str) -> None:
        """It stays a token that is invalid."""
        assert a_request(authorization=header).bearer_token == "malformed"


class TestQuery:
    """The parameters of a query."""

    def test_is_a_text_for_each_name(self) -> None:
        """Decoded as forms are."""
        assert a_request(query="q=a+b%C3%BC&limit=5&cursor=").query == {"q": "a bü", "limit": "5", "cursor": ""}

    @pytest.mark.parametrize("query", ["a=1&a=2", "a=%00", "a=%ff", "%00=1"])
    def test_refuses_what_has_two_readings(self, query: str) -> None:
        """Twice the same name, NUL, no UTF-8."""
        with pytest.raises(Refusal) as caught:
            _ = a_request(query=query).query

        assert (caught.value.status, caught.value.code) == (400, "malformed_query")


class TestJsonObject:
    """The body a handler asks for."""

    def test_reads_json(self) -> None:
        """Also with its charset spelled out."""
        assert json_object(a_request(b'{"a": 1}', content_type="application/json; charset=UTF-8")) == {"a": 1}

    @pytest.mark.parametrize(
        "content_type", ["", "text/plain", "application/jsonp", "application/json; charset=utf-16", "text/json"]
    )
    def test_refuses_other_content_types(self, content_type: str) -> None:
        """A form post from another site is one of them."""
        with pytest.raises(Refusal) as caught:
            json_object(a_request(b"{}", content_type=content_type))

        assert caught.value.status == 415

    def test_refuses_a_compressed_body(self) -> None:
        """Sixty-four kilobytes stay sixty-four kilobytes."""
        with pytest.raises(Refusal) as caught:
            json_object(a_request(b"{}", content_type="application/json", content_encoding="gzip"))

        assert caught.value.status == 415

    def test_may_be_left_out_where_it_is_optional(self) -> None:
        """No body, no content type needed; but what is sent must be right."""
        assert json_object(a_request(), optional=True) == {}
        with pytest.raises(Refusal):
            json_object(a_request(b"{}"), optional=True)


class TestIdempotencyKey:
    """The key a handler asks for."""

    def test_is_what_was_sent(self) -> None:
        """Up to 255 characters; none where none was sent."""
        assert idempotency_key(a_request(idempotency_key="k" * 255)) == "k" * 255
        assert idempotency_key(a_request()) is None

    @pytest.mark.parametrize("key", ["", "k" * 256, "käse", "a\tb"])
    def test_is_refused_when_it_is_no_key(self, key: str) -> None:
        """Rather than taken for no key at all."""
        with pytest.raises(Refusal) as caught:
            idempotency_key(a_request(idempotency_key=key))

        assert (caught.value.status, caught.value.code) == (400, "bad_idempotency_key")


class TestTagged:
    """An answer with an ETag."""

    def test_names_exactly_these_bytes(self) -> None:
        """Same bytes, same tag; other bytes, another."""
        first, again = tagged(a_request(), {"a": 1}), tagged(a_request(), {"a": 1})
        other = tagged(a_request(), {"a": 2})

        assert first.headers["ETag"] == again.headers["ETag"] != other.headers["ETag"]
        assert first.headers["ETag"].startswith('"')

    @pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
    def test_answers_304_to_who_has_it(self, form: str) -> None:
        """Without a body and with the tag."""
        tag = tagged(a_request(), {"a": 1}).headers["ETag"]

        answer = tagged(a_request(if_none_match=form.format(tag)), {"a": 1})

        assert (answer.status_code, answer.get_data(), answer.headers["ETag"]) == (304, b"", tag)

    def test_answers_in_full_to_who_has_another(self) -> None:
        """And to anything that is not a read."""
        tag = tagged(a_request(), {"a": 1}).headers["ETag"]

        assert tagged(a_request(if_none_match='"x"'), {"a": 1}).status_code == 200
        assert tagged(a_request(if_none_match=tag, method="POST"), {"a": 1}).status_code == 200
        assert tagged(a_request(if_none_match=tag), {"a": 1}, status=201).status_code == 201


class TestReply:
    """An answer without one."""

    def test_has_no_body_without_a_payload(self) -> None:
        """As a 204 wants it."""
        assert reply(204).get_data() == b""
