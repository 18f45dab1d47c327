"""What sealing costs a notification, by itself: `python -m bench.sealing`. With the path of a Python that has
pymongocrypt, the same for the driver's own field level encryption: `python -m bench.sealing /venv/bin/python`."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from notification_engine.domain.delivery import Channel, Delivery
from notification_engine.domain.notification import Notification, Priority
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_id
from notification_engine.security.envelope import DataKey, Sealer
from notification_engine.storage.codec import encode, to_document
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import EmbeddedMongod, find_binary
from notification_engine.storage.migrations import migrate
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.sealing import Sealing, _opened, _sealed
from notification_engine.storage.user_keys import UserKeys

COUNT = 5_000
BATCHES = 100
MASTER = DataKey.new()
CSFLE = """
import os, time, bson
from pymongocrypt.mongocrypt import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback
keys = []
class Callback(MongoCryptCallback):
    def kms_request(self, ctx): raise AssertionError
    def collection_info(self, db, f): return None
    def mark_command(self, db, c): raise AssertionError
    def fetch_keys(self, f): yield from keys
    def insert_data_key(self, k): keys.append(bytes(k)); return bson.decode(k)["_id"]
    def bson_encode(self, d): return bson.encode(d)
    def close(self): pass
e = ExplicitEncrypter(Callback(), MongoCryptOptions({"local": {"key": os.urandom(96)}}))
key = e.create_data_key("local")
value = bson.encode({"v": "ada@example.org"})
algorithm = "AEAD_AES_256_CBC_HMAC_SHA_512-Random"

def measured(name, work):
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            work()
        best = min(best, time.perf_counter() - start)
    print(f"pymongocrypt, {name}: {best / 2000 * 1e6:.1f} us")

sealed = e.encrypt(value, algorithm, key_id=bytes(key))
measured("one field sealed, key kept", lambda: e.encrypt(value, algorithm, key_id=bytes(key)))
measured("one field opened, key kept", lambda: e.decrypt(sealed))
measured("a data key made (one a user)", lambda: e.create_data_key("local"))
print(f"pymongocrypt, one field: {len(bson.decode(sealed)['v'])} bytes")
"""


def a_notification(*, sensitive: bool) -> Notification:
    now = datetime.now(UTC)
    address = "ada@example.org"
    delivery = Delivery("dlv_01kb0c5s2m8v7k3r9x4w6y1z0a_0", Channel.EMAIL, endpoint=address, created_at=now)
    return Notification(
        id="ntfy_01kb0c5s2m8v7k3r9x4w6y1z0a",
        event_id="evt_01kb0c5s2m8v7k3r9x4w6y1z0a",
        user_id="u1",
        notification_type="test_execution.completed",
        priority=Priority.HIGH,
        title="Run 4711 passed",
        body="148 of 148 tests passed.",
        channels=[Channel.EMAIL],
        created_at=now,
        data={"run": 4711},
        email=address,
        deliveries=[delivery],
        sensitive=sensitive,
    )


def measured(name: str, work: Callable[[], object]) -> None:
    """The best of five, because the machine may have other work."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(COUNT):
            work()
        best = min(best, time.perf_counter() - started)
    print(f"{name}: {best / COUNT * 1e6:.1f} us")


async def stored() -> None:
    """Group commits of 100 on a replica set of its own: in clear, of users who are known, and of new ones."""
    with tempfile.TemporaryDirectory() as directory:
        mongod = EmbeddedMongod(Path(directory), find_binary(None))
        database = Database(await mongod.start(), "bench", pool_size=4)
        try:
            await migrate(database)
            keys = UserKeys(database, Sealer("bench", lambda: MASTER))
            clear, sealing = (
                Notifications(database, Clock(), max_waiting_bytes=1 << 26, sealing=s) for s in (None, Sealing(keys))
            )
            for name, store, users in (
                ("in clear", clear, "a"),
                ("new users", sealing, "b"),
                ("known users", sealing, "b"),
            ):
                started = time.perf_counter()
                for batch in range(BATCHES):
                    given = [
                        replace(a_notification(sensitive=False), id=new_id("ntfy"), user_id=f"{users}{batch}-{i}")
                        for i in range(100)
                    ]
                    await store.insert([row for found in await store.encoded([given]) for row in found])
                per_one = (time.perf_counter() - started) / BATCHES / 100
                print(f"stored, {name}: {per_one * 1e6:.0f} us a notification, {1 / per_one:.0f}/s")
        finally:
            await database.close()
            await mongod.stop()


def main() -> None:
    asyncio.run(stored())
    key, plain, secret = DataKey.new(), a_notification(sensitive=False), a_notification(sensitive=True)
    stored_plain, stored_secret = _sealed(plain, key), _sealed(secret, key)
    place = ("address", "u1", plain.id)
    sealed = key.seal(b"ada@example.org", *place)
    measured("a document in clear, encoded", lambda: encode(to_document(plain)))
    measured("with its address sealed", lambda: encode(_sealed(plain, key)))
    measured("with address and texts sealed", lambda: encode(_sealed(secret, key)))
    measured("opened: address", lambda: _opened(stored_plain, {"u1": key}))
    measured("opened: address and texts", lambda: _opened(stored_secret, {"u1": key}))
    measured("one field sealed", lambda: key.seal(b"ada@example.org", *place))
    measured("one field opened", lambda: key.open(sealed, *place))
    print(f"one field: {len(sealed)} bytes")
    if len(sys.argv) > 1:
        subprocess.run([sys.argv[1], "-c", CSFLE], check=True)


if __name__ == "__main__":
    main()
