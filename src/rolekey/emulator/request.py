"""CreateSession as it stands on the wire, taken apart and validated (AWS authentication-create-session).

The three ARNs and the other members come in the query, in the JSON body, or in both. Which one the service prefers when
they differ is not known, so that is refused.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from rolekey.emulator.model import MAXIMUM_DURATION, MINIMUM_DURATION
from rolekey.emulator.refusals import Reason, Refusal

_SINGLE_HEADERS = ("host", "content-type", "authorization", "x-amz-date", "x-amz-x509", "x-amz-x509-chain")
_ARN_PATTERNS = {
    "profileArn": r"arn:aws(-[^:]+)?:rolesanywhere(:.*){2}(:profile.*)",
    "roleArn": r"arn:aws(-[^:]+)?:iam(:.*){2}(:role.*)",
    "trustAnchorArn": r"arn:aws(-[^:]+)?:rolesanywhere(:.*){2}(:trust-anchor.*)",
}
_MAXIMUM_ARN = 1011
_SESSION_NAME_PATTERN = "[a-zA-Z0-9_=,.@-]*"
_SESSION_NAME_LENGTHS = (2, 64)  # STS's
_PROPERTIES = 50
_PROPERTY_LENGTHS = (1, 200)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAMES = ("durationSeconds", "roleSessionName", "sessionName", "instanceProperties", *_ARN_PATTERNS)


@dataclass(frozen=True)
class WireRequest:
    """An HTTP request.

    Args:
        method: such as ``POST``.
        raw_path: as sent, still percent-encoded.
        raw_query: as sent, without the question mark.
        headers: names in lower case, values as sent, in order, repeated ones repeated.
        body: the body, without any transfer coding.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True)
class CreateSession:
    """What a request asks for, validated by itself.

    Args:
        wire: the request.
        headers: one text for each header name in lower case; repeated headers are joined with commas.
        query: the form-decoded query, in order.
        trust_anchor_arn: well formed.
        profile_arn: well formed.
        role_arn: well formed.
        duration_seconds: 900 to 43200, None when not asked for.
        role_session_name: valid, None when not asked for.
    """

    wire: WireRequest
    headers: Mapping[str, str] = field(repr=False)
    query: Sequence[tuple[str, str]]
    trust_anchor_arn: str
    profile_arn: str
    role_arn: str
    duration_seconds: int | None
    role_session_name: str | None


def parse(wire: WireRequest) -> CreateSession:
    """Take a request apart.

    Args:
        wire: the request.

    Returns:
        What it asks for.

    Raises:
        Refusal: it is malformed, or a member breaks its constraint.
    """
    headers = _headers(wire.headers)
    query = form_decode(wire.raw_query)
    members = _merge(_query_members(query), _body_members(wire.body))
    _instance_properties(members.get("instanceProperties"))
    return CreateSession(
        wire=wire,
        headers=headers,
        query=query,
        trust_anchor_arn=_arn(members, "trustAnchorArn"),
        profile_arn=_arn(members, "profileArn"),
        role_arn=_arn(members, "roleArn"),
        duration_seconds=_duration(members.get("durationSeconds")),
        role_session_name=_session_name(members),
    )


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in headers:
            if name in _SINGLE_HEADERS:
                raise Refusal(Reason.DUPLICATE_HEADER, header=name)
            value = f"{headers[name]},{value}"
        headers[name] = value
    return headers


def form_decode(raw: bytes) -> list[tuple[str, str]]:
    """Decode ``application/x-www-form-urlencoded`` strictly.

    Args:
        raw: the query as sent.

    Returns:
        Names and values in order; ``+`` and ``%20`` are both a space.

    Raises:
        Refusal: an escape is cut off, a pair is empty, or a text is not UTF-8.
    """
    if not raw:
        return []
    pairs = []
    for pair in raw.split(b"&"):
        if not pair or _BAD_ESCAPE.search(pair):
            raise Refusal(Reason.MALFORMED_QUERY, "an empty pair or a bad escape")
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        try:
            pairs.append((unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()))
        except UnicodeDecodeError as error:
            raise Refusal(Reason.MALFORMED_QUERY, "not UTF-8") from error
    return pairs


