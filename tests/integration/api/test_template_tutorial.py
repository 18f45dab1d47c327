"""docs/templates.md, done as it says."""

import json
import re
from pathlib import Path

from tests.integration.conftest import Running
from tests.servers.smtp import Mailbox

PAGE = (Path(__file__).parents[3] / "docs" / "templates.md").read_text()
DRAFT = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
KEY = "shop.order_sent"


async def test_the_tutorial_works(running: Running, mailbox: Mailbox) -> None:
    assert (await running.call("PUT", f"/templates/{KEY}", DRAFT))[0] == 200
    status, shown = await running.call("POST", f"/templates/{KEY}/preview", {"locale": "de", "time_zone": "UTC"})
    assert status == 200, shown
    assert (shown["subject"], shown["missing"]) == ("2 Pakete sind unterwegs", [])
    assert (await running.call("POST", f"/templates/{KEY}/publish"))[1]["version"] == 1
    kind = {"channels": ["in_app", "email"], "template": KEY}
    assert (await running.call("PUT", f"/types/{KEY}", kind))[0] == 200
    body = {
        "notification_type": KEY,
        "recipients": [{"user_id": "u1", "email": "u1@example.org"}],
        "data": DRAFT["sample_data"],
    }
    found = await running.settled(await running.accept(body))
    assert {d["channel"]: d["status"] for d in found["deliveries"]} == {"in_app": "delivered", "email": "accepted"}
    assert found["title"] == "Order A-17 is on the way"
    [mail] = await mailbox.received(1)
    text = mail.get_body(("plain",)).get_content()
    assert "Hello Ada, your order left us on March 1, 2026." in text
    assert "Sum: €49.90" in text
    assert "Track it: https://shop.example.org/A-17" in text


async def test_the_refusal_on_the_page_is_the_refusal(shared: Running) -> None:
    wanted = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    broken = {"locales": {"en": {"subject": "Hello {{ x"}}}
    _, problem = await shared.call("PUT", "/templates/any.one", broken)
    del problem["request_id"]
    assert problem == wanted


async def test_the_first_example_is_a_whole_notification(running: Running) -> None:
    example = json.loads(re.findall(r"-d '(\{.*?\})'\n```", PAGE, re.DOTALL)[0])
    shown = await running.settled(await running.accept(example))
    assert (shown["title"], shown["body"]) == ("Checkout fehlgeschlagen", "7 von 148 Tests fehlgeschlagen.")
    assert {d["channel"]: d["status"] for d in shown["deliveries"]} == {"in_app": "delivered", "email": "accepted"}
