"""The inbox page of development: one file, its own token, nothing from elsewhere; absent in production."""

import re

from tests.integration.conftest import API, Running, Start, message


async def page(running: Running) -> tuple[int, str, dict[str, str]]:
    async with running.session.get(f"{running.address}/") as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def test_the_page_brings_a_token_that_works(running: Running) -> None:
    status, html, headers = await page(running)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert headers["Cache-Control"] == "no-store", "it holds a token"
    found = re.search(r'data-token="([^"]+)" data-user="(\w+)"', html)
    assert found
    token, user = found.groups()
    notification_id = await running.accept(message(user))
    _, inbox = await running.call("GET", "?limit=100", as_=token)
    assert [n["notification_id"] for n in inbox["notifications"]] == [notification_id]
    assert (await running.call("PATCH", f"/{notification_id}", {"read": True}, as_=token))[0] == 200
    async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", token)) as socket:
        assert (await socket.receive_json(timeout=5))["unread_count"] == 0
    body = {
        "notification_type": "dev.test",
        "title": "Hello from the page",
        "body": "Sent.",
        "recipients": [{"user_id": user}],
        "channels": ["in_app"],
        "priority": "medium",
    }
    assert body["title"] in html
    assert (await running.call("POST", "", body, as_=token))[0] == 202


async def test_the_page_loads_nothing_from_elsewhere(shared: Running) -> None:
    _, html, headers = await page(shared)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"https?://[\w.]", html + policy)
    assert "{{" not in html


async def test_its_links_lead_somewhere(shared: Running) -> None:
    _, html, _ = await page(shared)
    links = re.findall(r'<a href="([^"]+)"', html)
    assert len(links) == 3
    for link in links:
        async with shared.session.get(shared.address + link) as answer:
            assert answer.status == 200, link


async def test_production_has_no_page(start: Start) -> None:
    running = await start(ENVIRONMENT="production")
    assert (await page(running))[0] == 404
