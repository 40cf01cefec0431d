"""What the server answers to good requests and to those that two servers could read in two ways."""

from contextlib import closing

import pytest
import requests

from tests.integration.gateway.door import Door, check_problem, everything, one_answer
from tests.support.until import eventually

ITEM = "/echo/6f1e6a42-5c3b-4a3e-9d5b-0a4f3f1f2b11"
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST + JSON
CLOSE = b"Connection: close\r\n"


class TestRefusedFraming:
    """A request that is not one of HTTP/1.1."""

    @pytest.mark.parametrize(
        ("request_bytes", "status", "code"),
        [
            (b"GET /echo HTTP/1.1\r\n\r\n", 400, "bad_host"),
            (b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "repeated_header"),
            (b"GET /echo HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "bad_host"),
            (b"GET /echo HTTP/1.1\r\nHost: \r\n\r\n", 400, "bad_host"),
            (b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_host"),
            (b"GET /echo\r\n\r\n", 400, "bad_request_line"),
            (b"GET  /echo HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
            (b"GET /echo HTTP/2.0\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
            (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
            (b"GET /echo HTTP/1.1\nHost: a\n\n", 400, "bad_request_line"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request_line"),
            (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b" folded: x\r\n\r\n", 400, "bad_header"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A : x\r\n\r\n", 400, "bad_header"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A: \x00\r\n\r\n", 400, "bad_header"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A: a\nB: b\r\n\r\n", 400, "bad_header"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", 400, "bad_header"),
            (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "repeated_header"),
            (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Content-Length: +2\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Content-Length: -2\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Transfer-Encoding: gzip\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Transfer-Encoding: xchunked\r\n\r\n{}", 400, "bad_framing"),
            (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "repeated_header"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "bad_framing"),
            (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
            (POST + b"Expect: magic\r\n\r\n", 417, "expectation_failed"),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
            (b"GET /echo HTTP/1.1\r\n" + HOST + b"A: %s\r\n" % (b"b" * 8000) * 5 + b"\r\n", 431, "headers_too_large"),
        ],
    )
    def test_is_told_why_and_closed(self, door: Door, request_bytes: bytes, status: int, code: str) -> None:
        """In a problem document, whatever it was."""
        answer = door.raw(request_bytes)

        assert (answer.status, answer.problem["code"]) == (status, code), answer.received
        assert answer.headers["connection"] == "close"

    def test_leaves_no_second_request_behind(self, door: Door) -> None:
        """What follows a refused request is not taken for another one."""
        answer = door.raw(
            POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /context HTTP/1.1\r\n"
        )

        assert answer.received.count(b"HTTP/1.1 ") == 1


class TestRefusedRequest:
    """A request that is well-formed and cannot be answered."""

    @pytest.mark.parametrize(
        "path", ["/", "/nowhere", "/echo/", "//echo", "/echo/1", "/%00", "/..%2f", "/echo/%ff", "/*"]
    )
    def test_is_404_where_there_is_nothing(self, door: Door, path: str) -> None:
        """Without a redirect, a page, or what was asked for in the sentence."""
        answer = requests.get(door.url + path + "?secret=value", allow_redirects=False, timeout=5)

        assert answer.status_code == (405 if path == "//echo" else 404)
        check_problem(answer.json(), answer.status_code, answer.headers)
        assert "secret" not in answer.text

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "/echo", "POST"),
            ("TRACE", "/echo", "POST"),
            ("OPTIONS", "/echo", "POST"),
            ("POST", ITEM, "GET, HEAD"),
            ("PUT", "/healthz", "GET, HEAD"),
        ],
    )
    def test_is_405_where_the_method_is_wrong(self, door: Door, method: str, path: str, allowed: str) -> None:
        """And says which are right."""
        answer = requests.request(method, door.url + path, timeout=5)

        check_problem(answer.json(), 405, answer.headers)
        assert answer.headers["Allow"] == allowed

    def test_is_415_without_json(self, door: Door) -> None:
        """A form of another site gets nowhere."""
        answer = requests.post(f"{door.url}/echo", data={"a": "b"}, timeout=5)

        check_problem(answer.json(), 415, answer.headers)

    @pytest.mark.parametrize("body", [b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}'])
    def test_is_400_for_json_that_is_none(self, door: Door, body: bytes) -> None:
        """The unit tests know them all."""
        answer = requests.post(f"{door.url}/echo", data=body, headers={"Content-Type": "application/json"}, timeout=5)

        check_problem(answer.json(), 400, answer.headers)
        assert answer.json()["code"] == "malformed_json"

    def test_is_500_for_a_bug_and_logged_once(self, door: Door) -> None:
        """The client learns the id under which the log has the rest."""
        answer = requests.get(f"{door.url}/broken", headers={"X-Request-Id": "find-me"}, timeout=5)

        check_problem(answer.json(), 500, answer.headers)
        assert "canary" not in answer.text
        eventually(lambda: any(line["event"] == "http_request" for line in door.lines()))
        bugs = [line for line in door.lines() if "canary-secret" in line.get("exception", "")]
        assert [line["correlation_id"] for line in bugs] == ["find-me"]

    def test_is_what_the_error_says(self, door: Door) -> None:
        """Kinds and their further members come through a worker."""
        conflict, away, late = (requests.get(door.url + path, timeout=5) for path in ("/conflict", "/away", "/late"))

        check_problem(conflict.json(), 409, conflict.headers)
        assert (conflict.json()["from"], conflict.json()["allowed"]) == ("Shipped", [])
        check_problem(away.json(), 503, away.headers)
        assert away.headers["Retry-After"] == "3"
        check_problem(late.json(), 504, late.headers)


class TestAnswer:
    """What every answer has."""

    def test_has_the_usual_headers(self, door: Door) -> None:
        """On what succeeds as on what does not."""
        answer = requests.get(door.url + ITEM, timeout=5)

        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_takes_request_id_token_and_trace_along(self, door: Door) -> None:
        """Into the context that travels with each RPC."""
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        headers = {"X-Request-Id": "mine", "Authorization": "Bearer t.o.k", "traceparent": trace}

        answer = requests.get(f"{door.url}/context", headers=headers, timeout=5)

        assert answer.headers["X-Request-Id"] == "mine"
        context = answer.json()
        assert (context["correlation_id"], context["auth_token"], context["traceparent"]) == ("mine", "t.o.k", trace)

    def test_is_304_to_who_has_it(self, door: Door) -> None:
        """And costs no body."""
        tag = requests.get(door.url + ITEM, timeout=5).headers["ETag"]

        answer = requests.get(door.url + ITEM, headers={"If-None-Match": tag}, timeout=5)

        assert (answer.status_code, answer.content) == (304, b"")

    def test_to_head_is_that_to_get_without_a_body(self, door: Door) -> None:
        """Same status, same length, same tag."""
        get, head = requests.get(door.url + ITEM, timeout=5), requests.head(door.url + ITEM, timeout=5)

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["ETag"] == get.headers["ETag"]
        assert head.headers["Content-Length"] == get.headers["Content-Length"]

    def test_is_logged_in_one_line_without_what_is_private(self, door: Door) -> None:
        """Route template, not path; no query, no token, no body."""
        headers = {"X-Request-Id": "one-line", "Authorization": "Bearer canary-token"}

        requests.get(f"{door.url}{ITEM}?q=canary-query", headers=headers, timeout=5)

        eventually(lambda: any(line.get("correlation_id") == "one-line" for line in door.lines()))
        lines = [line for line in door.lines() if line.get("correlation_id") == "one-line"]
        assert len(lines) == 1
        assert lines[0]["route"] == "/echo/<uuid:item_id>"
        assert (lines[0]["method"], lines[0]["status"]) == ("GET", 200)
        assert "canary-token" not in door.log.read_text()
        assert "canary-query" not in door.log.read_text()


class TestConnection:
    """One connection, several requests."""

    def test_stays_open_for_the_next_request(self, door: Door) -> None:
        """Bodies of either kind are read to their end."""
        with closing(door.connect()) as connection:
            for body in (
                b"Content-Length: 9\r\n\r\n" + b'{"a": 1.5',
                b"Transfer-Encoding: chunked\r\n\r\n3\r\n{} \r\n0\r\n\r\n",
            ):
                connection.sendall(POST + body)
                assert one_answer(connection).status in (201, 400)
            connection.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
            last = everything(connection)

        assert last.startswith(b"HTTP/1.1 200")

    def test_answers_pipelined_requests_in_order(self, door: Door) -> None:
        """Two in one packet."""
        first = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"

        answer = door.raw(first + b"GET /nowhere HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")

        assert answer.received.index(b" 200 ") < answer.received.index(b" 404 ")

    def test_of_http_1_0_is_closed(self, door: Door) -> None:
        """And needs no Host."""
        answer = door.raw(b"GET /healthz HTTP/1.0\r\n\r\n")

        assert (answer.status, answer.headers["connection"]) == (200, "close")

    def test_continues_who_waits_for_it(self, door: Door) -> None:
        """``Expect: 100-continue`` gets its 100 and then its answer."""
        with closing(door.connect()) as connection:
            connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE + b"\r\n")
            assert one_answer(connection).status == 100
            connection.sendall(b"{}")
            assert everything(connection).startswith(b"HTTP/1.1 201")

    def test_takes_a_whole_url_and_an_empty_line_first(self, door: Door) -> None:
        """Both stand in RFC 9112."""
        answer = door.raw(b"\r\nGET http://localhost/healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")

        assert answer.status == 200
