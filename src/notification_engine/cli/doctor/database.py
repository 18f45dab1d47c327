"""Of the database: reachable, a replica set, its members, version and clock; migrations, indexes, data keys."""

from collections.abc import Awaitable, Callable

from notification_engine.cli.doctor.finding import Finding, fail, ok, warn
from notification_engine.domain.errors import ConfigurationError, EngineError, Unavailable
from notification_engine.health.background import MAX_SKEW_SECONDS
from notification_engine.kit.clock import Clock
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import DataKeys
from notification_engine.storage.inspection import ServerState, inspect_server
from notification_engine.storage.migrations import foreign, missing_indexes, pending
from notification_engine.wiring import key_wrappers

OLDEST = (6, 0)  # the guide's; older ones were never tried
UNUSABLE_SKEW_SECONDS = 60.0  # tokens, signatures and providers' time stamps are refused from about here
_WELL = {"PRIMARY", "SECONDARY", "ARBITER"}


async def look_at_database(settings: Settings, url: str) -> list[Finding]:
    database = Database(url, settings.MONGODB_DATABASE, pool_size=2)
    try:
        state = await inspect_server(database)
        found = [ok("database", f"answers, database {database.name}"), look_at_version(state)]
        clock = Clock()
        try:
            await database.synchronise(clock)
        except ConfigurationError as error:
            return [*found, fail("replica set", str(error), "Make it a replica set; nothing else works before.")]
        found += [look_at_members(state), look_at_clock(clock.skew_seconds)]
        for look in (_migrations, _indexes, _data_keys):
            found.append(await _unless_away(look, database, settings))
        return found
    except Unavailable as error:
        todo = "Check MONGODB_URL: host, port, user, password, replicaSet, TLS; the firewall; `mongosh` from here."
        return [fail("database", str(error), todo)]
    finally:
        await database.close()


Look = Callable[[Database, Settings], Awaitable[Finding]]


async def _unless_away(look: Look, database: Database, settings: Settings) -> Finding:
    try:
        return await look(database, settings)
    except Unavailable as error:
        name = look.__name__.strip("_").replace("_", " ")
        return fail(name, str(error), "Give the user of MONGODB_URL the role readWrite on the database.")


def look_at_version(state: ServerState) -> Finding:
    name, told = "mongod version", f"{state.version}, zlib {'on' if state.zlib else 'off'}"
    if state.leaks_by_zlib:
        todo = "Start mongod with --networkMessageCompressors snappy,zstd, or upgrade it; then change its passwords."
        return fail(name, f"{told}: CVE-2025-14847, memory can be read before any log-in", todo)
    if tuple(int(part) for part in state.version.split(".")[:2]) < OLDEST:
        return warn(name, told, "Upgrade to MongoDB 6.0 or newer.")
    return ok(name, told)


def look_at_members(state: ServerState) -> Finding:
    name = "replica set"
    ill = {member: told for member, told in state.members.items() if told not in _WELL}
    if ill:
        told = ", ".join(f"{member} {state}" for member, state in ill.items())
        return warn(
            name, f"{state.replica_set}: {told}", "Bring the member back: one more lost and nothing is accepted."
        )
    if state.hosts < 3:
        todo = "For production take three members: with one, its loss stops the engine."
        return warn(name, f"{state.replica_set}: {state.hosts} member(s)", todo)
    told = "all well" if state.members else "their states need the role clusterMonitor"
    return ok(name, f"{state.replica_set}: {state.hosts} members, {told}")


def look_at_clock(skew_seconds: float) -> Finding:
    name, told = "clock", f"{abs(skew_seconds):.3f} s {'ahead of' if skew_seconds > 0 else 'behind'} the database"
    todo = "Let chrony or systemd-timesyncd set both clocks."
    if abs(skew_seconds) > UNUSABLE_SKEW_SECONDS:
        return fail(name, told, todo)
    return warn(name, told, todo) if abs(skew_seconds) > MAX_SKEW_SECONDS else ok(name, told)


async def _migrations(database: Database, _: Settings) -> Finding:
    waiting, newer = await pending(database), await foreign(database)
    if newer:
        todo = "Nothing, if this is a roll-back (docs/upgrades.md); else start the newer version."
        return warn("migrations", f"a newer version has run {', '.join(newer)}", todo)
    if waiting:
        todo = "They run at the next start, or now: `notification-engine init-db`."
        return warn("migrations", f"not run yet: {', '.join(waiting)}", todo)
    return ok("migrations", "all have run")


async def _indexes(database: Database, _: Settings) -> Finding:
    missing = await missing_indexes(database)
    if missing and not await pending(database):
        return fail("indexes", f"missing: {', '.join(missing)}", "`notification-engine init-db --again` makes them.")
    if missing:
        return warn("indexes", f"{len(missing)} are made by the migrations that wait", "`notification-engine init-db`.")
    return ok("indexes", "all are there")


async def _data_keys(database: Database, settings: Settings) -> Finding:
    keys, name = DataKeys(database, key_wrappers(settings)), "data keys"
    try:
        states = await keys.examine()
    except (ConfigurationError, EngineError) as error:
        todo = "Give the master key that wrapped them (docs/secrets.md); no engine starts without it."
        return fail(name, str(error), todo)
    finally:
        await keys.close()
    if not states:
        return ok(name, "none yet; the first start makes them")
    if old := [state.purpose for state in states if not state.current]:
        return warn(name, f"another master key wraps {', '.join(old)}", "`notification-engine keys rotate`.")
    return ok(name, f"{len(states)} open with {keys.wrapper.master}")
