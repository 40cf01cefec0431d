import base64
import hashlib
import hmac
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from services.chassis.auth import LONGEST_TOKEN, Caller, Principal, Stranger, denied_key, issue_token, verify_token
from services.chassis.errors import Forbidden, Unauthenticated

SECRET = "a-secret-of-more-than-thirty-two-bytes"
OTHER_SECRET = "another-secret-of-more-than-thirty-two"
CONFIG: dict[str, Any] = {"JWT_SECRET": SECRET, "JWT_ISSUER": "oms", "JWT_AUDIENCE": "oms-api"}


def now() -> datetime:
    """The time, in the whole seconds that a token carries."""
    return datetime.now(UTC).replace(microsecond=0)


def a_principal(**changes: Any) -> Principal:
    """A customer with a token of a quarter of an hour."""
    principal = Principal(
        user_id=uuid4(), role="customer", jti=uuid4(), family=uuid4(), expires_at=now() + timedelta(minutes=15)
    )
    return replace(principal, **changes)


def some_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a right token; those changed to None are left out."""
    claims = {
        "iss": "oms",
        "aud": "oms-api",
        "sub": str(uuid4()),
        "role": "customer",
        "jti": str(uuid4()),
        "fam": str(uuid4()),
        "iat": now(),
        "nbf": now(),
        "exp": now() + timedelta(minutes=15),
    } | changes
    return {name: claim for name, claim in claims.items() if claim is not None}


def a_token(claims: dict[str, Any] | None = None, *, secret: str = SECRET, alg: str = "HS256", **header: Any) -> str:
    """These claims, signed."""
    return jwt.encode(claims or some_claims(), secret, alg, headers={"typ": "at+jwt"} | header)


def signed(header: str, payload: str) -> str:
    """Whatever was given, with a right HS256 signature: what a library would refuse to write."""
    body = b".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, payload))
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def refusal_of(token: object, **config: Any) -> str:
    """The code with which the token is refused, having seen that the refusal quotes nothing."""
    with pytest.raises(Unauthenticated) as caught:
        verify_token(token, CONFIG | config)
    assert not (isinstance(token, str) and token and token in str(caught.value))
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code


class TestAnIssuedToken:
    """A token made by issue_token."""

    def test_proves_its_principal(self) -> None:
        """What was put in comes out."""
        principal = a_principal(role="staff")

        assert verify_token(issue_token(principal, now(), CONFIG), CONFIG) == principal

    def test_is_an_access_token_signed_with_hs256(self) -> None:
        """The header is what RFC 9068 asks for."""
        header = jwt.get_unverified_header(issue_token(a_principal(), now(), CONFIG))

        assert header == {"alg": "HS256", "typ": "at+jwt"}

    def test_survives_a_change_of_secret_while_the_old_one_is_configured(self) -> None:
        """Rotation logs nobody out."""
        token = issue_token(a_principal(), now(), CONFIG)
        rotated = {"JWT_SECRET": OTHER_SECRET}

        assert verify_token(token, CONFIG | rotated | {"JWT_SECRET_PREVIOUS": SECRET})
        assert refusal_of(token, **rotated) == "token_invalid"
        assert refusal_of(token, **rotated, JWT_SECRET_PREVIOUS="") == "token_invalid"


class TestVerifyToken:
    """What verify_token lets through, and why not the rest."""

    @pytest.mark.parametrize("token", [None, ""])
    def test_names_a_missing_token(self, token: object) -> None:
        """A client learns that it sent none."""
        assert refusal_of(token) == "token_missing"

    def test_names_an_expired_token(self) -> None:
        """A client learns that a refresh helps."""
        past = some_claims(iat=now() - timedelta(hours=1), nbf=now() - timedelta(hours=1), exp=now() - timedelta(0, 9))

        assert refusal_of(a_token(past)) == "token_expired"

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"iat": datetime.now(UTC) + timedelta(hours=1)}, id="issued in the future"),
            pytest.param({"nbf": datetime.now(UTC) + timedelta(hours=1)}, id="not valid yet"),
            pytest.param({"exp": datetime.now(UTC) + timedelta(days=2)}, id="lives for days"),
            pytest.param({"iat": 0}, id="lives for decades"),
            pytest.param({"exp": str(int(datetime.now(UTC).timestamp()) + 36_000)}, id="expiry as text"),
            pytest.param({"exp": 10**30}, id="expiry beyond time"),
            pytest.param({"exp": float("inf")}, id="expiry infinite"),
            pytest.param({"iat": True}, id="a truth for a time"),
            pytest.param({"iss": "somebody"}, id="other issuer"),
            pytest.param({"aud": "another-api"}, id="other audience"),
            pytest.param({"aud": ["oms-api", "another-api"]}, id="audience in a list"),
            pytest.param({"sub": "root"}, id="subject is no UUID"),
            pytest.param({"sub": 7}, id="subject is a number"),
            pytest.param({"sub": f"{{{uuid4()}}}"}, id="subject in braces"),
            pytest.param({"jti": str(UUID(int=2**128 - 1)).upper()}, id="id in capitals"),
            pytest.param({"fam": ["x"]}, id="family is a list"),
            pytest.param({"role": "root"}, id="unknown role"),
            pytest.param({"role": ["admin"]}, id="role in a list"),
            pytest.param({"role": {}}, id="role is an object"),
        ],
    )
    def test_refuses_a_claim_that_is_not_as_it_should_be(self, changes: dict[str, Any]) -> None:
        """Every claim is looked at."""
        assert refusal_of(a_token(some_claims(**changes))) == "token_invalid"

    @pytest.mark.parametrize("claim", ["iss", "aud", "sub", "role", "jti", "fam", "iat", "nbf", "exp"])
    def test_refuses_a_token_without(self, claim: str) -> None:
        """No claim is optional."""
        assert refusal_of(a_token(some_claims(**{claim: None}))) == "token_invalid"

    @pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": None}, {"typ": "rt+jwt"}, {"typ": ["at+jwt"]}])
    def test_refuses_another_type(self, header: dict[str, Any]) -> None:
        """A token made for something else proves nothing here."""
        token = signed(json.dumps({"alg": "HS256"} | header), json.dumps(plain(some_claims())))

        assert refusal_of(token) == "token_invalid"

    def test_refuses_an_unsigned_token(self) -> None:
        """Alg none, in any spelling, and a stripped signature."""
        claims = json.dumps(plain(some_claims()))
        stripped = a_token().rpartition(".")[0] + "."
        unsigned = jwt.encode(some_claims(), None, "none", headers={"typ": "at+jwt"})  # type: ignore[arg-type]

        assert refusal_of(unsigned) == "token_invalid"
        assert refusal_of(signed('{"alg":"nOnE","typ":"at+jwt"}', claims)) == "token_invalid"
        assert refusal_of(stripped) == "token_invalid"

    @pytest.mark.parametrize("alg", ["HS384", "HS512"])
    def test_refuses_another_algorithm(self, alg: str) -> None:
        """Even one of the same kind with the right secret."""
        assert refusal_of(a_token(secret=SECRET * 2, alg=alg)) == "token_invalid"
        assert refusal_of(a_token(secret=SECRET * 2, alg=alg), JWT_SECRET=SECRET * 2) == "token_invalid"

    def test_refuses_a_forged_token(self) -> None:
        """Another's secret, or a payload changed under a right signature."""
        head, payload, mac = a_token().split(".")
        admin = base64.urlsafe_b64encode(json.dumps(plain(some_claims(role="admin"))).encode()).rstrip(b"=").decode()

        assert refusal_of(a_token(secret=OTHER_SECRET)) == "token_invalid"
        assert refusal_of(f"{head}.{admin}.{mac}") == "token_invalid"
        assert refusal_of(f"{head}.{payload}.{mac[::-1]}") == "token_invalid"

    def test_refuses_an_unknown_critical_header(self) -> None:
        """RFC 7515: what is marked critical and not understood refuses the token."""
        assert refusal_of(a_token(crit=["b64x"], b64x=False)) == "token_invalid"

    @pytest.mark.parametrize(
        "token",
        [
            "x",
            "a.b.c",
            "....",
            "\x00",
            "tökén.a.b",
            "ey" * LONGEST_TOKEN,
            7,
            ["a.b.c"],
            {"token": "x"},
            b"a.b.c",
            signed("[]", "{}"),
            signed('{"alg":"HS256","typ":"at+jwt"}', "[]"),
            signed('{"alg":"HS256","typ":"at+jwt"}', "[" * 600),
            signed('{"alg":"HS256","typ":"at+jwt"}', '{"exp":NaN}'),
        ],
    )
    def test_refuses_what_is_no_token(self, token: object) -> None:
        """Anything at all may arrive in a context header."""
        assert refusal_of(token) == "token_invalid"

    def test_bounds_the_length_before_decoding(self) -> None:
        """A right token grown too long is refused as well."""
        assert refusal_of(a_token(some_claims(pad="x" * LONGEST_TOKEN))) == "token_invalid"


