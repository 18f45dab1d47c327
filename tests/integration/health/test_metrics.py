"""Metrics: everything that is measured is told, is on the page, and has a number of series that use does not raise."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import API, Running, Start, message, token
from tests.integration.health.exercised import Scrape, exercised, once, scraped, told
from tests.servers.receiver import Receiver
from tests.servers.smtp import CUT, Mailbox

from notification_engine.domain.caller import Role
from notification_engine.health.figures import FIGURES, LABELS, named
from notification_engine.health.metrics import Metrics

USERS, IN_A_BATCH = 10_000, 1000
BOUND = 700  # series of one engine that has done everything; ten thousand users would be beyond it at once
SCRAPE_ALONE = ("processes", "processes_up")  # of `serve --processes`; tests/integration/cli looks at these
WITH_REDIS = tuple(figure for figure in FIGURES if figure.startswith("bus_") and figure != "bus_up")


async def test_every_metric_of_the_page_is_told_by_a_real_engine(start: Start, receiver: Receiver) -> None:
    found = await scraped(await exercised(start, receiver))
    for name, kind, labels, _ in Metrics().families():
        sample = {"counter": f"{name}_total", "histogram": f"{name}_bucket"}.get(kind, name)
        assert found.labels(sample) - {"le"} == set(labels), sample
        assert sample in found.names()
    assert len(found) < BOUND


async def test_every_label_and_figure_is_of_the_closed_set_that_the_page_shows(
    start: Start, receiver: Receiver
) -> None:
    found = await scraped(await exercised(start, receiver))
    for label, values in LABELS.items():
        assert found.values(label) <= set(values), label
    shown = {figure: named(figure) for figure in found.values("figure")}
    assert None not in shown.values(), shown
    assert set(FIGURES) - set(shown.values()) == {*SCRAPE_ALONE, *WITH_REDIS}
    assert {label for sample in found.samples for label in sample.labels} == {*LABELS, "figure", "le"}


def item(number: int) -> dict[str, Any]:
    return message(f"user-{number}", notification_type=f"kind.of_{number}", title=f"Title {number}")


async def test_ten_thousand_users_and_types_add_no_series(running: Running) -> None:
    async def send(begin: int, count: int) -> None:
        status, _ = await running.call("POST", "/batch", {"notifications": [item(begin + n) for n in range(count)]})
        assert status == 202

    async def strangers(begin: int, count: int) -> None:
        """Paths, ids, hosts, request ids and tokens of their own."""
        for number in range(begin, begin + count):
            user = token(f"user-{number}", Role.USER)
            assert (await running.call("GET", f"/ntfy_{number}", as_=user, X_Request_ID=f"req-{number}"))[0] == 404
            assert (await running.call("GET", "", as_=f"token-{number}"))[0] == 401
            url = f"{running.address}/unknown/{number}"
            async with running.session.get(url, headers={"Host": f"h{number}", "User-Agent": f"a{number}"}) as answer:
                assert answer.status == 404

    await send(0, 10)
    await strangers(0, 1)
    figures = {"notification_check_failing", "notification_access_denied_total"}
    before = await once(running, told(figures))
    for begin in range(10, USERS, IN_A_BATCH):
        await send(begin, IN_A_BATCH)
    await strangers(10, 30)
    after = await once(running, lambda found: (found.value("notification_accepted_total") or 0) >= USERS)
    assert series(after) - series(before) <= {("notification_database_command_seconds", "getMore")}
    assert len(after) < BOUND


def series(found: Scrape) -> set[tuple[str, ...]]:
    """Of a histogram the one that its buckets belong to."""
    ends = ("_bucket", "_sum", "_count", "_created")
    return {
        (next((s.name.removesuffix(end) for end in ends if s.name.endswith(end)), s.name), *sorted(kept(s.labels)))
        for s in found.samples
    }


def kept(labels: dict[str, str]) -> list[str]:
    return [value for label, value in labels.items() if label != "le"]


async def test_answers_are_counted_by_class_and_probes_are_not(running: Running) -> None:
    def counts(found: Scrape) -> dict[str, float | None]:
        name = "notification_http_seconds_count"
        return {status: found.value(name, status=status) for status in ("2xx", "4xx", "5xx")}

    assert counts(await scraped(running)) == {"2xx": None, "4xx": None, "5xx": None}
    await running.accept(message())
    await running.call("GET", "/ntfy_unknown")
    await scraped(running, "/metrics")
    for path in ("/health", f"{API}/health/status"):
        async with running.session.get(running.address + path) as answer:
            assert answer.status == 200
    assert counts(await scraped(running)) == {"2xx": 1, "4xx": 1, "5xx": None}


async def test_a_stream_that_lasts_is_no_slow_answer(running: Running) -> None:
    headers = {"Authorization": f"Bearer {token('u1', Role.USER)}"}
    async with running.session.get(f"{running.address}{API}/stream", headers=headers) as answer:
        assert answer.status == 200
        await answer.content.readline()
    assert "notification_http_seconds_count" not in (await scraped(running)).names()


async def test_delivery_time_is_a_histogram_of_what_succeeded(running: Running, mailbox: Mailbox) -> None:
    mailbox.replies.append("550 5.1.1 no such user")
    for _ in range(2):
        await running.settled(await running.accept(message(channels=["in_app", "email"])))
    found = await once(running, lambda f: f.value("notification_deliveries_total", channel="email") == 2)
    assert found.value("notification_success_seconds_count", channel="email") == 1
    assert found.value("notification_success_seconds_count", channel="in_app") == 2
    assert found.value("notification_delivery_seconds_count", channel="email") == 2


async def test_an_unknown_outcome_that_is_held_is_counted(start: Start, mailbox: Mailbox) -> None:
    running = await start(HEALTH_CHECK_INTERVAL=0.1)
    await once(running, lambda found: found.value("notification_unknown_held") == 0)
    await once(running, lambda found: (found.value("notification_checks_total", outcome="healthy") or 0) > 0)
    mailbox.replies.append(CUT)
    await running.settled(await running.accept(message(channels=["email"], priority="low")))
    async with asyncio.timeout(30):
        await once(running, lambda found: found.value("notification_unknown_held") == 1)
    assert (await scraped(running)).value("notification_dead_letters") == 1


async def test_a_failed_check_is_told_by_name(start: Start) -> None:
    running = await start(HEALTH_CHECK_INTERVAL=0.1)
    await once(running, lambda found: found.value("notification_check_failing", check="indexes") == 0)
    await running.engine.database.collection("notification_history").drop_indexes()
    found = await once(running, lambda found: found.value("notification_check_failing", check="indexes") == 1)
    assert found.value("notification_check_failing", check="clock") == 0
    assert (found.value("notification_checks_total", outcome="unhealthy") or 0) >= 1


async def test_commands_of_the_database_are_timed(running: Running) -> None:
    await running.accept(message())
    found = await scraped(running)
    for command in ("insert", "find", "hello"):
        assert (found.value("notification_database_command_seconds_count", command=command) or 0) > 0


async def test_a_process_says_how_it_is(running: Running) -> None:
    found = await scraped(running)
    assert found.value("notification_state", figure="not_ready") == 0
    assert found.value("notification_state", figure="seconds_without_primary") == pytest.approx(0, abs=10)
    assert (found.value("notification_state", figure="uptime_seconds") or 0) > 0
    running.engine.health.draining = True
    found = await scraped(running)
    assert found.value("notification_state", figure="draining") == found.value("notification_state", figure="not_ready")
    assert found.value("notification_state", figure="draining") == 1
