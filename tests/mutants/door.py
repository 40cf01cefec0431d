"""Mistakes in what customers meet: the mails, and who is let in."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

CLIENTS: Final = "services/notifications/clients.py"
MODELS: Final = "services/notifications/models.py"
SERVICE: Final = "services/notifications/service.py"

MAILS: Final = "tests/integration/notifications/test_notifications_service.py"
ENDPOINTS: Final = "tests/integration/gateway/test_gateway_endpoints.py::TestEndpoint"

MUTANTS: Final = (
    Mutant(
        name="mail-not-idempotent",
        mistake="The mailbox files each message under a new name.",
        cost="Whoever sends once more, because Redis forgot or a process died, mails once more.",
        killer=f"{MAILS}::TestEveryEvent::test_delivered_twice_is_one_mail[confirmed]",
        edits=(
            Edit(
                CLIENTS,
                "os.link(draft, self._path(message.order_id, message.kind, message.channel))",
                'os.link(draft, self.folder / message.channel / f"{message.order_id}.{message.kind}.{uuid4()}")',
            ),
        ),
    ),
    Mutant(
        name="mail-not-remembered",
        mistake="Nobody looks whether a message was sent.",
        cost="A mail server, which keeps no book, sends it as often as its event comes.",
        killer="tests/integration/notifications/test_mail_server.py::TestMailServer::test_gets_the_mail",
        edits=(
            Edit(SERVICE, "if notice is None or sent.was_sent(notice.order_id, notice.kind):", "if notice is None:"),
            Edit.drop(SERVICE, "not sent.was_sent(notice.order_id, *notice.kind.silenced_by) and "),
        ),
    ),
    Mutant(
        name="two-closing-mails",
        mistake="A failure and a cancellation are two kinds of message.",
        cost="One order ends twice, with two reasons.",
        killer=f"{MAILS}::TestClosing::test_the_first_news_counts[customer]",
        edits=(
            Edit(MODELS, '    CLOSING = "closing"\n', '    CLOSING = "closing"\n    CANCELLATION = "cancellation"\n'),
            Edit(
                MODELS,
                "OrderCancelledEvent: (Kind.CLOSING, _of_cancellation)",
                "OrderCancelledEvent: (Kind.CANCELLATION, _of_cancellation)",
            ),
        ),
    ),
    Mutant(
        name="mail-before-confirmation",
        mistake="An order is confirmed to the customer as soon as it is paid.",
        cost="Orders may say otherwise: whoever cancelled meanwhile is told that the goods are on their way.",
        killer=f"{MAILS}::TestClosing::test_comes_after_a_confirmation",
        edits=(
            Edit(
                MODELS,
                "PaymentProcessedEvent: (Kind.RECEIPT, _of_payment)",
                "PaymentProcessedEvent: (Kind.CONFIRMATION, _of_payment)",
            ),
        ),
    ),
    Mutant(
        name="confirmation-after-cancellation",
        mistake="A confirmation is sent although the order was closed.",
        cost="Events overtake each other: a cancelled order is confirmed last.",
        killer=f"{MAILS}::TestClosing::test_no_confirmation_comes_after_it[False-cancelled]",
        edits=(
            Edit(MODELS, "return (self, Kind.CLOSING) if self is Kind.CONFIRMATION else (self,)", "return (self,)"),
        ),
    ),
    Mutant(
        name="token-taken-back-admitted",
        mistake="A token is good until it expires, whatever happened since.",
        cost="Whoever stole one stays signed in after its owner has signed out.",
        killer=f"{ENDPOINTS}::test_is_closed_to_who_is_not_signed_in[GET-/api/auth/me]",
        edits=(
            Edit(
                "gateway.py",
                "        self.denials.admit(self.caller, self.is_denied)",
                "        assert self.caller.jti",
            ),
        ),
    ),
)
