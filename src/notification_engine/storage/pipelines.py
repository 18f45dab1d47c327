"""Update pipelines: the domain's tables, applied by the server to the stored state.

Invariant: every write that touches a delivery ends with `recompute`, so `status`, `due_at` and the lease always follow
from the deliveries as they are stored, whatever another lane wrote meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

from notification_engine.domain.delivery import ALLOWED_FROM, OPEN, STATUS_RULES, DeliveryStatus, NotificationStatus
from notification_engine.services.ports import Change

Stage = dict[str, Any]
_OPEN = sorted(OPEN)
_WAITING = sorted({*OPEN, DeliveryStatus.UNKNOWN})
_what = attrgetter(*(f.name for f in fields(Change) if f.name not in {"document_id", "delivery_id", "mark"}))
_HAS_OWNER = {"$ne": [{"$type": "$lease.owner"}, "missing"]}


def in_seconds(seconds: float) -> Stage:
    """The server's now plus so many seconds."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}


def changes_pipeline(changes: Sequence[Change], *, raise_fence: bool = False) -> list[Stage]:
    """Changes under one fence: of one document, or alike ones of many. Delivery ids are unique over all documents, so
    one pipeline, parsed once, serves every document of a bulk whose outcome is the same. `raise_fence`: who still works
    on it works on a stale copy."""
    stages: list[Stage] = [{"$set": {"lease.fence": {"$add": ["$lease.fence", 1]}}}] if raise_fence else []
    kinds: dict[object, list[Change]] = {}
    for change in changes:
        if change.delivery_id:
            kinds.setdefault(kind_of(change), []).append(change)
    branches = [branch for alike in kinds.values() for branch in _branches(alike[0], [c.delivery_id for c in alike])]
    if branches:
        switch = {"$switch": {"branches": branches, "default": "$$d"}}
        stages.append({"$set": {"deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": switch}}}})
    if any(change.surface for change in changes):
        stages += [{"$set": {"inbox.visible_at": "$$NOW"}}, {"$unset": "inbox.snoozed_until"}]
    return stages + recompute(reset_deaths=True)


def kind_of(change: Change) -> object:
    """Equal for changes that differ only in whose they are."""
    mark = tuple(sorted(change.mark.items())) if change.mark else None
    return _what(change), bool(change.delivery_id), mark


def _branches(change: Change, delivery_ids: list[str]) -> list[Stage]:
    """Allowed by the table: the patch. Not allowed, because a callback was faster: a lane's hold ends, and what it
    alone knows is kept. A callback itself then changes nothing, but for a weaker reason of the same state."""
    mine = {"$in": ["$$d.id", delivery_ids]}
    allowed = {"$in": ["$$d.status", [str(s) for s in allowed_from(change)]]}
    branches = [{"case": {"$and": [mine, allowed]}, "then": _patched(change)}]
    if change.over:
        weaker = {"$in": ["$$d.reason", [str(r) for r in change.over]]}
        same = {"$and": [mine, {"$eq": ["$$d.status", str(change.status)]}, weaker]}
        branches.append({"case": same, "then": {"$mergeObjects": ["$$d", {"reason": str(change.reason)}]}})
    if change.release and change.fence is not None:
        branches.append({"case": mine, "then": _too_late(change)})
    return branches


def allowed_from(change: Change) -> list[DeliveryStatus]:
    """By the table; but a lane's retry, which has a fence, does not revive what feedback has ended meanwhile."""
    lanes_retry = change.status is DeliveryStatus.PENDING and change.fence is not None
    return [s for s in ALLOWED_FROM[change.status] if not (lanes_retry and s is DeliveryStatus.FAILED)]


def _patched(change: Change) -> Stage:
    values: Stage = {"status": str(change.status), "updated_at": "$$NOW"}
    if not change.release:
        return {"$mergeObjects": ["$$d", values | {"mark": {"$literal": change.mark}}]}
    values["held"] = change.held
    for name in ("attempts", "provider", "provider_message_id", "reason"):
        if (value := getattr(change, name)) is not None:
            values[name] = {"$literal": value}
    if change.grant_rounds:
        values["rounds_from"] = "$$d.attempts"
    if change.status is DeliveryStatus.DELIVERED:
        values["delivered_at"] = "$$NOW"
    gone = ["claim"]
    if change.reason is None:
        gone.append("reason")
    if change.next_attempt_seconds is None:
        gone.append("next_attempt_at")
    else:
        values["next_attempt_at"] = in_seconds(change.next_attempt_seconds)
    return {"$mergeObjects": [_without(gone, "$$d"), values]}


