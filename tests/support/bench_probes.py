"""What scripts/bench measures without hyperfine: the network's share of a call, and twenty processes at once."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from support.listener import read_request
from support.pkcs11_spy import PKCS11Calls, PKCS11Spy
from support.service import ScriptedService, answer

PATIENCE = 120  # seconds
PROCESSES = 20


def record_request(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """The bytes of a signed CreateSession; the emulator takes them for five minutes, as often as they come.

    Args:
        words: a rolekey command line without --endpoint.
        environment: the process's.
    """
    with ScriptedService((answer(403, b"{}"),)) as service:
        line = [*words, "--endpoint", service.url]
        subprocess.run(line, env=environment, capture_output=True, check=False, timeout=PATIENCE)
        return service.requests[0].raw


def measure_floor(url: str, ca_bundle: Path, request: bytes, count: int) -> list[float]:
    """What a process pays that is warm and has its request: a new connection, TLS, and one exchange.

    Args:
        url: where.
        ca_bundle: trusted CAs; loaded before the clock starts.
        request: from `record_request`.
        count: how often.

    Returns:
        Seconds.
    """
    context = ssl.create_default_context(cafile=ca_bundle)
    address = urlsplit(url)
    assert address.hostname is not None
    times = []
    for _ in range(count):
        started = time.perf_counter()
        with socket.create_connection((address.hostname, address.port or 443), timeout=PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(connection, server_hostname=address.hostname) as secured:
                secured.sendall(request)
                reply = read_request(secured)  # an answer is built like a request
                times.append(time.perf_counter() - started)
        if reply is None or " 201 " not in reply.request_line:
            raise SystemExit(f"scripts/bench: the emulator did not take a recorded request: {reply}")
    return times


@dataclass(frozen=True)
class Crowd:
    """What became of processes that were started at once.

    Attributes:
        seconds: from the start of the first to the end of the last.
        codes: their exit codes.
        answers: what each wrote to stdout.
        sessions: CreateSessions that came to the emulator.
        signatures: C_SignInit of all of them.
        logins: C_Login of all of them.
    """

    seconds: float
    codes: list[int]
    answers: list[bytes]
    sessions: int
    signatures: int
    logins: int

    def agrees(self) -> bool:
        """Whether one CreateSession and one signature gave everybody the same valid answer."""
        one_of_each = (self.sessions, self.signatures) == (1, 1)
        return one_of_each and set(self.codes) == {0} and len(set(self.answers)) == 1 and is_valid(self.answers[0])

    def spent_one_try(self) -> bool:
        """Whether all were refused for the PIN, which the token saw once."""
        return self.logins == 1 and self.sessions == 0 and set(self.codes) == {4} and set(self.answers) == {b""}


def is_valid(output: bytes) -> bool:
    """Whether a document of credential_process is complete and not expired.

    Args:
        output: stdout.
    """
    try:
        document = json.loads(output)
    except ValueError:
        return False
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    if document.get("Version") != 1 or not all(document.get(name) for name in names):
        return False
    return datetime.fromisoformat(document["Expiration"]) > datetime.now(UTC)


def run_crowd(
    words: Sequence[str], environment: Mapping[str, str], spy: PKCS11Spy, module: Path, directory: Path, requests: Path
) -> Crowd:
    """Start processes at once, each with a log of pkcs11-spy of its own.

    Args:
        words: the command line, which loads the spy.
        environment: of all of them; its cache directory is empty.
        spy: the spy's module.
        module: the module behind it.
        directory: for the logs.
        requests: the emulator's log.
    """
    logs = [directory / f"spy-{number}" for number in range(PROCESSES)]
    before = count_sessions(requests)
    started = time.perf_counter()
    processes = [
        subprocess.Popen(
            words,
            env={**environment, **spy.environment(module, log)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for log in logs
    ]
    answers = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    seconds = time.perf_counter() - started
    calls = [PKCS11Calls.read(log) for log in logs]
    return Crowd(
        seconds,
        [process.returncode for process in processes],
        answers,
        count_sessions(requests) - before,
        sum(call.count["C_SignInit"] for call in calls),
        sum(call.count["C_Login"] for call in calls),
    )


def count_sessions(requests: Path) -> int:
    """How many CreateSessions have come.

    Args:
        requests: what `rolekey emulator --requests` writes.
    """
    return len(requests.read_bytes().splitlines()) if requests.exists() else 0