class TestPrincipal:
    """What a role allows."""

    @pytest.mark.parametrize(
        ("role", "is_staff", "is_admin"), [("customer", False, False), ("staff", True, False), ("admin", True, True)]
    )
    def test_knows_what_its_role_includes(self, role: str, is_staff: bool, is_admin: bool) -> None:  # noqa: FBT001
        """Admin includes staff."""
        principal = a_principal(role=role)

        assert (principal.is_staff, principal.is_admin) == (is_staff, is_admin)

    def test_may_see_what_is_its_own(self) -> None:
        """And as staff what is anybody's, also where nobody knows whose it is."""
        customer, staff = a_principal(role="customer"), a_principal(role="staff")

        assert [customer.may_see(owner) for owner in (customer.user_id, uuid4(), None)] == [True, False, False]
        assert [staff.may_see(owner) for owner in (customer.user_id, None)] == [True, True]

    def test_requires_a_role(self) -> None:
        """Require is silent for enough and Forbidden for too little."""
        a_principal(role="admin").require("staff")

        with pytest.raises(Forbidden) as caught:
            a_principal(role="customer").require("staff")
        assert caught.value.code == "role_required"


class TestCaller:
    """What an entrypoint finds under ``self.caller``."""

    def caller(self, data: dict[str, Any]) -> Principal:
        """The caller of a call with this context."""
        provider = Caller()
        provider.container = SimpleNamespace(config=CONFIG)
        return provider.get_dependency(SimpleNamespace(data=data))

    def test_is_the_principal_of_the_call(self) -> None:
        """The token of the call's context counts."""
        principal = a_principal()

        assert self.caller({"auth_token": issue_token(principal, now(), CONFIG)}) == principal

    @pytest.mark.parametrize(
        ("data", "code"),
        [({}, "token_missing"), ({"auth_token": "x"}, "token_invalid"), ({"auth_token": []}, "token_missing")],
    )
    def test_is_a_stranger_without_a_valid_token(self, data: dict[str, Any], code: str) -> None:
        """Whatever is asked of a stranger raises, and says why."""
        stranger = self.caller(data)

        for name in [*(field.name for field in fields(Principal)), "is_staff", "is_admin"]:
            with pytest.raises(Unauthenticated) as caught:
                getattr(stranger, name)
            assert caught.value.code == code
        with pytest.raises(Unauthenticated):
            stranger.require("customer")

    def test_can_be_shown_and_compared_as_a_stranger(self) -> None:
        """A log line or a set does not raise."""
        stranger = Stranger(Unauthenticated("token_missing", "No."))

        assert repr(stranger) == "Stranger('token_missing')"
        assert stranger != a_principal()
        assert len({stranger}) == 1


def test_denied_key_names_the_token() -> None:
    """The gateway and users agree on one spelling."""
    assert denied_key(UUID(int=1)) == "denied:00000000-0000-0000-0000-000000000001"


def plain(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims as JSON can write them."""
    return {name: int(claim.timestamp()) if isinstance(claim, datetime) else claim for name, claim in claims.items()}
