"""Plays what `frames` draws to a real engine over real sockets of two users, and looks at all that comes back.

Found are: a frame with another user's mark, a session that is refused nothing and yet gets nothing, a defect in the
engine's log, memory that grows, and a third user's inbox that anything of this has changed.
"""

import contextlib
import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.fuzz.frames import USERS, Frame, Play, plays
from tests.fuzz.world import API, ClosedEngine, token
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from notification_engine.domain.caller import Role

BYSTANDER = "carol"
LENGTH = 24
WAIT_SECONDS = 20
BROKEN_SECONDS = 0.2
MARKS = {name: f"mark-of-{name}" for name in (*USERS, BYSTANDER)}
NOTHING = "ntfy_" + "0" * 26


@dataclass
class Known:
    """What a user's client knows after its first frames: its own ids and cursor."""

    ids: list[str] = field(default_factory=list)
    cursor: str = ""


class Player:
    """`messages` counts what was written into a socket. `problems` says what is wrong, without any frame's content."""

    def __init__(self, engine: ClosedEngine) -> None:
        self.engine = engine
        self.messages = 0
        self.frames = 0
        self.survived = 0
        self.known = {name: Known() for name in MARKS}
        self.resident: list[int] = []
        self._broken: set[ClientConnection] = set()

    def furnish(self) -> None:
        for name in MARKS:
            for _ in range(3):
                self.known[name].ids.append(self.notify(name, "furnished"))

    def notify(self, user: str, title: str) -> str:
        body = {
            "notification_type": "test.message",
            "recipients": [{"user_id": user}],
            "title": f"{title} {MARKS[user]}",
            "body": MARKS[user],
            "channels": ["in_app"],
        }
        return str(self.ask("POST", "", token("service", Role.SERVICE), body)["notifications"][0]["notification_id"])

    def ask(self, method: str, path: str, as_: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # the engine's own address
            f"{self.engine.address}{API}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {as_}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            return json.load(answer)

    def unread(self, user: str) -> int:
        return int(self.ask("GET", "/unread-count", token(user, Role.USER))["unread_count"])

    def play(self, chosen: Play) -> None:
        with contextlib.ExitStack() as stack:
            sockets = [self.opened(i, chosen.openings[i], stack) for i in (0, 1)]
            for who, frame in chosen.steps:
                if (socket := sockets[who]) is not None and not self.send(socket, who, frame):
                    self.drain(socket, who)
                    sockets[who] = None
            for who, socket in enumerate(sockets):
                if socket is None or chosen.openings[who] == "none":
                    continue
                if socket in self._broken:
                    self.look(socket, who)
                else:
                    self.finish(socket, who)
            self._broken.clear()
        assert self.engine.alive, "the engine has ended"
        assert not self.engine.defects(), self.engine.defects()[:3]

    def opened(self, who: int, opening: str, stack: contextlib.ExitStack) -> ClientConnection | None:
        """The socket; None when it was refused, which only a right opening may not be."""
        user, other = USERS[who], USERS[1 - who]
        own = token(user, Role.USER)
        protocols = {"subprotocol": own, "junk": "x.y.z"}
        query = {
            "ticket": lambda: f"?ticket={self.ticket(user)}",
            "foreign-ticket": lambda: f"?ticket={'0' * 43}",
            "query": lambda: f"?token={own}",
        }
        subprotocols = [Subprotocol("bearer"), Subprotocol(protocols[opening])] if opening in protocols else None
        address = self.engine.address.replace("http", "ws") + f"{API}/ws" + query.get(opening, str)()
        try:
            socket = stack.enter_context(
                connect(address, subprotocols=subprotocols, proxy=None, close_timeout=0.5, max_size=None)
            )
        except (InvalidHandshake, InvalidMessage):
            assert opening not in {"subprotocol", "message", "ticket"}, f"{opening} was refused"
            return None
        if opening == "message":
            socket.send(json.dumps({"type": "auth", "token": own}))
        if opening in {"subprotocol", "message", "ticket"}:
            hello = self.received(socket, who)
            assert hello["type"] == "hello", f"{user} was not greeted but told {hello['type']}"
            self.known[user].cursor = hello["cursor"]
        elif opening in {"junk", "foreign-ticket", "query"}:
            self.drain(socket, who)
            return None
        assert self.known[other].ids
        return socket

    def ticket(self, user: str) -> str:
        return str(self.ask("POST", "/ws/ticket", token(user, Role.USER))["ticket"])

    def send(self, socket: ClientConnection, who: int, frame: Frame) -> bool:
        """Whether the socket is still open."""
        data = self.filled(frame.data, who)
        self.messages += 1
        try:
            if frame.kind == "raw":
                self._broken.add(socket)
                socket.socket.sendall(data)
            else:
                socket.send(data, text=frame.kind == "text")
            return True
        except (ConnectionClosed, OSError):
            return False

    def filled(self, data: bytes, who: int) -> bytes:
        if b"<" not in data:
            return data
        user, other = USERS[who], USERS[1 - who]
        values = {
            b"<own>": self.known[user].ids[-1],
            b"<foreign>": self.known[BYSTANDER].ids[self.messages % 3],
            b"<ticket>": "0" * 43,
            b"<token>": token(user, Role.USER),
            b"<foreign-token>": token(other, Role.USER),
            b"<cursor>": self.known[user].cursor,
            b"<foreign-cursor>": self.known[other].cursor,
        }
        for place, value in values.items():
            data = data.replace(place, value.encode())
        return data

    def finish(self, socket: ClientConnection, who: int) -> None:
        """Who was not closed is told of what is sent to it now. Then everything else is read, to the end."""
        new = self.notify(USERS[who], "last")
        self.known[USERS[who]].ids = [*self.known[USERS[who]].ids[-9:], new]
        try:
            while True:
                frame = self.received(socket, who)
                if frame["type"] == "notification" and frame["notification"]["notification_id"] == new:
                    self.survived += 1
                    break
        except ConnectionClosed:
            return
        with contextlib.suppress(ConnectionClosed, OSError):
            socket.close()
        self.drain(socket, who)

    def look(self, socket: ClientConnection, who: int) -> None:
        """What has come to a client that broke the framing. The server waits 10 s for its reply before it hangs up."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            while True:
                self.received(socket, who, BROKEN_SECONDS)

    def drain(self, socket: ClientConnection, who: int) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.received(socket, who)

    def received(self, socket: ClientConnection, who: int, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The next frame. Raises ConnectionClosed, and TimeoutError when the engine leaves the socket hanging."""
        text = socket.recv(timeout=seconds)
        self.frames += 1
        assert isinstance(text, str), "a binary frame came"
        for name, mark in MARKS.items():
            assert name == USERS[who] or mark not in text, f"{USERS[who]} was sent something of {name}"
        frame = json.loads(text)
        assert isinstance(frame, dict)
        if frame["type"] == "notification":
            assert frame["notification"]["notification_id"].startswith("ntfy_")
        return frame


def fuzz(player: Player, messages: int, number: int) -> None:
    """Plays until so many messages were sent, the same at every run with one number. The memory is noted after each
    round."""
    player.furnish()
    before = player.unread(BYSTANDER)
    rounds = 0
    while player.messages < messages:
        examples = max(10, (messages - player.messages) // LENGTH)
        _round(player, min(examples, 60), number + rounds)()
        rounds += 1
        player.resident.append(player.engine.resident_bytes())
    assert player.unread(BYSTANDER) == before, "somebody has marked what is another's"


def grown_bytes(resident: list[int]) -> int:
    """From the end of the warm-up, a fifth of the rounds, to the end."""
    return resident[-1] - resident[len(resident) // 5]


def _round(player: Player, examples: int, number: int) -> Any:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a play has effects: what fails is printed as it was played
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(plays(LENGTH))
    def played(chosen: Play) -> None:
        player.play(chosen)

    return played
