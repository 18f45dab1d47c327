"""Figures beside other processes: counted in files by slot, added up by whoever is asked."""

import os
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.health import group as group_module
from notification_engine.health.group import SILENT_SECONDS, Group, added, forget, shown
from notification_engine.health.metrics import Metrics

C, S = Channel, DeliveryStatus


@pytest.fixture(autouse=True)
def library_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps its mode in a global and in the environment."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")


def group(directory: Path, slot: int = 0, count: int = 2) -> Group:
    return Group(directory, slot, count, began=0.0)


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.text({}))
    return {tuple(s.labels.values()): s.value for f in families for s in f.samples if s.name == name}


def test_any_process_shows_the_sum(tmp_path: Path) -> None:
    one = Metrics(group(tmp_path, 0))
    one.accepted(3)
    one.settled(C.WEBHOOK, S.DELIVERED, None, 2.0)
    two = Metrics(group(tmp_path, 1))
    two.accepted(4)
    two.settled(C.WEBHOOK, S.FAILED, Reason.TIMEOUT, 9.0)
    for metrics in (one, two):
        assert counted(metrics, "notification_accepted_total") == {(): 7}
        kpis = metrics.kpis(everywhere=True)
        assert (kpis["accepted"], kpis["ended"], kpis["success_rate"]) == (7, 2, 0.5)
        assert kpis["average_delivery_ms"] == 2000
    assert (one.kpis()["accepted"], two.kpis()["accepted"]) == (3, 4), "its own, for the document of its replica"


def test_who_takes_a_dead_ones_place_goes_on_counting(tmp_path: Path) -> None:
    Metrics(group(tmp_path, 0)).accepted(1)
    dead = Metrics(group(tmp_path, 1))
    dead.accepted(5)
    dead.dead(9)
    forget(tmp_path, 1)
    files = sorted(os.listdir(tmp_path))
    assert counted(Metrics(group(tmp_path, 0)), "notification_dead_letters") == {}, "a dead process's gauge is no fact"
    heir = Metrics(group(tmp_path, 1))
    assert counted(heir, "notification_accepted_total") == {(): 6}
    heir.accepted(1)
    heir.dead(2)
    assert counted(heir, "notification_accepted_total") == {(): 7}
    for _ in range(20):
        forget(tmp_path, 1)
        Metrics(group(tmp_path, 1)).accepted(1)
    assert counted(heir, "notification_accepted_total") == {(): 27}
    assert len(os.listdir(tmp_path)) <= len(files) + 1, "a process that dies again and again fills no disk"


def test_what_each_counts_of_the_whole_is_not_added_up(tmp_path: Path) -> None:
    one, two = Metrics(group(tmp_path, 0)), Metrics(group(tmp_path, 1))
    one.dead(3)
    two.dead(4)
    one.breached("overdue", 0)
    two.breached("overdue", 1)
    one.breached("overdue", 0)
    assert counted(one, "notification_dead_letters") == {(): 4}
    assert counted(one, "notification_conservation_breaches") == {("overdue",): 0}


def test_processes_are_told_by_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = group(tmp_path, 1, count=3)
    own.tell("serving", {"age_seconds": 4.0, "connections": {"users": 2}})
    told = own.told()
    assert [one is None for one in told] == [True, False, True]
    lines = [shown(slot, one) for slot, one in enumerate(told)]
    assert lines[0] == {"process": 0, "pid": None, "state": "down", "age_seconds": None}
    assert lines[1] == {"process": 1, "pid": os.getpid(), "state": "serving", "age_seconds": 4.0}
    assert told[1] is not None
    monkeypatch.setattr(group_module.time, "monotonic", lambda: told[1]["at"] + SILENT_SECONDS + 1)
    assert shown(1, told[1])["state"] == "silent"
    forget(tmp_path, 1)
    assert own.told() == [None] * 3
    forget(tmp_path, 1)  # it died before it told anything


def test_figures_are_added_name_by_name() -> None:
    one = {"lanes": {"email": {"queued": 1, "bound": 50}}, "room": 5, "draining": False}
    two = {"lanes": {"email": {"queued": 2, "bound": 50}, "webhook": {"queued": 7}}, "room": 6, "draining": True}
    assert added([one, two]) == {
        "lanes": {"email": {"queued": 3, "bound": 100}, "webhook": {"queued": 7}},
        "room": 11,
        "draining": True,
    }
    assert added([]) == {}
    assert one["lanes"] == {"email": {"queued": 1, "bound": 50}}, "nothing is changed in place"
