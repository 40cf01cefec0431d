"""What the doctor says, where it looks, and what its checks of one order make of it."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cli import doctor
from cli.databases import DATABASES
from cli.doctor_orders import CHECKS, find_orphans, find_wrong_charge, find_wrong_payment, find_wrong_stock
from cli.doctor_places import TOLD_DATABASES, Places, find_operator_url, find_places, mailbox_of
from cli.doctor_reading import NEVER, Dossier
from cli.doctor_report import MOST_KEPT, Check, Report
from cli.servers.endpoints import Management
from cli.trouble import Trouble
from services.chassis.invariants import Invariant, amount

CHECK = Check("a.check", "Everything is as it must be.")


def a_report(*, findings: int = 0) -> Report:
    """A report of one check with that many findings."""
    report = Report()
    report.begin(CHECK)
    for number in range(findings):
        report.add(CHECK, f"order {number} is wrong.", order_id=str(number))
    return report


class TestReport:
    """What is printed."""

    def test_says_that_all_is_well(self) -> None:
        """In one line."""
        assert a_report().as_text() == "All 1 checks hold over 0 orders."

    def test_names_the_check_and_what_breaks_it(self) -> None:
        """And how often."""
        text = a_report(findings=2).as_text()

        assert "WRONG  a.check  (2)" in text
        assert "order 1 is wrong." in text
        assert text.endswith("1 of 1 checks are broken over 0 orders.")

    def test_keeps_a_bounded_number(self) -> None:
        """And counts the rest."""
        report = a_report(findings=MOST_KEPT + 5)

        assert (report.counts["a.check"], len(list(report.findings()))) == (MOST_KEPT + 5, MOST_KEPT)

    def test_is_json_for_a_program(self) -> None:
        """With every check, broken or not."""
        document = json.loads(a_report(findings=1).as_json())

        assert (document["healthy"], document["checks"][0]["findings"][0]["orderId"]) == (False, "0")


class TestAmount:
    """Cents as people write them."""

    @pytest.mark.parametrize(("cents", "text"), [(0, "0.00"), (5, "0.05"), (4200, "42.00"), (-105, "-1.05")])
    def test_has_two_decimals(self, cents: int, text: str) -> None:
        """Below zero too."""
        assert amount(cents) == text


class TestInvariants:
    """The queries of the services."""

    def test_have_names_and_sentences_of_their_own(self) -> None:
        """No two checks are called the same."""
        inside: list[Invariant] = [each for invariants in doctor.INSIDE.values() for each in invariants]
        checks = [*CHECKS, *(Check(each.name, each.sentence) for each in inside)]

        assert len(checks) == len({check.name for check in checks})
        assert all(check.sentence.endswith(".") for check in checks)


class TestDossier:
    """All that is known of one order."""

    def test_of_nothing_was_never_touched(self) -> None:
        """Nobody can say when."""
        assert Dossier(str(uuid4())).age == NEVER

    def test_is_as_young_as_its_youngest_part(self) -> None:
        """Whoever touched it last."""
        assert Dossier("1", order={"age": 70.0}, payment={"age": 3.0}).age == 3.0

    def test_of_a_pending_order_is_not_judged(self) -> None:
        """It is still under way."""
        dossier = Dossier("1", order={"status": "Pending", "total_cents": 1, "currency": "EUR"})

        assert [*find_wrong_stock(dossier), *find_wrong_payment(dossier), *find_wrong_charge(dossier)] == []

    def test_without_an_order_may_hold_nothing(self) -> None:
        """What was given back is no harm."""
        assert list(find_orphans(Dossier("1", reservation={"status": "released", "user_id": "u"}))) == []
        ((text, row),) = find_orphans(Dossier("1", reservation={"status": "reserved", "user_id": "u"}))
        assert text == "there is no order 1, but for it stock is reserved."
        assert row["user_id"] == "u"


class TestPlaces:
    """Where the doctor looks."""

    def write(self, folder: Path, name: str, text: str) -> None:
        """An environment file."""
        (folder / name).write_text(text)

    def test_are_read_from_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As ``./oms up`` writes them; the management API is asked as the operator."""
        monkeypatch.delenv("OMS_OPERATOR_URL", raising=False)
        for service in ("users", "orders", "inventory", "payments"):
            self.write(tmp_path, service, f"DATABASE_URL=postgresql+psycopg2://{service}@h/d\n")
        self.write(tmp_path, "notifications", f"MAILBOX_DIR='{tmp_path}'\n")
        self.write(tmp_path, "operator", "AMQP_URI=amqp://operator:x@broker/\nMANAGEMENT_URL=http://broker:15672\n")

        places = find_places(tmp_path)

        assert places.database_urls["payments"] == "postgresql+psycopg2://payments@h/d"
        assert (places.operator_url, places.mailbox) == ("amqp://operator:x@broker/", tmp_path)
        assert places.management == Management("http://broker:15672", "operator", "x")

    def test_are_read_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As containers are told; files of another cluster count for more."""
        told = {name: f"postgresql+psycopg2://{service}@h/d" for service, name in TOLD_DATABASES.items()}
        told |= {"OMS_OPERATOR_URL": "amqp://operator:x%2Fy@broker/oms", "OMS_RABBITMQ_MANAGEMENT_URL": "http://b:1/"}
        for name, value in {**told, "MAILBOX_DIR": "", "SMTP_URL": ""}.items():
            monkeypatch.setenv(name, value)

        places = find_places(None)

        assert places.database_urls == {s: f"postgresql+psycopg2://{s}@h/d" for s in DATABASES}
        assert places.management == Management("http://b:1", "operator", "x/y")
        assert places.mailbox is None
        assert find_operator_url(None) == places.operator_url
        with pytest.raises(Trouble, match="There is no /nowhere/operator"):
            find_operator_url(Path("/nowhere"))

    def test_in_the_environment_are_there_for_every_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that is missing is named."""
        monkeypatch.setenv("OMS_OPERATOR_URL", "amqp://operator@b/")
        monkeypatch.delenv("OMS_USERS_DATABASE_URL", raising=False)

        with pytest.raises(Trouble, match="The environment does not say OMS_USERS_DATABASE_URL"):
            find_places(None)

    def test_say_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what to do."""
        monkeypatch.setenv("OMS_STATE", str(tmp_path))
        monkeypatch.delenv("OMS_OPERATOR_URL", raising=False)
        with pytest.raises(Trouble, match=r"There is no .*operator\. Start a cluster"):
            find_operator_url(None)
        self.write(tmp_path, "operator", "AMQP_URI='amqp://op")
        with pytest.raises(Trouble, match="half written"):
            find_operator_url(tmp_path)
        self.write(tmp_path, "operator", "OTHER=1\n")
        with pytest.raises(Trouble, match="does not say AMQP_URI"):
            find_operator_url(tmp_path)

    def test_have_no_mailbox_when_mails_leave_by_smtp(self, tmp_path: Path) -> None:
        """They are in no book."""
        assert mailbox_of({"MAILBOX_DIR": str(tmp_path), "SMTP_URL": "smtp://h"}) is None
        assert mailbox_of({}) is None


class TestRun:
    """The exit code, and looking again."""

    def args(self, **values: object) -> argparse.Namespace:
        """The arguments as they are read."""
        usual = {"json": False, "watch": None, "repair": False, "yes": False, "env": None, "quiet_seconds": 60}
        return argparse.Namespace(**{**usual, **values})

    @pytest.mark.parametrize("findings", [0, 1])
    def test_exits_with_one_when_something_is_wrong(self, monkeypatch: pytest.MonkeyPatch, findings: int) -> None:
        """Else with zero."""
        monkeypatch.setattr(doctor, "find_places", lambda _: Places({}))
        monkeypatch.setattr(doctor, "examine", lambda *_: a_report(findings=findings))

        assert doctor.run(self.args()) == findings

    def test_watches_through_trouble(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A database that is away for a while ends nothing."""
        looks: Iterator[Trouble | Report] = iter([Trouble("PostgreSQL cannot be read."), a_report()])

        def examine(*_: object) -> Report:
            look = next(looks, None)
            if look is None:
                raise KeyboardInterrupt
            if isinstance(look, Trouble):
                raise look
            return look

        monkeypatch.setattr(doctor, "find_places", lambda _: Places({}))
        monkeypatch.setattr(doctor, "examine", examine)

        with pytest.raises(KeyboardInterrupt):
            doctor.run(self.args(watch=0.01))

        printed = capsys.readouterr()
        assert "oms: PostgreSQL cannot be read." in printed.err
        assert "All 1 checks hold" in printed.out
