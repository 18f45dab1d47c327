"""The pool of child processes that compile and render, off the event loop, in batches.

Invariant: no template can stop another's messages. A child that dies is replaced by one that waits already; what it
left unanswered is tried once more alone, aside, and only what kills its child alone is to blame. A template that stops
at its limits `STRIKES` times without a success between is refused at once for a while.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from notification_engine.domain.errors import Unavailable
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.kit.logging import get_logger
from notification_engine.rendering.worker import Frame, encode_frame

MAX_BATCH = 32
MAX_WAITING = 10_000
MAX_ASIDE = 1000
KEEP = 200  # templates that a child remembers; below the worker's own bound
START_SECONDS = 30.0
STRIKES = 3
BAN_SECONDS = 60.0
MAX_SUSPECTS = 1000

log = get_logger("rendering")


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """For one job: memory beyond the child's own, processor time, and time on the wall for a busy machine."""

    processes: int = 2
    memory_mb: int = 128
    cpu_seconds: float = 0.5
    wall_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """`name` is the template to blame; `parts` are sent to a child that does not know `digest` yet; `patience`
    multiplies the limits of time."""

    name: str
    frame: Frame
    digest: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    patience: float = 1.0


_DIED: Frame = {"error": "it passed the limits of memory or time", "safe": "limits passed", "limit": True}
_BANNED: Frame = {"error": "it keeps passing its limits", "safe": "limits passed before", "limit": True}


