"""Whatever a fault leaves behind: the doctor names it, and repair, a replay or the operator's page heals it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults import repair_alarms, repair_stories
from tests.faults.clinic import Clinic
from tests.faults.repair_table import NEVER_LEFT_BEHIND, STORIES
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.operator import Operator
from tests.support.rest import come_to_rest

SMOKE = {repair_stories.payments_did_not_hear_of_the_cancellation.__name__, repair_stories.malformed_messages.__name__}
# to import a module puts its stories into the table
assert repair_alarms.whatever_must_never_happen.__name__ in STORIES


@pytest.fixture(scope="module")
def clinic(
    cluster: Cluster, operator: Operator, admin: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """A cluster at rest, in which nothing is wrong and nothing but a person mends."""
    folder = tmp_path_factory.mktemp("clinic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMS_STATE", str(folder))
        patch.setenv("RETRY_DELAYS_MS", cluster.settings["RETRY_DELAYS_MS"])
        operator.purge_dead_letters()
        clinic = Clinic(cluster, operator, admin, folder)
        cluster.stop("orders")
        clinic.start("orders")
        come_to_rest(cluster, operator)
        clinic.until_content()
        yield clinic
        cluster.heal()  # where a story broke off, the next module shall not find its pieces
        operator.purge_dead_letters()
        clinic.repair()


def chosen() -> Iterator[Any]:
    """The table, most of it for ``./oms faults`` alone."""
    for name in STORIES:
        yield pytest.param(name, id=name.replace("_", " "), marks=() if name in SMOKE else pytest.mark.long)


class TestTable:
    """The list of what is left behind."""

    def test_has_every_check_of_the_doctor(self, clinic: Clinic) -> None:
        """Each has a story, or a reason why no fault can break it."""
        told = {name for story in STORIES.values() for name in story.names}

        assert told | NEVER_LEFT_BEHIND.keys() == clinic.checks()
        assert told & NEVER_LEFT_BEHIND.keys() == set()


class TestLeftBehind:
    """A fault leaves something behind that does not pass by itself."""

    @pytest.mark.parametrize("name", list(chosen()))
    def test_is_named_and_healed(self, clinic: Clinic, name: str) -> None:
        """Under the checks of its story, and afterwards the doctor is content."""
        story = STORIES[name]
        steps = story.play(clinic)

        next(steps)
        clinic.until_named(*story.names)
        assert {each["kind"] for each in clinic.letters(count=0)} == set(story.kinds)
        assert next(steps, "healed") == "healed"

        clinic.until_content()
