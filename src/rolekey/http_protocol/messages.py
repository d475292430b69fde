"""What a responder gets and what it gives: a request without its body, and an answer as bytes (RFC 9110, RFC 9112)."""

import time
from collections.abc import Callable
from http import HTTPStatus

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"

STATUS_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Connection:
    """Both ends of a connection.

    Args:
        local: this end: address and port, as the socket has them; ``("", 0)`` where it is not one of TCP.
        remote: the other end.
    """

    __slots__ = ("accepted", "admitted", "local", "remote")

    def __init__(self, local: tuple[str, int], remote: tuple[str, int]) -> None:
        self.local = local
        self.remote = remote
        #: When it was accepted, in seconds of the monotonic clock.
        self.accepted = time.monotonic()
        #: Whether the one who asks may ask; None until somebody has found out.
        self.admitted: bool | None = None


class Request:
    """One request; nothing of its body is kept.

    Args:
        method: in capitals.
        path: of the target, without the query, %-escapes as they came.
        host: what the target or else the header Host names.
        headers: values by name in lower case; those of one name are joined with ``, ``.
        connection: what it came on.
    """

    __slots__ = ("connection", "headers", "host", "method", "path")

    def __init__(
        self, method: bytes, path: bytes, host: bytes, headers: dict[bytes, bytes], connection: Connection
    ) -> None:
        self.method = method
        self.path = path
        self.host = host
        self.headers = headers
        self.connection = connection


#: Answers one request at once: it may not wait for anything.
Responder = Callable[[Request], bytes]


def answer(status: int, body: bytes = b"", *headers: tuple[bytes, bytes], content_type: bytes = TEXT) -> bytes:
    """A whole answer.

    Args:
        status: the status.
        body: the body.
        headers: further headers.
        content_type: of the body.

    Returns:
        Its bytes; Content-Length and Content-Type are in it.
    """
    fields = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = b"%bcontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (STATUS_LINE[status], content_type, fields, len(body)) + body


def closing(whole: bytes) -> bytes:
    """An answer that says that it is the connection's last.

    Args:
        whole: from answer().
    """
    return whole.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


def without_body(whole: bytes) -> bytes:
    """What is sent of an answer when the request's method is HEAD.

    Args:
        whole: from answer().
    """
    return whole[: whole.index(b"\r\n\r\n") + 4]


def split_target(target: bytes, host: bytes | None) -> tuple[bytes, bytes] | None:
    """The path and the host that a request means (RFC 9112, 3.2).

    Args:
        target: as it stands in the request's line.
        host: the header's value.

    Returns:
        The path without the query, and the host: that of an absolute target, else the header's. None where the target
        is of neither form, or no host or more than one is named.
    """
    if target[:1] != b"/":
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            return None
        host, slash, path = rest.partition(b"/")
        target = slash + path if slash else b"/"
    if not host or b"," in host:  # a comma stands between two headers
        return None
    return target.partition(b"?")[0] if b"?" in target else target, host