class Child:
    """One process. `ask` answers one frame a job, fewer when it died or took too long."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._known: OrderedDict[str, None] = OrderedDict()

    @classmethod
    async def start(cls, limits: PoolLimits) -> "Child":
        """Its environment holds no secret: only where to find the modules."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "notification_engine.rendering.worker",
            str(limits.memory_mb),
            str(limits.cpu_seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONUTF8": "1"},
            start_new_session=True,
        )
        child = cls(process)
        if await child._read(START_SECONDS) is None:
            await child.end()
            raise OSError("a rendering process did not start")
        return child

    @property
    def dead(self) -> bool:
        """While nothing was asked of it: killed from outside."""
        assert self._process.stdout is not None
        return self._process.returncode is not None or self._process.stdout.at_eof()

    async def ask(self, jobs: Sequence[Job], wall_seconds: float) -> list[Frame]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(self._encoded(job) for job in jobs))
        answers: list[Frame] = []
        while len(answers) < len(jobs) and (answer := await self._read(wall_seconds)) is not None:
            answers.append(answer)
        return answers

    def _encoded(self, job: Job) -> bytes:
        """The parts of a template travel once; the child forgets what this end says, and nothing else."""
        frame = job.frame | {"patience": job.patience}
        if job.digest is not None:
            frame = frame | {"digest": job.digest}
            if job.digest not in self._known:
                frame["put"] = job.parts
            self._known[job.digest] = None
            self._known.move_to_end(job.digest)
            if len(self._known) > KEEP:
                frame["forget"] = [self._known.popitem(last=False)[0]]
        return encode_frame(frame)

    def distrust(self, digest: str | None) -> None:
        """The child could not take these parts: they are to travel again."""
        if digest is not None:
            self._known.pop(digest, None)

    async def _read(self, seconds: float) -> Frame | None:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                head = await self._process.stdout.readexactly(4)
                frame: Frame = orjson.loads(await self._process.stdout.readexactly(int.from_bytes(head)))
                return frame
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return None

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Pool:
    """Starts with its first job: who sends no template pays nothing."""

    def __init__(self, limits: PoolLimits | None = None) -> None:
        self.limits = limits or PoolLimits()
        self.replaced = 0
        self._idle: asyncio.Queue[Child] = asyncio.Queue()
        self._starting: set[asyncio.Task[None]] = set()
        self.started = False
        self._closed = False
        self._suspects: OrderedDict[str, tuple[int, float]] = OrderedDict()  # strikes, banned until
        self._lane: Batcher[Job, Frame] = Batcher(
            self._flush, max_batch=MAX_BATCH, max_waiting=MAX_WAITING, concurrency=self.limits.processes
        )
        self._aside: Batcher[Job, Frame] = Batcher(self._flush_aside, max_batch=1, max_waiting=MAX_ASIDE)

    async def run(self, job: Job, *, aside: bool = False) -> Frame:
        """The child's answer, `ok` or `error`. `aside`: for what authors do, behind nobody's messages.

        Raises Unavailable: too many wait, or no child can be started."""
        self._begin()
        strikes, until = self._suspects.get(job.name, (0, 0.0))
        if until > time.monotonic():
            return _BANNED
        try:
            answer = None if aside or strikes else await self._lane.submit(job)
            if answer is None or answer is _DIED:
                return await self._aside.submit(job)
        except QueueFull as error:
            raise Unavailable("Too many messages wait to be rendered.") from error
        self._judge(job.name, limited=bool(answer.get("limit")))
        return answer

    async def close(self) -> None:
        self._closed = True
        await self._lane.drain()
        await self._aside.drain()
        if self._starting:  # not cancelled: a process that is half started would be left behind
            await asyncio.wait(self._starting)
        while not self._idle.empty():
            await self._idle.get_nowait().end()

    def _begin(self) -> None:
        if not self.started:
            self.started = True
            for _ in range(self.limits.processes + 2):  # one aside, one that waits for the death of another
                self._spawn()

    def _spawn(self) -> None:
        if not self._closed:
            task = asyncio.create_task(self._start())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        while not self._closed:
            try:
                self._idle.put_nowait(await Child.start(self.limits))
                return
            except OSError as error:
                log.error("A rendering process could not be started; tried again", error=type(error).__name__)
                await asyncio.sleep(1.0)

    async def _child(self) -> Child:
        try:
            async with asyncio.timeout(START_SECONDS):
                while (child := await self._idle.get()).dead:  # no template is to blame
                    await self._replace(child)
                return child
        except TimeoutError:
            raise Unavailable("No rendering process could be started.") from None

    async def _flush(self, jobs: list[Job]) -> list[Frame | BaseException]:
        """What a dead child left goes on in the next one, but for the job that it died on and others of that template:
        these are answered `_DIED` and tried aside."""
        answers: dict[int, Frame] = {}
        blamed = set(self._suspects)
        while rest := [i for i in range(len(jobs)) if i not in answers]:
            if suspected := [i for i in rest if jobs[i].name in blamed]:
                answers |= dict.fromkeys(suspected, _DIED)
                continue
            got = await self._asked(await self._child(), [jobs[i] for i in rest])
            answers |= dict(zip(rest, got, strict=False))
            if len(got) < len(rest):
                blamed.add(jobs[rest[len(got)]].name)
        return [answers[i] for i in range(len(jobs))]

    async def _flush_aside(self, jobs: list[Job]) -> list[Frame | BaseException]:
        """One at a time. Many may wait here when the verdict on their template falls."""
        [job] = jobs
        if self._suspects.get(job.name, (0, 0.0))[1] > time.monotonic():
            return [_BANNED]
        answer = next(iter(await self._asked(await self._child(), jobs)), _DIED)
        self._judge(job.name, limited=bool(answer.get("limit")))
        return [answer]

    async def _asked(self, child: Child, jobs: Sequence[Job]) -> list[Frame]:
        try:
            got = await child.ask(jobs, self.limits.wall_seconds * max(job.patience for job in jobs))
        except BaseException:
            await self._replace(child)
            raise
        for job, answer in zip(jobs, got, strict=False):
            if "error" in answer:
                child.distrust(job.digest)
        if len(got) < len(jobs):
            await self._replace(child)
        else:
            self._idle.put_nowait(child)
        return got

    async def _replace(self, child: Child) -> None:
        self.replaced += 1
        self._spawn()
        await child.end()

    def _judge(self, name: str, *, limited: bool) -> None:
        if not limited:
            self._suspects.pop(name, None)
            return
        strikes = self._suspects.get(name, (0, 0.0))[0] + 1
        banned = time.monotonic() + BAN_SECONDS if strikes >= STRIKES else 0.0
        self._suspects[name] = (strikes, banned)
        self._suspects.move_to_end(name)
        while len(self._suspects) > MAX_SUSPECTS:
            self._suspects.popitem(last=False)
        if banned:
            log.warning("A template keeps passing its limits and is refused for a while", template=name)