def _too_late(change: Change) -> Stage:
    known: Stage = {}
    if change.attempts is not None:
        known["attempts"] = {"$max": ["$$d.attempts", change.attempts]}
    for name in ("provider", "provider_message_id"):
        if (value := getattr(change, name)) is not None:
            known[name] = {"$ifNull": [f"$$d.{name}", {"$literal": value}]}
    return {"$mergeObjects": [_without(["claim"], "$$d"), known]}


def _without(names: Sequence[str], value: Any) -> Any:
    for name in names:
        value = {"$unsetField": {"field": name, "input": value}}
    return value


def recompute(*, reset_deaths: bool) -> list[Stage]:
    """Status, due time and lease from the stored deliveries. `reset_deaths`: what settled is no poison."""
    released = {
        "fence": "$lease.fence",
        "abandoned": 0 if reset_deaths else {"$ifNull": ["$lease.abandoned", 0]},
        "solo": False,
        "solo_deaths": 0 if reset_deaths else {"$ifNull": ["$lease.solo_deaths", 0]},
    }
    due = {"$cond": ["$_held", "$lease.expires_at", _earliest()]}
    return [
        {"$set": {"_held": {"$and": [_HAS_OWNER, _any_delivery({"$eq": ["$$d.claim", "$lease.fence"]})]}}},
        {
            "$set": {
                "status": status_expression(),
                "due_at": due,
                "dead_at": _died(),
                "lease": {"$cond": ["$_held", "$lease", released]},
            }
        },
        {"$unset": "_held"},
    ]


def _earliest() -> Stage:
    """The next moment at which anything is to be done; no field at all when nothing is."""
    waiting = {"$and": [{"$in": ["$$d.status", _WAITING]}, {"$ne": ["$$d.held", True]}]}
    times = {
        "$map": {
            "input": {"$filter": {"input": "$deliveries", "as": "d", "cond": waiting}},
            "as": "d",
            "in": "$$d.next_attempt_at",
        }
    }
    return {"$ifNull": [{"$min": {"$concatArrays": [times, ["$inbox.snoozed_until"]]}}, "$$REMOVE"]}


def _died() -> Stage:
    """When the last of its dead letters became one; no field at all when it has none."""
    dead = {
        "$and": [
            {
                "$or": [
                    {"$eq": ["$$d.status", str(DeliveryStatus.FAILED)]},
                    {"$and": [{"$eq": ["$$d.status", str(DeliveryStatus.UNKNOWN)]}, {"$eq": ["$$d.held", True]}]},
                ]
            },
            {"$lte": ["$$d.discarded_at", None]},
        ]
    }
    moments = {
        "$map": {
            "input": {"$filter": {"input": "$deliveries", "as": "d", "cond": dead}},
            "as": "d",
            "in": "$$d.updated_at",
        }
    }
    return {"$ifNull": [{"$max": moments}, "$$REMOVE"]}


def _any_delivery(condition: Stage) -> Stage:
    return {"$anyElementTrue": [{"$map": {"input": "$deliveries", "as": "d", "in": condition}}]}


@cache
def status_expression() -> Any:
    """The same as `domain.delivery.derive_status`, from the same table."""
    is_open = {"$in": ["$$d.status", _OPEN]}
    tried = {"$or": [{"$eq": ["$$d.status", str(DeliveryStatus.SENDING)]}, {"$gt": ["$$d.attempts", 0]}]}
    all_open = {"$setIsSubset": ["$deliveries.status", _OPEN]}
    ahead = {"$and": [all_open, {"$gt": ["$scheduled_at", "$$NOW"]}]}
    branches: list[Stage] = [
        {"case": _any_delivery({"$and": [is_open, tried]}), "then": str(NotificationStatus.PROCESSING)},
        {
            "case": _any_delivery(is_open),
            "then": {"$cond": [ahead, str(NotificationStatus.SCHEDULED), str(NotificationStatus.PENDING)]},
        },
    ]
    for status, groups in STATUS_RULES:
        present = [
            {"$gt": [{"$size": {"$setIntersection": ["$deliveries.status", [str(s) for s in group]]}}, 0]}
            for group in groups
        ]
        branches.append({"case": {"$and": present}, "then": str(status)})
    return {"$switch": {"branches": branches, "default": str(NotificationStatus.SUPPRESSED)}}


