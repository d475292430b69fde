"""Credentials from an STS on this machine, such as moto's (AWS STS API reference, AssumeRole; Signature Version 4).

The service assumes the role at STS once it has let a certificate in. Here the STS is a stand-in: whoever has the
emulator's credentials can then be asked about, and refused, by the other services of that stand-in.
"""

import asyncio
import hashlib
import hmac
import http.client
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from rolekey.emulator.model import ARN, EmulatorConfigurationError
from rolekey.emulator.refusals import Reason, Refusal
from rolekey.emulator.session import Session, TemporaryCredentials

_URL = re.compile(r"http://(localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::([0-9]{1,5}))?/?")
_ACCESS_KEY_ID = re.compile(r"\w{1,128}", re.ASCII)
_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
_SIGNED = "content-type;host;x-amz-date"
_TIMEOUT = 10.0  # seconds
_MAXIMUM_ANSWER = 64 * 1024
_LONGEST_MESSAGE = 500
_ANSWER = (
    "{*}Credentials/{*}AccessKeyId",
    "{*}Credentials/{*}SecretAccessKey",
    "{*}Credentials/{*}SessionToken",
    "{*}Credentials/{*}Expiration",
    "{*}AssumedRoleUser/{*}AssumedRoleId",
)


class STS:
    """Mints the credentials of a session by AssumeRole, with the session's tags and source identity.

    Args:
        url: of the STS: plain HTTP to a loopback address, without a path.
        access_key_id: of a user there who may assume the roles.
        secret_access_key: the user's; secret.
        clock: the time, aware; the machine's unless given.

    Raises:
        EmulatorConfigurationError: a URL or keys that are none.
    """

    def __init__(
        self,
        url: str,
        access_key_id: str,
        secret_access_key: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        found = _URL.fullmatch(url)
        if found is None or int(found[2] or 80) not in range(1, 65536):
            raise EmulatorConfigurationError(
                "the STS endpoint must be http:// and an address of this machine, such as http://127.0.0.1:5000"
            )
        if not _ACCESS_KEY_ID.fullmatch(access_key_id):
            raise EmulatorConfigurationError("the access key id for STS may have letters, digits and _ only")
        if not (secret_access_key.isascii() and secret_access_key.isprintable()):
            raise EmulatorConfigurationError("the secret access key for STS may have printable ASCII only")
        self._host = found[1].strip("[]")
        self._port = int(found[2] or 80)
        self._authority = url.removeprefix("http://").rstrip("/")
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._clock = clock

    async def __call__(self, session: Session) -> TemporaryCredentials:
        """Assume the session's role.

        Args:
            session: what was granted.

        Returns:
            What STS gave out, with its expiration and the role's id.

        Raises:
            Refusal: STS denies it, cannot be reached, or gives no credentials.
        """
        return await asyncio.to_thread(self._assume_role, session)

    def _assume_role(self, session: Session) -> TemporaryCredentials:
        body = urlencode(_parameters(session)).encode()
        arn = ARN.parse(session.subject_arn)
        headers = self._headers(body, arn.region if arn else "us-east-1")
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            answer = response.read(_MAXIMUM_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(f"does not answer: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        return self._credentials(session, response.status, answer)

    def _headers(self, body: bytes, region: str) -> dict[str, str]:
        """The headers with a signature; a stand-in takes service and account from it."""
        date = self._clock().astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {"content-type": _CONTENT_TYPE, "host": self._authority, "x-amz-date": date}
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = "\n".join(["POST", "/", "", lines, _SIGNED, hashlib.sha256(body).hexdigest()])
        scope = f"{date[:8]}/{region}/sts/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self._secret_access_key}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"Credential={self._access_key_id}/{scope}"
        return signed | {
            "authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={_SIGNED}, Signature={key.hex()}"
        }

    def _credentials(self, session: Session, status: int, answer: bytes) -> TemporaryCredentials:
        try:
            document = ET.fromstring(answer)  # noqa: S314 - local, bounded, and expat bounds entities
        except ET.ParseError as error:
            raise self._failure(f"answers HTTP status {status} without XML") from error
        if status != http.client.OK:
            self._refuse(session, status, document)
        result = document.find("./{*}AssumeRoleResult")
        values = [(result.findtext(path) or "") if result is not None else "" for path in _ANSWER]
        expiration = _time(values[3])
        if not all(values) or expiration is None:
            raise self._failure("gives no credentials for AssumeRole")
        return TemporaryCredentials(values[0], values[1], values[2], expiration, values[4])

    def _refuse(self, session: Session, status: int, document: ET.Element) -> NoReturn:
        code = document.findtext(".//{*}Error/{*}Code") or document.findtext("./{*}Code")
        message = document.findtext(".//{*}Error/{*}Message") or document.findtext("./{*}Message") or ""
        said = f"{code or f'HTTP status {status}'}: {' '.join(message.split())}"[:_LONGEST_MESSAGE]
        if code == "AccessDenied":
            raise Refusal(Reason.ROLE_REFUSED, f"STS: {said}", role_arn=session.role_arn)
        raise self._failure(f"answers {said}")

    def _failure(self, problem: str) -> Refusal:
        return Refusal(Reason.STS_FAILED, authority=self._authority, problem=problem)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
    except ValueError:
        return None


def _parameters(session: Session) -> list[tuple[str, str]]:
    tags = [
        (f"Tags.member.{number}.{part}", text)
        for number, tag in enumerate(session.tags.items(), 1)
        for part, text in zip(("Key", "Value"), tag, strict=True)
    ]
    return [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", session.role_arn),
        ("RoleSessionName", session.role_session_name),
        ("DurationSeconds", str(session.duration_seconds)),
        ("SourceIdentity", session.source_identity),
        *tags,
    ]
