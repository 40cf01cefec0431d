from typing import Any

import pytest

from services.chassis.errors import InvalidInput
from services.users.schemas import ACCOUNT_CHANGE, CREDENTIALS, REGISTRATION, common_passwords

GOOD = {"email": "ann@example.com", "password": "seven green kettles"}


def pointers(body: dict[str, Any]) -> list[str]:
    """The fields that are refused."""
    with pytest.raises(InvalidInput) as refused:
        REGISTRATION.read(body)
    return sorted(each["pointer"] for each in refused.value.extra["errors"])


class TestRegistration:
    """What an account may be made of."""

    @pytest.mark.parametrize(
        "email",
        [
            "a@b.co",
            "first.last+tag@sub.example.com",
            "o'neil@example.com",
            "x" * 64 + "@example.com",
            "a@xn--bcher-kva.de",
        ],
    )
    def test_takes_an_address_as_people_have_them(self, email: str) -> None:
        """As it is written, without the spaces around it."""
        assert REGISTRATION.read(GOOD | {"email": f" {email} "})["email"] == email

    @pytest.mark.parametrize(
        "email",
        [
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "ann@@example.com",
            "ann@exa mple.com",
            "ann..lee@example.com",
            ".ann@example.com",
            "ann@-example.com",
            "ann@example.c",
            "ann@example.com\nBcc: everybody@example.com",
            "ann@example.com\x00",
            "änn@example.com",
            '"a b"@example.com',
            "ann@[127.0.0.1]",
            "x" * 65 + "@example.com",
            "a@" + "b" * 250 + ".com",
            "",
            None,
            7,
            ["ann@example.com"],
            "\ud800@example.com",
        ],
    )
    def test_refuses_what_nobody_could_write_to(self, email: Any) -> None:
        """One complaint, about the address."""
        assert pointers(GOOD | {"email": email}) == ["/email"]

    @pytest.mark.parametrize(
        "password", ["12345678x", " spaces  count ", "пароль-длинный", "x" * 127 + "y", "🫖🫖🫖🫖🫖🫖🫖🫖"]
    )
    def test_takes_any_password_that_is_not_weak(self, password: str) -> None:
        """Nothing is trimmed, any letters do."""
        assert REGISTRATION.read(GOOD | {"password": password})["password"] == password

    @pytest.mark.parametrize(
        "password",
        [
            "short12",
            "x" * 129,
            "Password123",
            "QWERTZUIOP",
            "ann@example.com",
            "tab\tinside it",
            "nul\x00inside it",
            None,
            12345678,
            "\ud800" * 9,
        ],
    )
    def test_refuses_a_weak_password(self, password: Any) -> None:
        """Too short, too long, guessed first, the address itself, or nothing one could type."""
        assert pointers(GOOD | {"password": password}) == ["/password"]

    def test_never_quotes_a_password(self) -> None:
        """Not even one that is refused."""
        with pytest.raises(InvalidInput) as refused:
            REGISTRATION.read(GOOD | {"password": "correcthorsebatterystaple"})
        assert "correcthorsebatterystaple" not in repr(refused.value.args)

    def test_takes_composed_and_decomposed_letters_for_one_password(self) -> None:
        """Keyboards differ (RFC 8265)."""
        composed, decomposed = "caf\u00e9 au lait", "cafe\u0301 au lait"

        assert CREDENTIALS.read(GOOD | {"password": decomposed}) == CREDENTIALS.read(GOOD | {"password": composed})

    @pytest.mark.parametrize(
        "phone", ["015112345678", "+0151123456", "+49 151 1234567", "+123456", "+1234567890123456", "+49151x234567"]
    )
    def test_refuses_a_number_that_is_not_e164(self, phone: str) -> None:
        """A plus, a country and up to fifteen digits."""
        assert pointers(GOOD | {"phone": phone}) == ["/phone"]

    def test_lists_every_broken_rule_at_once(self) -> None:
        """A form shows them all."""
        body = {"email": "x", "password": "password", "firstName": "a\nb", "phone": "1234567890", "role": "admin"}

        assert pointers(body) == ["/email", "/firstName", "/password", "/phone", "/role"]

    def test_takes_null_for_what_is_not_said(self) -> None:
        """A client may send every field."""
        assert REGISTRATION.read(GOOD | {"phone": None, "firstName": None})["phone"] is None


class TestAccountChange:
    """What an administrator may change."""

    @pytest.mark.parametrize(
        "body",
        [
            {"role": "root"},
            {"role": None},
            {"active": "yes"},
            {"active": None},
            {"email": "x@example.com"},
            {"role": ["admin"]},
            [],
        ],
    )
    def test_refuses_anything_else(self, body: Any) -> None:
        """Roles are three, and true is true."""
        with pytest.raises(InvalidInput):
            ACCOUNT_CHANGE.read(body)

    def test_leaves_out_what_is_not_said(self) -> None:
        """None means: as it is."""
        assert ACCOUNT_CHANGE.read({"active": False}) == {"role": None, "active": False}


def test_common_passwords_are_long_enough_to_matter() -> None:
    """Shorter ones are refused anyway; all are in the case they are compared in."""
    assert len(common_passwords()) > 300
    assert all(len(each) >= 8 and each == each.casefold() for each in common_passwords())
