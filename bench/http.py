"""Just enough HTTP/1.1 for the load generator and the receiver: one message at a time on a kept connection."""


class Framer:
    """Cuts complete messages out of what arrives; chunked bodies are not known here and not sent by either side."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The heads of the messages that are complete now."""
        self._buffer = self._buffer + data if self._buffer else data
        heads = []
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            whole = end + 4 + _content_length(head)
            if len(self._buffer) < whole:
                break
            heads.append(head)
            self._buffer = self._buffer[whole:]
        return heads


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def request(host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