def claim_pipeline(owner: str, token: str, lease_seconds: float) -> list[Stage]:
    """Raises the fence; what was still leased was abandoned by its holder, and counts."""
    lease = {
        "owner": owner,
        "token": token,
        "fence": {"$add": [{"$ifNull": ["$lease.fence", 0]}, 1]},
        "expires_at": in_seconds(lease_seconds),
        "abandoned": {"$add": [{"$ifNull": ["$lease.abandoned", 0]}, {"$cond": [_HAS_OWNER, 1, 0]}]},
        "solo": False,
        "solo_deaths": {"$add": [{"$ifNull": ["$lease.solo_deaths", 0]}, {"$cond": ["$lease.solo", 1, 0]}]},
    }
    is_due = {
        "$and": [
            {"$in": ["$$d.status", _WAITING]},
            {"$ne": ["$$d.held", True]},
            {"$lte": [{"$ifNull": ["$$d.next_attempt_at", "$$NOW"]}, "$$NOW"]},
        ]
    }
    taken = {"$cond": [is_due, {"$mergeObjects": ["$$d", {"claim": "$lease.fence"}]}, "$$d"]}
    return [
        {"$set": {"lease": lease}},
        {
            "$set": {
                "due_at": "$lease.expires_at",
                "deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": taken}},
            }
        },
    ]


def discard_pipeline(delivery_ids: Sequence[str]) -> list[Stage]:
    """Takes dead letters off the list; their state stays what it is."""
    chosen = {"$in": ["$$d.id", list(delivery_ids)]}
    marked = {"$cond": [chosen, {"$mergeObjects": ["$$d", {"discarded_at": "$$NOW"}]}, "$$d"]}
    stages: list[Stage] = [{"$set": {"deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": marked}}}}]
    return stages + recompute(reset_deaths=False)


def give_back_pipeline() -> list[Stage]:
    """Ends the hold of what was not begun; a lease given back does not count as a death."""
    mine = {"$eq": ["$$d.claim", "$lease.fence"]}
    freed = {"$cond": [mine, _without(["claim"], "$$d"), "$$d"]}
    stages: list[Stage] = [{"$set": {"deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": freed}}}}]
    return stages + recompute(reset_deaths=False)


def another_world_pipeline(fences: int) -> list[Stage]:
    """Ends every hold without counting a death, and raises the fence by so much that no worker of the world that the
    document was copied from can settle it. What was held is due now, so that its next claim looks at it."""
    freed = {
        "fence": {"$add": [{"$ifNull": ["$lease.fence", 0]}, fences]},
        "abandoned": {"$ifNull": ["$lease.abandoned", 0]},
        "solo": False,
        "solo_deaths": {"$ifNull": ["$lease.solo_deaths", 0]},
    }
    due = {"$cond": [_HAS_OWNER, "$$NOW", "$due_at"]}
    return [{"$set": {"due_at": due, "lease": {"$cond": [True, freed, None]}}}]  # a bare object would be merged


def postpone_pipeline(seconds: Mapping[str, float]) -> list[Stage]:
    """Ends the hold of these deliveries, by id, and moves their next moment; nothing else of them changes."""
    branches = [
        {
            "case": {"$and": [{"$eq": ["$$d.id", delivery_id]}, {"$eq": ["$$d.claim", "$lease.fence"]}]},
            "then": {"$mergeObjects": [_without(["claim"], "$$d"), {"next_attempt_at": in_seconds(after)}]},
        }
        for delivery_id, after in seconds.items()
    ]
    switch = {"$switch": {"branches": branches, "default": "$$d"}}
    stages: list[Stage] = [{"$set": {"deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": switch}}}}]
    return stages + recompute(reset_deaths=False)
