"""What of a notification is stored sealed: the recipient's address always, its texts where the type says so.

Invariant: both are sealed with the user's own key and bound to user, field and document. What does not open any more is
absent, and the notification says so (`erased`): one unreadable document never hides the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson

from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import InvalidRequest, Unreadable
from notification_engine.domain.notification import Action, Notification, base_id
from notification_engine.kit.logging import get_logger
from notification_engine.security.envelope import DataKey
from notification_engine.storage.codec import encode, to_document, to_notification
from notification_engine.storage.connection import Document
from notification_engine.storage.user_keys import UserKeys

ADDRESS, TEXT = "address", "text"
_TEXTS = ("title", "body", "data", "actions")

log = get_logger("engine")


class Sealing:
    def __init__(self, keys: UserKeys) -> None:
        self._keys = keys

    async def keys(self, notifications: Iterable[Notification]) -> Mapping[str, DataKey]:
        """Of those for whom something is to be sealed. Raises Unavailable when one could not be made."""
        users = {n.user_id for n in notifications if _needs_key(n) and _is_storable(n.user_id)}
        return await self._keys.ensure(users) if users else {}

    def document(self, notification: Notification, keys: Mapping[str, DataKey]) -> Document:
        """To be stored. Raises InvalidRequest for a user that has no key because BSON would refuse its id."""
        if not _needs_key(notification):
            return to_document(notification)
        if notification.user_id not in keys:
            raise InvalidRequest("A value cannot be stored (UnicodeEncodeError).", field="user_id")
        return _sealed(notification, keys[notification.user_id])

    async def opened(self, documents: Iterable[Document]) -> list[Notification]:
        """As stored, in their order. Raises Unavailable when the keys cannot be read."""
        documents = list(documents)
        users = {d["user_id"] for d in documents if is_sealed(d)}
        keys = await self._keys.load(users) if users else {}
        return [_opened(d, keys) if users and is_sealed(d) else to_notification(d) for d in documents]

    async def plain(self, documents: Sequence[Document]) -> list[Document]:
        """The same documents as they would be without sealing; what does not open any more is absent."""
        opened = await self.opened(documents)
        return [_plain_document(d, n) if is_sealed(d) else d for d, n in zip(documents, opened, strict=True)]

    async def addresses(self, documents: Sequence[Document]) -> dict[str, str]:
        """Of deliveries by their ids, from documents read with `user_id` and `deliveries`."""
        users = {d["user_id"] for d in documents if is_sealed(d)}
        keys = await self._keys.load(users) if users else {}
        return {
            d["id"]: address
            for document in documents
            for d in document["deliveries"]
            if (address := _address(d.get("endpoint"), document, keys.get(document["user_id"]))) is not None
        }


def is_sealed(document: Mapping[str, Any]) -> bool:
    return (
        isinstance(document.get("email"), bytes)
        or "sealed" in document
        or any(isinstance(d.get("endpoint"), bytes) for d in document.get("deliveries", ()))
    )


def _is_storable(user_id: str) -> bool:
    try:
        user_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _needs_key(n: Notification) -> bool:
    return n.sensitive or n.email is not None or any(d.channel is Channel.EMAIL and d.endpoint for d in n.deliveries)


def _sealed(n: Notification, key: DataKey) -> Document:
    document, place = to_document(n), (n.user_id, base_id(n.id))
    blobs: dict[str, bytes] = {}

    def blob(address: str) -> bytes:
        if address not in blobs:
            blobs[address] = key.seal(address.encode(), ADDRESS, *place)
        return blobs[address]

    if n.email is not None:
        document["email"] = blob(n.email)
    for delivery, stored in zip(n.deliveries, document["deliveries"], strict=True):
        if delivery.channel is Channel.EMAIL and delivery.endpoint:
            stored["endpoint"] = blob(delivery.endpoint)
    if n.sensitive:
        _seal_texts(document, key, place)
    return document


def _seal_texts(document: Document, key: DataKey, place: tuple[str, str]) -> None:
    """Also the hash of the request's body: a short code could be guessed from it."""
    texts = {name: document[name] for name in _TEXTS}
    if "idempotency" in document:
        texts["fingerprint"] = document["idempotency"]["body"]
        document["idempotency"]["body"] = ""
    document["sealed"] = key.seal(encode(texts), TEXT, *place)
    document |= {"title": "", "body": "", "data": {}, "actions": []}


def _opened(document: Document, keys: Mapping[str, DataKey]) -> Notification:
    notification, key = to_notification(document), keys.get(document["user_id"])
    if isinstance(document.get("email"), bytes):
        notification.email = _address(document["email"], document, key)
        notification.erased = notification.email is None
    for delivery, stored in zip(notification.deliveries, document.get("deliveries", ()), strict=False):
        if isinstance(stored.get("endpoint"), bytes):
            delivery.endpoint = _address(stored["endpoint"], document, key)
            notification.erased = notification.erased or delivery.endpoint is None
    if "sealed" in document:
        plain = _plain(document["sealed"], TEXT, document, key)
        notification.erased = notification.erased or plain is None
        if plain is not None:
            _fill(notification, bson.decode(plain))
    return notification


def _fill(notification: Notification, texts: Document) -> None:
    notification.title, notification.body, notification.data = texts["title"], texts["body"], texts["data"]
    notification.actions = [Action(a["label"], a["url"]) for a in texts["actions"]]
    if notification.idempotency is not None and "fingerprint" in texts:
        i = notification.idempotency
        notification.idempotency = type(i)(i.key, texts["fingerprint"], i.statuses)


def _plain_document(document: Document, n: Notification) -> Document:
    shown = {name: value for name, value in document.items() if name != "sealed"} | {"email": n.email}
    endpoints = [{"endpoint": d.endpoint} for d in n.deliveries]
    shown["deliveries"] = [d | e for d, e in zip(document["deliveries"], endpoints, strict=True)]
    if "sealed" in document:
        actions = [{"label": a.label, "url": a.url} for a in n.actions]
        shown |= {"title": n.title, "body": n.body, "data": n.data, "actions": actions}
    return shown


def _address(stored: object, document: Document, key: DataKey | None) -> str | None:
    if isinstance(stored, bytes):
        plain = _plain(stored, ADDRESS, document, key)
        return plain.decode() if plain is not None else None
    return stored if isinstance(stored, str) else None


def _plain(sealed: bytes, field: str, document: Document, key: DataKey | None) -> bytes | None:
    """None when the key is gone; also, and then it is logged, when the value was altered or moved."""
    if key is None:
        return None
    try:
        return key.open(sealed, field, document["user_id"], base_id(document["_id"]))
    except Unreadable as error:
        if not error.gone:
            log.error("A stored value was altered or moved", notification_id=document["_id"], field=field)
        return None
