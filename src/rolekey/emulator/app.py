"""The ASGI application: POST /sessions, also under a path prefix, answered in the service's form (AWS restJson1)."""

import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from rolekey.emulator.decision import Clock, Findings, decide
from rolekey.emulator.model import Configuration
from rolekey.emulator.refusals import Reason, Refusal
from rolekey.emulator.request import CreateSession, WireRequest, parse
from rolekey.emulator.session import Mint, TemporaryCredentials, document, mint_random

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: Takes what one request came to: JSON types only, without anything secret.
Record = Callable[[dict[str, Any]], None]

_PATH = b"/sessions"
_MAXIMUM_BODY = 1024 * 1024


def utc_now() -> datetime:
    """The time.

    Returns:
        An aware time.
    """
    return datetime.now(UTC)


class Emulator:
    """A local IAM Roles Anywhere, as an ASGI application.

    Args:
        configuration: trust anchors, profiles and roles.
        clock: the time, aware.
        mint: makes the credentials of a session.
        record: is called once for each request.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        clock: Clock = utc_now,
        mint: Mint = mint_random,
        record: Record | None = None,
    ) -> None:
        self._configuration = configuration
        self._clock = clock
        self._mint = mint
        self._record = record

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3.0)."""
        if scope["type"] != "http":
            return
        now = self._clock().astimezone(UTC)
        body = await _body(receive)
        if body is None:
            return
        raw_path = scope.get("raw_path") or scope["path"].encode()
        wire = WireRequest(scope["method"], raw_path, scope["query_string"], tuple(scope["headers"]), body)
        status, error_type, request_id, answer = await self._answer(wire, now)
        content = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"date", format_datetime(now, usegmt=True).encode()),
            (b"x-amzn-requestid", request_id.encode()),
        ]
        if error_type:
            headers.append((b"x-amzn-errortype", error_type.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, wire: WireRequest, now: datetime) -> tuple[int, str | None, str, dict[str, Any]]:
        """Status, error type, request id and body."""
        request_id = str(uuid.uuid4())
        findings = Findings()
        request: CreateSession | None = None
        try:
            _check_form(wire)
            request = parse(wire)
            session = decide(request, self._configuration, now, findings)
            minted = self._mint(session)
            credentials = minted if isinstance(minted, TemporaryCredentials) else await minted
        except Refusal as refusal:
            self._note(now, request_id, request, findings, refusal)
            return refusal.status, refusal.error_type, request_id, {"message": refusal.message}
        self._note(now, request_id, request, findings, None)
        return 201, None, request_id, document(session, credentials)

    def _note(
        self,
        now: datetime,
        request_id: str,
        request: CreateSession | None,
        findings: Findings,
        refusal: Refusal | None,
    ) -> None:
        if self._record is None:
            return
        self._record(
            {
                "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "request_id": request_id,
                "status": refusal.status if refusal else 201,
                "error": refusal.error_type if refusal else None,
                "message": refusal.message if refusal else None,
                "detail": refusal.detail or None if refusal else None,
                "trust_anchor_arn": request.trust_anchor_arn if request else None,
                "profile_arn": request.profile_arn if request else None,
                "role_arn": request.role_arn if request else None,
                **vars(findings),
            }
        )


def _check_form(wire: WireRequest) -> None:
    if wire.method != "POST" or not wire.raw_path.startswith(b"/") or not wire.raw_path.endswith(_PATH):
        raise Refusal(Reason.UNKNOWN_OPERATION)
    if len(wire.body) > _MAXIMUM_BODY:
        raise Refusal(Reason.BODY_TOO_LARGE)


async def _body(receive: Receive) -> bytes | None:
    """The whole body, one byte more than is allowed when there is too much of it, None when the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > _MAXIMUM_BODY:
            return bytes(body[: _MAXIMUM_BODY + 1])
