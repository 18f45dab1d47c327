"""`python -m tests.fuzz [--seed N] [--examples N] [--messages N]`: both fuzzers at full counts, and what they did."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import http, sockets
from tests.fuzz.world import USER, ClosedEngine, token, world

from notification_engine.domain.caller import Role
from notification_engine.storage.embedded import EmbeddedMongod, find_binary

MIN_CASES = 5000
MAX_GROWTH = 64 * 1024 * 1024
PHASES = "examples,coverage,fuzzing,stateful"


async def fuzz_http(engine: ClosedEngine, directory: Path, options: argparse.Namespace) -> list[str]:
    """As somebody with every role, then as a mere user. The problems."""
    problems, cases = [], 0
    for roles in (tuple(Role), (Role.USER,)):
        as_ = token(USER, *roles)
        tally = await http.fuzz(engine, directory, as_, PHASES, seed=options.seed, examples=options.examples)
        cases += tally.cases
        print(f"HTTP as {'+'.join(roles)}: {tally.cases} cases, {'nothing' if tally.code == 0 else 'FAULTS'} found")
        if tally.code != 0:
            print("\n".join(line[:1000] for line in tally.output.splitlines()))
            problems.append(f"schemathesis ended with {tally.code}")
        if len(roles) > 1:
            wanted = http.acceptable(await http.document_of(engine))
            missed = sorted(tally.never_reached(wanted))
            problems += [f"never reached: {label}" for label in missed if "{" not in label]
            print("Never reached, for want of an id that exists:", *[label for label in missed if "{" in label])
    if cases < MIN_CASES:
        problems.append(f"only {cases} cases")
    return problems


def fuzz_sockets(engine: ClosedEngine, options: argparse.Namespace) -> list[str]:
    player = sockets.Player(engine)
    sockets.fuzz(player, options.messages, options.seed)
    grown = sockets.grown_bytes(player.resident)
    print(f"WebSocket: {player.messages} messages, {player.frames} frames came, {player.survived} sessions survived")
    print(f"Memory: {grown / 2**20:+.1f} MiB from the warm-up to {player.resident[-1] / 2**20:.0f} MiB at the end")
    return [f"the memory grew by {grown} bytes"] if grown > MAX_GROWTH else []


async def main(options: argparse.Namespace) -> int:
    print(f"Seed {options.seed}; the same again: python -m tests.fuzz --seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "mongod").mkdir()
        server = EmbeddedMongod(directory / "mongod", find_binary(None))
        try:
            async with world(directory, await server.start()) as engine:
                problems = await fuzz_http(engine, directory, options)
                problems += await asyncio.to_thread(fuzz_sockets, engine, options)
                problems += engine.defects()
        finally:
            await server.stop()
    print(*problems, f"{len(problems)} problems, {time.monotonic() - started:.0f} s", sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzing of HTTP and WebSocket.")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, for each operation and phase")
    parser.add_argument("--messages", type=int, default=10_000, help="of WebSocket clients")
    sys.exit(asyncio.run(main(parser.parse_args())))
