"""Entity tags, and whom they let write."""

import pytest

from services.chassis import wire
from services.chassis.errors import Conflict
from services.chassis.problems import refusal_of
from services.chassis.tags import entity_tag, names, require_match

VIEW = {"id": "1", "status": "Pending"}
TAG = entity_tag(wire.encode(VIEW))
OTHER = entity_tag(b"something else")


class TestEntityTag:
    """The name of a representation."""

    def test_is_strong_and_quoted(self) -> None:
        """Sixteen bytes in hexadecimal."""
        assert TAG.strip('"').isalnum()
        assert (len(TAG), TAG[0], TAG[-1]) == (34, '"', '"')

    def test_names_exactly_these_bytes(self) -> None:
        """The same ones have the same name, others another."""
        assert entity_tag(wire.encode(dict(VIEW))) == TAG != entity_tag(wire.encode({**VIEW, "status": "Shipped"}))


class TestCondition:
    """What a client says it knows."""

    @pytest.mark.parametrize("condition", [TAG, "*", f"{OTHER}, {TAG}", f" {TAG} ,{OTHER}"])
    def test_names_a_tag(self, condition: str) -> None:
        """Alone, among others, or as anything."""
        assert names(condition, TAG)

    @pytest.mark.parametrize("condition", [OTHER, "", ",", TAG.strip('"'), '"*"', f"W/{OTHER}", "nonsense"])
    def test_names_another(self, condition: str) -> None:
        """Whatever is not the tag."""
        assert not names(condition, TAG)
        assert not names(condition, TAG, weakly=True)

    def test_is_weak_only_for_reading(self) -> None:
        """A weak tag may spare a download, but never allows a write."""
        assert names(f"W/{TAG}", TAG, weakly=True)
        assert not names(f"W/{TAG}", TAG)


class TestRequireMatch:
    """Whom it lets write."""

    @pytest.mark.parametrize("if_match", [None, "*", TAG])
    def test_lets_pass_who_knows_it_or_says_nothing(self, if_match: str | None) -> None:
        """No error."""
        require_match(if_match, VIEW)

    @pytest.mark.parametrize("if_match", [OTHER, "", f"W/{TAG}"])
    def test_stops_who_knows_something_else(self, if_match: str) -> None:
        """With the one conflict that is a 412."""
        with pytest.raises(Conflict) as stopped:
            require_match(if_match, VIEW)

        assert (stopped.value.code, refusal_of(stopped.value).status) == ("precondition_failed", 412)