def _query_members(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in query:
        if name not in _NAMES:
            continue
        if name in members:
            raise Refusal(Reason.CONTRADICTION, "twice in the query", field=name)
        members[name] = int(value) if name == "durationSeconds" and re.fullmatch(r"[0-9]{1,9}", value) else value
    return members


def _body_members(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        document = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(Reason.MALFORMED_BODY, str(error)) from error
    if not isinstance(document, dict):
        raise Refusal(Reason.MALFORMED_BODY, "JSON, but not an object")
    return {name: value for name, value in document.items() if name in _NAMES and value is not None}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _merge(query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    for name in query.keys() & body.keys():
        if query[name] != body[name]:
            raise Refusal(Reason.CONTRADICTION, "query and body differ", field=name)
    return query | body


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refusal(Reason.WRONG_TYPE, value=_quoted(value), field=name, constraint="a string")
    return value


def _quoted(value: Any) -> str:
    if isinstance(value, dict | list):
        return "'...'"  # may be nested deeper than it could be written
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text[:200]}'"


def _arn(members: Mapping[str, Any], name: str) -> str:
    if name not in members:
        raise Refusal(Reason.MISSING, value="null", field=name)
    value = _text(name, members[name])
    # The length first: these patterns take time that grows with its square.
    if len(value) > _MAXIMUM_ARN:
        raise Refusal(Reason.LENGTH, value=_quoted(value), field=name, constraint=f"1 and {_MAXIMUM_ARN}")
    if not re.fullmatch(_ARN_PATTERNS[name], value):
        raise Refusal(Reason.PATTERN, value=_quoted(value), field=name, constraint=_ARN_PATTERNS[name])
    return value


def _duration(value: Any) -> int | None:
    if value is None:
        return None
    # Envoy sends 3600.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(Reason.WRONG_TYPE, value=_quoted(value), field="durationSeconds", constraint="an integer")
    shown = f"'{value}'" if abs(value) < 10**18 else "'...'"
    if value > MAXIMUM_DURATION:
        raise Refusal(Reason.TOO_LARGE, value=shown, field="durationSeconds", constraint=str(MAXIMUM_DURATION))
    if value < MINIMUM_DURATION:
        raise Refusal(Reason.TOO_SMALL, value=shown, field="durationSeconds", constraint=str(MINIMUM_DURATION))
    return value


def _session_name(members: Mapping[str, Any]) -> str | None:
    # sessionName is the deprecated name of the same member.
    given = {_text(name, members[name]) for name in ("roleSessionName", "sessionName") if name in members}
    if not given:
        return None
    if len(given) > 1:
        raise Refusal(Reason.CONTRADICTION, "sessionName differs", field="roleSessionName")
    (value,) = given
    if not re.fullmatch(_SESSION_NAME_PATTERN, value):
        raise Refusal(Reason.PATTERN, value=_quoted(value), field="roleSessionName", constraint=_SESSION_NAME_PATTERN)
    shortest, longest = _SESSION_NAME_LENGTHS
    if not shortest <= len(value) <= longest:
        raise Refusal(
            Reason.LENGTH, value=_quoted(value), field="roleSessionName", constraint=f"{shortest} and {longest}"
        )
    return value


def _instance_properties(value: Any) -> None:
    if value is None:
        return
    shortest, longest = _PROPERTY_LENGTHS
    if (
        not isinstance(value, dict)
        or len(value) > _PROPERTIES
        or not all(isinstance(v, str) for v in value.values())
        or not all(shortest <= len(text) <= longest for pair in value.items() for text in pair)
    ):
        raise Refusal(
            Reason.WRONG_TYPE,
            value=_quoted(value),
            field="instanceProperties",
            constraint=f"at most {_PROPERTIES} pairs of strings of {shortest} to {longest} characters",
        )
