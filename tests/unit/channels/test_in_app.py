from tests.unit.builders import a_message

from notification_engine.channels.in_app import InAppChannel
from notification_engine.domain.outcome import Delivered
from notification_engine.services.ports import Deadline


async def test_in_app_is_delivered_by_its_settlement_whatever_the_deadline() -> None:
    assert await InAppChannel().send(a_message(endpoint=None), Deadline(0)) == Delivered("in_app")


def test_in_app_belongs_to_no_host() -> None:
    assert InAppChannel().host(a_message(endpoint="anything")) == ""
