"""The data keys (`notification_data_keys`): one a purpose, wrapped by the master key, unwrapped once at the start.

Invariant: an engine that cannot unwrap all of them does not start; so a wrong master key is found before the first
send, and never a second set of keys is made beside the first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.security.envelope import DataKey, KeyWrapper, LocalKeys, Sealer
from notification_engine.storage.connection import Database, Document, translated

COLLECTION = "notification_data_keys"
WEBHOOKS, USERS, EVENTS, SUPPRESSIONS, DERIVED = (
    "webhook secrets",
    "user keys",
    "provider events",
    "suppressions",
    "derived secrets",
)
PURPOSES = (WEBHOOKS, USERS, EVENTS, SUPPRESSIONS, DERIVED)
_VARIABLES = {"local": "FIELD_ENCRYPTION_KEY", "aws_kms": "AWS_KMS_KEY_ID", "vault": "VAULT_TRANSIT_KEY"}


@dataclass(frozen=True, slots=True)
class KeyState:
    """What is known of a data key without unwrapping it."""

    purpose: str
    master: str
    current: bool
    created_at: datetime


class DataKeys:
    """`wrappers`: every master key that the settings name; the first wraps."""

    def __init__(self, database: Database, wrappers: Sequence[KeyWrapper]) -> None:
        self._collection = database.collection(COLLECTION)
        self._majority = database.majority(COLLECTION)
        self._endpoints = database.majority("notification_webhook_endpoints")
        self._users = database.majority("notification_user_keys")
        self._wrappers: Mapping[str, KeyWrapper] = {wrapper.name: wrapper for wrapper in wrappers}
        self.wrapper = wrappers[0]
        self.local = next((w for w in wrappers if isinstance(w, LocalKeys)), None)
        self._keys: dict[str, DataKey] = {}

    def key(self, purpose: str) -> DataKey:
        """Present after `open`."""
        return self._keys[purpose]

    def sealer(self, purpose: str) -> Sealer:
        return Sealer(purpose, partial(self.key, purpose), self.local.open_legacy if self.local else None)

    async def open(self) -> None:
        """Raises ConfigurationError naming the variable when the master key is not the one, Unavailable when the
        database or the keeper of the master key does not answer."""
        stored = {document["_id"]: document for document in await self._stored()}
        if not stored:
            await self._refuse_foreign_secrets()
        if USERS not in stored:
            await self._refuse_orphans()
        for purpose in PURPOSES:
            document = stored.get(purpose) or await self._create(purpose)
            self._keys[purpose] = await self._unwrapped(document)

    async def examine(self) -> list[KeyState]:
        """`status`, once each key has been unwrapped; makes none. Raises as `open` does."""
        for document in await self._stored():
            await self._unwrapped(document)
        return await self.status()

    async def status(self) -> list[KeyState]:
        master = self.wrapper.master
        return [KeyState(d["_id"], d["master"], d["master"] == master, d["created_at"]) for d in await self._stored()]

    async def rotate(self, *, everything: bool = False, advance: Callable[[int], None] = lambda count: None) -> int:
        """Wraps anew what another master key wrapped, or all; how many. Broken off, it goes on where it was: what is
        done is known by its master, and a replica that does the same meanwhile is not overwritten."""
        done = 0
        for document in await self._stored():
            if everything or document["master"] != self.wrapper.master:
                done += await self._rewrap(document)
            advance(1)
        return done

    def renew_token(self, token: str) -> None:
        """Of the keepers that are asked with one."""
        for wrapper in self._wrappers.values():
            wrapper.renew_token(token)

    async def close(self) -> None:
        for wrapper in self._wrappers.values():
            await wrapper.close()

    async def _stored(self) -> list[Document]:
        with translated():
            return [d async for d in self._majority.find({}, sort=[("_id", 1)])]

    async def _create(self, purpose: str) -> Document:
        key = DataKey.new()
        document: Document = {
            "_id": purpose,
            "wrapped": await self.wrapper.wrap(key.material, purpose),
            "master": self.wrapper.master,
            "created_at": datetime.now(UTC),
        }
        with translated():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:  # another replica's start
                found = await self._majority.find_one({"_id": purpose})
                if found is None:
                    raise Unavailable("Another replica makes the data keys; start again.") from None
                return found
        return document

    async def _unwrapped(self, document: Document) -> DataKey:
        return DataKey(await self._keeper(document).unwrap(document["wrapped"], document["_id"]))

    def _keeper(self, document: Document) -> KeyWrapper:
        name = document["master"].partition(":")[0]
        if name not in self._wrappers:
            variable = _VARIABLES.get(name, "MASTER_KEY_PROVIDER")
            raise ConfigurationError(
                f"{variable}: the data key {document['_id']} is wrapped by {name}; it is needed until "
                "`notification-engine keys rotate` has run."
            )
        return self._wrappers[name]

    async def _rewrap(self, document: Document) -> int:
        keeper = self._keeper(document)
        if keeper is self.wrapper:
            wrapped = await keeper.rewrap(document["wrapped"], document["_id"])
        else:
            plain = await keeper.unwrap(document["wrapped"], document["_id"])
            wrapped = await self.wrapper.wrap(plain, document["_id"])
        values: dict[str, Any] = {"wrapped": wrapped, "master": self.wrapper.master, "rewrapped_at": datetime.now(UTC)}
        with translated():
            same = {"_id": document["_id"], "wrapped": document["wrapped"]}
            result = await self._collection.update_one(same, {"$set": values})
        return result.modified_count

    async def _refuse_orphans(self) -> None:
        """Users' keys without the data key that seals them: new ones would hide that the old ones are lost."""
        with translated():
            orphan = await self._users.find_one({}, {"_id": 1})
        if orphan is not None and not await self._stored():
            raise ConfigurationError(
                f"{COLLECTION}: the data keys are gone while users' keys are there; restore a backup that holds both."
            )

    async def _refuse_foreign_secrets(self) -> None:
        """Before the first data keys are made: webhook secrets that an older engine sealed must open with this key."""
        with translated():
            known = await self._endpoints.find_one({"secret": {"$exists": True}}, {"secret": 1})
        if known is not None and self.local is not None:
            self.local.open_legacy(known["secret"])
