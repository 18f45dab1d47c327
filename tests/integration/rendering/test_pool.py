"""The pool with its real child processes: batches, deaths, replacement, blame."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from notification_engine.rendering.pool import STRIKES, Job, Pool, PoolLimits

KILLER = "{% set a = [0] * 99999999 %}{{ a | tojson | length }}"


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(PoolLimits(processes=2, memory_mb=64, cpu_seconds=0.2, wall_seconds=10))
    yield pool
    await pool.close()


def job(name: str, source: str, **context: Any) -> Job:
    frame = {"parts": ["text"], "context": context, "locale": "en", "time_zone": None}
    return Job(name, frame, f"{name}:{source}", {"text": source})


def children() -> set[int]:
    """Process ids of the workers that this process started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(parent) == os.getpid() and "rendering.worker" in command:
            found.add(int(stat.parent.name))
    return found


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:  # asked again: the system says nothing of itself
            if holds():
                return
            await asyncio.sleep(0.02)


def environment(process: int) -> str:
    return Path(f"/proc/{process}/environ").read_text()


async def test_a_thousand_texts_come_back_each_to_its_own(pool: Pool) -> None:
    answers = await asyncio.gather(*(pool.run(job("plain", "{{ n }}", n=n)) for n in range(1000)))
    assert [answer["ok"]["text"] for answer in answers] == [f"{n}\n" for n in range(1000)]


async def test_nothing_is_started_before_the_first_template(pool: Pool) -> None:
    before = children()
    assert not pool.started
    await pool.run(job("plain", "x"))
    assert len(children() - before) >= 1


async def test_a_child_that_dies_costs_only_the_template_that_killed_it(pool: Pool) -> None:
    await pool.run(job("plain", "x"))
    jobs = [job("plain", "{{ n }}", n=n) for n in range(40)]
    jobs.insert(5, job("killer", KILLER))
    answers = await asyncio.gather(*(pool.run(one) for one in jobs))
    assert answers[5]["limit"]
    assert [answer["ok"]["text"] for i, answer in enumerate(answers) if i != 5] == [f"{n}\n" for n in range(40)]
    assert pool.replaced == 2  # in its batch, and alone
    assert (await pool.run(job("plain", "again")))["ok"] == {"text": "again\n"}


async def test_a_child_that_somebody_else_kills_costs_nothing(pool: Pool) -> None:
    await pool.run(job("plain", "x"))
    running = asyncio.gather(*(pool.run(job("plain", "{{ n }}", n=n)) for n in range(500)))
    for child in children():
        os.kill(child, signal.SIGKILL)
    answers = await running
    assert [answer["ok"]["text"] for answer in answers] == [f"{n}\n" for n in range(500)]


async def test_a_child_that_was_killed_while_it_waited_is_not_blamed_on_what_comes_next(pool: Pool) -> None:
    before = children()
    await pool.run(job("plain", "x"))
    await until(lambda: len(children() - before) == pool.limits.processes + 2)
    waiting = children() - before
    for child in waiting:
        os.kill(child, signal.SIGKILL)
    await until(lambda: not any(Path(f"/proc/{child}").exists() for child in waiting))
    await asyncio.sleep(0)  # in this turn of the loop it hears of the ends
    assert (await pool.run(job("plain", "y"), aside=True))["ok"] == {"text": "y\n"}


async def test_a_template_that_keeps_killing_is_refused_without_a_child(pool: Pool) -> None:
    for _ in range(STRIKES):
        assert (await pool.run(job("killer", KILLER)))["limit"]
    replaced = pool.replaced
    assert (await pool.run(job("killer", KILLER)))["limit"]
    assert pool.replaced == replaced


async def test_a_success_in_between_clears_a_template(pool: Pool) -> None:
    source = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}done"
    for _ in range(STRIKES + 1):
        assert (await pool.run(job("moody", source, n=50_000)))["limit"]
        assert (await pool.run(job("moody", source, n=1)))["ok"] == {"text": "done\n"}


async def test_a_refused_template_can_be_sent_again_to_the_same_child(pool: Pool) -> None:
    broken = Job("a", {"parts": ["text"], "context": {}, "locale": "en", "time_zone": None}, "d", {"text": "{{"})
    mended = Job("a", broken.frame, "d", {"text": "fine"})
    for _ in range(6):
        assert "error" in await pool.run(broken)
    for _ in range(6):
        assert (await pool.run(mended))["ok"] == {"text": "fine\n"}


async def test_more_templates_than_a_child_remembers(pool: Pool) -> None:
    for turn in range(2):
        answers = await asyncio.gather(*(pool.run(job(f"t{n}", f"{n}")) for n in range(500)))
        assert [answer["ok"]["text"] for answer in answers] == [f"{n}\n" for n in range(500)], turn


async def test_no_secret_reaches_a_child(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", "a secret that no child needs")
    await pool.run(job("plain", "x"))
    environments = [environment(child) for child in children()]
    assert environments
    assert not any("JWT_SECRET_KEY" in one for one in environments)


async def test_closing_ends_every_child() -> None:
    before = children()
    pool = Pool(PoolLimits(processes=1))
    await pool.run(job("plain", "x"))
    await pool.close()
    assert children() <= before


async def test_a_crowd_of_killers_costs_a_few_children_only(pool: Pool) -> None:
    await pool.run(job("plain", "x"))
    jobs = [job("killer", KILLER) for _ in range(60)] + [job("plain", "{{ n }}", n=n) for n in range(60)]
    answers = await asyncio.gather(*(pool.run(one) for one in jobs))
    assert all(answer["limit"] for answer in answers[:60])
    assert [answer["ok"]["text"] for answer in answers[60:]] == [f"{n}\n" for n in range(60)]
    assert pool.replaced <= STRIKES + pool.limits.processes


@pytest.mark.parametrize(
    "limits",
    [PoolLimits(processes=1, memory_mb=32, cpu_seconds=60, wall_seconds=60), PoolLimits(1, 4096, 0.05, 60)],
    ids=["memory", "processor"],
)
async def test_each_limit_alone_ends_a_rendering(limits: PoolLimits) -> None:
    pool = Pool(limits)
    answer = await pool.run(job("killer", KILLER))
    assert (answer["limit"], answer["safe"]) == (True, "limits passed")
    assert (await pool.run(job("plain", "x")))["ok"] == {"text": "x\n"}
    await pool.close()
