"""The built-in types, and the document that lists them."""

from pathlib import Path

import pytest

from notification_engine.cli.types_reference import types_reference
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import RANK, OnUnknown, Priority
from notification_engine.domain.notification_type import NotificationType
from notification_engine.services.builtin_types import BUILTIN_TYPES
from notification_engine.services.catalogue import Catalogue

DOCUMENT = Path(__file__).parents[3] / "docs" / "types.md"
PLATFORM = {
    "test_execution": "completed failed timeout batch_completed queue_paused queue_resumed",
    "quality": "failure_rate_high anomaly_detected threshold_crossed report_ready",
    "system": "database_down api_slow engine_crashed resources_low outage resolved",
    "account": "registration_approved password_reset locked_out role_changed login_failures",
    "integration": "ci_status api_failing rate_limited backup_done webhook_disabled",
}


def test_every_type_of_the_platform_is_built_in() -> None:
    assert set(BUILTIN_TYPES) == {f"{group}.{name}" for group, names in PLATFORM.items() for name in names.split()}


@pytest.mark.parametrize("kind", BUILTIN_TYPES.values(), ids=lambda kind: kind.name)
def test_a_built_in_type_is_whole(kind: NotificationType) -> None:
    assert kind.builtin
    assert kind.template == kind.name
    assert kind.channels
    assert kind.on_unknown is not None
    assert kind.description.endswith(".")


@pytest.mark.parametrize("kind", BUILTIN_TYPES.values(), ids=lambda kind: kind.name)
def test_what_is_urgent_is_sent_again_and_reaches_by_mail(kind: NotificationType) -> None:
    if RANK[kind.priority] >= RANK[Priority.HIGH]:
        assert kind.on_unknown is OnUnknown.RESEND
        assert Channel.EMAIL in kind.channels
    assert kind.transactional is kind.name.startswith("account.")


def test_the_document_lists_the_catalogue() -> None:
    """Made by `make docs`."""
    assert DOCUMENT.read_text() == types_reference()


class Overrides:
    def __init__(self, **found: NotificationType) -> None:
        self._found = {name.replace("__", "."): kind for name, kind in found.items()}

    async def overrides(self) -> dict[str, NotificationType]:
        return self._found


async def test_an_override_wins_over_built_in_which_wins_over_plain() -> None:
    own = NotificationType("system.outage", priority=Priority.LOW, overridden=True)
    store: object = Overrides(system__outage=own)
    catalogue = Catalogue(store)  # type: ignore[arg-type]
    assert await catalogue.resolve("system.outage") is own
    assert await catalogue.resolve("system.api_slow") is BUILTIN_TYPES["system.api_slow"]
    assert await catalogue.resolve("no.body") == NotificationType("no.body")
    assert (await catalogue.get("system.outage")).builtin
