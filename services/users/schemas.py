"""What users' RPC methods take and return."""

import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

from marshmallow import ValidationError, fields, validate, validates_schema

from services.chassis.errors import NotFound
from services.chassis.schema import Instant, Schema, Text, read_id
from services.users.models import Role

SHORTEST_PASSWORD: Final = 8
LONGEST_PASSWORD: Final = 128
LONGEST_REFRESH_TOKEN: Final = 256

EMAIL: Final = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)"
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])\Z"
)
"""The dot-atom form of RFC 5321 with a domain of at least two labels: what mail servers really take."""

PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z")


@cache
def common_passwords() -> frozenset[str]:
    """Passwords that are tried first by whoever guesses, in lower case."""
    listed = files("services.users").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in listed.splitlines() if line and not line.startswith("#"))


class Password(fields.String):
    """A password as RFC 8265 compares it: nothing trimmed, composed characters, no control characters."""

    default_error_messages = {"control": "Must not contain control characters."}  # noqa: RUF012 - marshmallow's own way

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        password = unicodedata.normalize("NFC", super()._deserialize(value, attr, data, **kwargs) or "")
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in password):
            raise self.make_error("control")
        return password


class Registration(Schema):
    """Who wants an account."""

    email = Text(3, 254, required=True, metadata={"format": "email"})
    password = Password(
        required=True,
        validate=validate.Length(SHORTEST_PASSWORD, LONGEST_PASSWORD),
        load_only=True,
        metadata={"description": "Neither the e-mail address nor one that is guessed first."},
    )
    first_name = Text(1, 100, allow_none=True)
    last_name = Text(1, 100, allow_none=True)
    phone = Text(8, 16, allow_none=True, metadata={"pattern": r"^\+[1-9][0-9]{6,14}$"})

    @validates_schema(skip_on_field_errors=False)
    def check(self, registration: dict[str, Any], **_: Any) -> None:
        """Refuse an address nobody could write to, and a password that is guessed first."""
        errors = {}
        email, phone = registration.get("email"), registration.get("phone")
        password = registration.get("password", "").casefold()
        if email is not None and not EMAIL.match(email):
            errors["email"] = ["Must be an e-mail address such as name@example.com."]
        if phone is not None and not PHONE.match(phone):
            errors["phone"] = ["Must be an international number such as +4915112345678."]
        if password in common_passwords() or (email and password == email.casefold()):
            errors["password"] = ["Is among the first that would be guessed."]
        if errors:
            raise ValidationError(errors)


class Credentials(Schema):
    """Who wants to log in. Of the address only the length matters: one without account is answered like any other."""

    email = Text(1, 254, required=True)
    password = Password(required=True, validate=validate.Length(1, LONGEST_PASSWORD), load_only=True)


class Refresh(Schema):
    """Who wants the next pair of tokens."""

    refresh_token = Text(1, LONGEST_REFRESH_TOKEN, required=True)


class AccountChange(Schema):
    """What an administrator changes."""

    role = fields.String(validate=validate.OneOf(list(Role)), load_default=None, allow_none=False)
    active = fields.Boolean(truthy={True}, falsy={False}, load_default=None, allow_none=False)


def read_user_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no account."""
    return read_id(text, NotFound("user_unknown", "There is no such account."))


def read_token_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no token."""
    return read_id(text, NotFound("token_unknown", "There is no such token."))


class SessionView(Schema):
    """A pair of tokens."""

    token = fields.String()
    token_type = fields.String()
    expires_in = fields.Integer()
    refresh_token = fields.String()
    user_id = fields.UUID()
    message = fields.String()


class UserView(Schema):
    """An account as its owner sees it."""

    id = fields.UUID()
    email = fields.String()
    user_name = fields.String()
    first_name = fields.String(allow_none=True)
    last_name = fields.String(allow_none=True)
    phone = fields.String(allow_none=True)
    role = fields.String(validate=validate.OneOf(list(Role)))
    created_at = Instant()


class AccountView(UserView):
    """An account as an administrator sees it."""

    active = fields.Boolean()


class ContactView(Schema):
    """Where mail for an account goes."""

    email = fields.String()
    phone = fields.String()
    first_name = fields.String()


REGISTRATION: Final = Registration()
CREDENTIALS: Final = Credentials()
REFRESH: Final = Refresh()
ACCOUNT_CHANGE: Final = AccountChange()
SESSION_VIEW: Final = SessionView()
USER_VIEW: Final = UserView()
ACCOUNT_VIEW: Final = AccountView()
CONTACT_VIEW: Final = ContactView()
