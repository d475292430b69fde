"""The instance metadata service, version 2, as far as SDKs get credentials from it (EC2 user guide, IMDSv2).

A client asks for a token with PUT, and shows it for everything else. A token holds the time of its end and a keyed hash
(BLAKE2s, RFC 7693), so that none is stored and any number costs nothing.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from rolekey.credentials import Credentials, format_timestamp
from rolekey.http_protocol.messages import STATUS_LINE, TEXT, Request, answer
from rolekey.vend.source import Source

TOKEN_PATH = b"/latest/api/token"
ROLES_PATH = b"/latest/meta-data/iam/security-credentials"
TOKEN_HEADER = b"x-aws-ec2-metadata-token"
TTL_HEADER = b"x-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL = 21600
KEY_BYTES = 32

# With and without a slash at the end: SDKs differ.
_TOKEN_PATHS = (TOKEN_PATH, TOKEN_PATH + b"/")
_LIST_PATHS = (ROLES_PATH, ROLES_PATH + b"/")
_NOT_FOUND = b"not found\n"
_END_DIGITS = 12  # hexadecimal, of the second in which a token ends
_NONCE_BYTES = 8
_HEAD_DIGITS = _END_DIGITS + 2 * _NONCE_BYTES
_MAC_BYTES = 20


class TokenMint:
    """Makes tokens and knows its own again.

    Args:
        key: KEY_BYTES random bytes, of this process alone.
        clock: seconds that never go back.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._hash = hashlib.blake2s(key=key, digest_size=_MAC_BYTES)
        self._clock = clock

    def mint(self, seconds: int) -> bytes:
        """A new token.

        Args:
            seconds: how long it is good.

        Returns:
            ASCII letters and digits.
        """
        end = int(self._clock()) + seconds
        head = b"%0*x%b" % (_END_DIGITS, end, os.urandom(_NONCE_BYTES).hex().encode())
        return head + self._mac(head)

    def seconds_left(self, token: bytes) -> int:
        """How long a token is still good; 0 for one that is over or none of ours.

        Args:
            token: as the client sent it.
        """
        head = token[:_HEAD_DIGITS]
        if not hmac.compare_digest(self._mac(head), token[_HEAD_DIGITS:]):
            return 0
        return max(0, int(head[:_END_DIGITS], 16) - int(self._clock()))

    def _mac(self, head: bytes) -> bytes:
        keyed = self._hash.copy()
        keyed.update(head)
        return keyed.hexdigest().encode()


class _Role:
    """A role's answers: everything of them that stays the same is put together once for each set of credentials."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._credentials: Credentials | None = None
        self._head = b""
        self._body = b""

    def answer(self, seconds: int) -> bytes:
        """The credentials, or why there are none.

        Args:
            seconds: how long the token is still good.
        """
        credentials = self._source.current()
        if credentials is None:
            self._credentials, self._body = None, b""
            return _answer_problem(self._source, seconds)
        if credentials is not self._credentials:
            self._body = credentials_document(credentials, self._source.metrics().last_success)
            self._head = _head(len(self._body))
            self._credentials = credentials
        return b"%b%d\r\n\r\n%b" % (self._head, seconds, self._body)


def credentials_document(credentials: Credentials, obtained: float | None) -> bytes:
    """What the service says of a role that has credentials.

    Args:
        credentials: the role's.
        obtained: when they were obtained, in seconds since 1970; None counts as the beginning of time.

    Returns:
        One line of JSON.
    """
    document = {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Code": "Success",
        "Type": "AWS-HMAC",
        "Expiration": format_timestamp(credentials.expiration),
        "LastUpdated": format_timestamp(datetime.fromtimestamp(obtained or 0, UTC)),
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _head(length: int) -> bytes:
    """The head of a 200 up to the token's seconds."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b: " % (STATUS_LINE[200], TEXT, length, TTL_HEADER)


def _answer_problem(source: Source, seconds: int) -> bytes:
    code, message = source.problem()
    body = json.dumps({"Code": code, "Message": message}, separators=(",", ":")).encode() + b"\n"
    return answer(503, body, (TTL_HEADER, b"%d" % seconds))


class InstanceMetadata:
    """The service.

    Args:
        sources: the identities. The list of roles names the first one's alone, as an instance has one role and SDKs
            take the whole list for its name; the others answer to theirs. Of two with one role the first one answers.
        mint: of the tokens.
    """

    def __init__(self, sources: Sequence[Source], mint: TokenMint) -> None:
        self._mint = mint
        self._role_name = sources[0].role_name.encode()
        self._roles: dict[bytes, _Role] = {}
        for source in sources:
            path = b"%b/%b" % (ROLES_PATH, source.role_name.encode())
            role = self._roles.setdefault(path, _Role(source))
            self._roles.setdefault(path + b"/", role)

    def respond(self, request: Request) -> bytes:
        """Answer a request for a path below /latest/.

        Args:
            request: the request.
        """
        path = request.path if b"%" not in request.path else unquote_to_bytes(request.path)
        if path in _TOKEN_PATHS:
            return self._answer_token(request)
        if not path.startswith(ROLES_PATH):
            return answer(404, _NOT_FOUND)
        if request.method != b"GET":
            return answer(405, b"", (b"allow", b"GET"))
        token = request.headers.get(TOKEN_HEADER)
        if not token:
            return answer(401, b"no token provided\n")
        seconds = self._mint.seconds_left(token)
        if not seconds:
            return answer(401, b"invalid token provided\n")
        return self._answer_role(path, seconds)

    def _answer_role(self, path: bytes, seconds: int) -> bytes:
        role = self._roles.get(path)
        if role is not None:
            return role.answer(seconds)
        if path in _LIST_PATHS:
            return b"%b%d\r\n\r\n%b" % (_head(len(self._role_name)), seconds, self._role_name)
        return answer(404, _NOT_FOUND, (TTL_HEADER, b"%d" % seconds))

    def _answer_token(self, request: Request) -> bytes:
        if request.method != b"PUT":
            return answer(405, b"", (b"allow", b"PUT"))
        seconds = _ttl(request.headers.get(TTL_HEADER))
        if seconds is None:
            return answer(400, b"invalid token TTL\n")
        return answer(200, self._mint.mint(seconds), (TTL_HEADER, b"%d" % seconds))


def _ttl(value: bytes | None) -> int | None:
    """The seconds that a client wants a token for; None where it may not have them."""
    if not value:
        return LONGEST_TTL
    digits = value.removeprefix(b"+")
    significant = digits.lstrip(b"0")
    # int() takes more than digits, and very many of them.
    if not digits.isdigit() or not 1 <= len(significant) <= len(str(LONGEST_TTL)):
        return None
    return seconds if (seconds := int(significant)) <= LONGEST_TTL else None
