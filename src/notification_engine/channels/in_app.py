"""In-app: delivered when it is in the inbox. The settlement surfaces it; there is nothing else to call."""

from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.outcome import Delivered, Message, Outcome, Rejected
from notification_engine.services.ports import Deadline


class InAppChannel:
    name = Channel.IN_APP
    repeatable = True
    attempt_seconds = 5.0

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        if message.template is not None and message.template.failed:
            return Rejected(Reason.TEMPLATE_ERROR, "in_app", f"{message.template.key}: no text at accept")
        return Delivered("in_app")

    def host(self, message: Message) -> str:
        return ""
