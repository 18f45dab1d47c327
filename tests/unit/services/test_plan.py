from typing import Any

import pytest
from tests.unit.builders import NOW, ULID

from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.preference import Preference
from notification_engine.services.plan import PlanInput, is_transactional, plan


def planned(preference: Preference, *, transactional: bool, **fields: Any) -> list[tuple[Channel, Reason | None]]:
    plain: dict[str, Any] = {
        "notification_id": f"ntfy_{ULID}",
        "notification_type": "account.password_reset",
        "channels": (Channel.IN_APP, Channel.EMAIL),
        "email": "u1@example.org",
        "endpoints": [],
        "email_available": True,
        "now": NOW,
        "due_at": NOW,
    }
    made = plan(PlanInput(**plain | fields, preference=preference, transactional=transactional))
    return [(d.channel, d.reason) for d in made.deliveries]


REFUSALS = {
    "mute": (Preference("u1", mute=True), Reason.MUTED),
    "off": (Preference("u1", types={"*": dict.fromkeys(Channel, False)}), Reason.PREFERENCE_OFF),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_choice_counts_but_for_what_is_transactional(case: str) -> None:
    preference, reason = REFUSALS[case]
    both = (Channel.IN_APP, Channel.EMAIL)
    assert planned(preference, transactional=False) == [(channel, reason) for channel in both]
    assert planned(preference, transactional=True) == [(channel, None) for channel in both]


def test_what_cannot_be_sent_is_not_sent_for_being_transactional() -> None:
    muted, _ = REFUSALS["mute"]
    states = planned(muted, transactional=True, channels=(Channel.EMAIL,), email=None)
    assert states == [(Channel.EMAIL, Reason.NO_ADDRESS)]


def test_what_the_recipient_must_know_is_transactional() -> None:
    kinds = ("account.password_reset", "account.locked_out", "account.role_changed", "test_execution.completed")
    assert [is_transactional(kind) for kind in kinds] == [True, True, False, False]
