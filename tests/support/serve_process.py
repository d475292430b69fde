"""`rolekey serve` in a process of its own, and a plain client of its endpoints.

with running_serve(directory, *emulator.arguments, "--certificate", ...) as served:
    served.credentials()["AccessKeyId"]
"""

import http.client
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rolekey.emulator.configuration import DEFAULT_ROLE_ARN
from support.process import patient, running_program
from support.service import session_answer

TTL = "x-aws-ec2-metadata-token-ttl-seconds"
ROLES = "/latest/meta-data/iam/security-credentials/"
NAME = "default"


def short_lived(access_key_id: str, seconds: float = 14, **more: object) -> bytes:
    """An answer to a CreateSession, whose credentials are refreshed within seconds.

    Args:
        access_key_id: of the credentials.
        seconds: for which they are good, to the whole second.
        more: further fields of the credentials.
    """
    expiration = f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    return session_answer(DEFAULT_ROLE_ARN, accessKeyId=access_key_id, expiration=expiration, **more)


@dataclass(frozen=True)
class Reply:
    """An answer of an endpoint."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


def ask(
    url: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """One request on a connection of its own.

    Args:
        url: the base URL.
        path: the path.
        headers: besides Host.
        method: the method.
        tls: what an https:// server is checked with.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection = http.client.HTTPConnection(host, port, timeout=30)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=30, context=tls)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Served:
    """A `rolekey serve` that has been started.

    Args:
        process: the process.
        log: the file that its stderr is.
        exports: what --print-env printed.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path, exports: Mapping[str, str]) -> None:
        self.process = process
        self._log = log
        #: What --print-env printed, as variables.
        self.exports = exports

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    @property
    def urls(self) -> list[str]:
        """What it said that it listens on."""
        start = "rolekey: listening on "
        return [line.removeprefix(start) for line in self.stderr.splitlines() if line.startswith(start)]

    @property
    def url(self) -> str:
        """The first of them."""
        return self.urls[0]

    @property
    def token_file(self) -> Path:
        """The file with the container endpoint's token."""
        return Path(self.exports["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])

    def container(self, name: str = NAME, **more: Any) -> Reply:
        """Ask the container endpoint with the token that its file has.

        Args:
            name: the identity's.
            more: as for ask(); `url` is the first one that is listened on.
        """
        headers = {"Authorization": self.token_file.read_text()} | more.pop("headers", {})
        return ask(more.pop("url", self.url), f"/creds/{name}", headers, **more)

    def metadata(self, url: str | None = None) -> Reply:
        """Ask the metadata service for a token, the role's name and its credentials.

        Args:
            url: the first one that is listened on, or another.
        """
        base = url or self.url
        token = ask(base, "/latest/api/token", {TTL: "60"}, "PUT")
        headers = {"X-aws-ec2-metadata-token": token.body.decode()}
        role = ask(base, ROLES, headers).body.decode()
        return ask(base, ROLES + role, headers)

    def credentials(self) -> dict[str, str]:
        """What the container endpoint hands out, after checking that it does."""
        reply = self.container()
        assert reply.status == 200, reply.body
        found: dict[str, str] = reply.document
        return found

    def key_id(self) -> str | None:
        """The access key id that is handed out; None where none is."""
        reply = self.container()
        return reply.document["AccessKeyId"] if reply.status == 200 else None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code.

        Args:
            number: the signal.
        """
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running_serve(
    directory: Path,
    *words: str,
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    **more: Any,
) -> Iterator[Served]:
    """Start `rolekey serve` with --print-env, and wait until it listens; it is killed at the end of the block.

    Args:
        directory: an existing directory for its output.
        words: further options; --port is 0 unless they have it.
        environment: variables to add.
        before: the words of a program that runs the command.
        more: further arguments of Popen, such as `pass_fds`.
    """
    port = [] if "--port" in words else ["--port", "0"]
    command = [*before, sys.executable, "-m", "rolekey", *patient(["serve", *port, "--print-env", *words])]
    log = directory / "serve.log"
    with (
        log.open("w") as stderr,
        running_program(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            **more,
        ) as process,
    ):
        yield Served(process, log, _exports(process, log))


def _exports(process: "subprocess.Popen[str]", log: Path) -> dict[str, str]:
    """What is printed, up to the last variable."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    while "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" not in found:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait(60)}: {log.read_text()}"
        name, _, value = shlex.split(line)[1].partition("=")
        found[name] = value
    return found
