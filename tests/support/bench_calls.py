"""The command lines that scripts/bench measures, and the environment that they run in."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support.softhsm import ProvisionedToken

FAST_RUNS, SLOW_RUNS = 10, 3  # in each round
SESSION_PROGRAM = Path(__file__).with_name("bench_iam_session.py")
BOTO3_PROGRAM = Path(__file__).with_name("bench_boto3.py")
BARE, HIT, HIT_BUNDLED = "bare: python3 -c pass", "hit", "hit, script of the bundled pip"
FILE, P256, RSA = "file P-256", "SoftHSM P-256", "SoftHSM RSA-2048"
COLD, FIRST, FLOOR = "cold, ", "cold into the cache, ", "network floor"
BOTO3, BOTO3_HIT = "boto3_session, ", "boto3_session, known"
IMPORT, IMPORT_SESSION = "import rolekey", "import iam_rolesanywhere_session"
# Rows that print no credentials.
SILENT = (BARE, IMPORT, IMPORT_SESSION)
SESSION, HELPER = "iam-rolesanywhere-session 3.0.0, ", "official helper, "

Row = tuple[str, int | None]  # its name, and the added round-trip time in milliseconds where there is a network


@dataclass(frozen=True)
class Stage:
    """What all calls have in common.

    Args:
        environments: where scripts/bench put its environments.
        scratch: a directory that goes afterwards.
        token: the sandbox's.
        arns: name of the option -> ARN.
        endpoints: added milliseconds -> URL.
        requests: the emulator's log.
        helper: the official helper's binary, or "".
    """

    environments: Path
    scratch: Path
    token: ProvisionedToken
    arns: Mapping[str, str]
    endpoints: Mapping[int, str]
    requests: Path
    helper: str

    @property
    def ca_bundle(self) -> Path:
        """Certifi's CAs and the emulator's."""
        return self.scratch / "ca-bundle.pem"

    def environment(self, runtime: str) -> dict[str, str]:
        """The whole environment of a call: nothing of the developer's settings.

        Args:
            runtime: name of the directory that has the cache.
        """
        (self.scratch / runtime).mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.scratch),
            "XDG_RUNTIME_DIR": str(self.scratch / runtime),
            "XDG_STATE_HOME": str(self.scratch / f"{runtime}-state"),
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            "SSL_CERT_FILE": str(self.ca_bundle),  # the helper's
            **self.token.environment,
        }

    def rolekey(self, *more: str, script: str = "newest-pip") -> list[str]:
        """A command line of the installed rolekey, without --endpoint.

        Args:
            more: further options.
            script: the environment whose script it is.
        """
        return [str(self.environments / script / "bin" / "rolekey"), *self.options(), *more]

    def options(self) -> list[str]:
        """The command and its options, but for the endpoint and the key."""
        arns = [word for pair in self.arns.items() for word in pair]
        return ["credential-process", *arns, "--intermediates", str(self.token.intermediate)]

    def key(self, name: str, pin: str = "") -> list[str]:
        """The options for a key.

        Args:
            name: FILE, P256 or RSA.
            pin: what follows the URI; by default the file that has the PIN.
        """
        if name == FILE:
            file = self.token.directory / "file" / "p-256"
            return ["--certificate", f"{file}.pem", "--private-key", f"{file}.key"]
        label = {P256: "p-256", RSA: "rsa-2048"}[name]
        uri = self.token.uri(label, with_pin=not pin) + pin
        return ["--pkcs11-lib", str(self.token.module), "--private-key", uri]

    def session_program(self, url: str) -> list[str]:
        """The command line of the program around iam-rolesanywhere-session.

        Args:
            url: the endpoint.
        """
        file = self.token.directory / "file" / "p-256"
        options = {
            **{name.removeprefix("--").replace("-", "_"): arn for name, arn in self.arns.items()},
            "certificate": f"{file}.pem",
            "private_key": f"{file}.key",
            "certificate_chain": str(self.token.intermediate),
            "region": self.arns["--trust-anchor-arn"].split(":")[3],
            "endpoint": urlsplit(url).netloc,
            "verify": str(self.ca_bundle),
        }
        python = self.environments / "session" / "bin" / "python"
        return [str(python), "-P", str(SESSION_PROGRAM), *(f"{name}={value}" for name, value in options.items())]

    def boto3_program(self, url: str, key: str, *, use_cache: bool = False) -> list[str]:
        """The command line of the program around rolekey.boto3_session.

        Args:
            url: the endpoint.
            key: FILE or P256.
            use_cache: whether credentials that are known will do.
        """
        words = [*self.options()[1:], "--endpoint", url, *self.key(key)]
        named = zip(words[::2], words[1::2], strict=True)
        options = [f"{name.removeprefix('--').replace('-', '_')}={value}" for name, value in named]
        python = self.environments / "boto3" / "bin" / "python"
        return [str(python), "-P", str(BOTO3_PROGRAM), *options, f"use_cache={'yes' if use_cache else 'no'}"]

    def importing(self, name: str, environment: str) -> list[str]:
        """The command line that imports a library and ends.

        Args:
            name: of the library.
            environment: where it is.
        """
        return [str(self.environments / environment / "bin" / "python"), "-P", "-c", f"import {name}"]


@dataclass(frozen=True)
class Batch:
    """Calls that hyperfine runs one after the other.

    Args:
        calls: command lines by row.
        runs: of each call.
        runtime: name of the directory with the cache; hits and misses must not meet.
        sessions: CreateSessions that one run makes, which is checked.
        empty_cache: whether the cache is removed before each run.
    """

    calls: Mapping[Row, Sequence[str]]
    runs: int
    runtime: str
    sessions: int
    empty_cache: bool = False


def batches(stage: Stage) -> list[Batch]:
    """Everything that hyperfine measures, in the order of a round."""
    near = ("--endpoint", stage.endpoints[0], *stage.key(P256))
    python = str(stage.environments / "newest-pip" / "bin" / "python3")
    fast: dict[Row, Sequence[str]] = {
        (BARE, None): [python, "-c", "pass"],
        (HIT, None): stage.rolekey(*near),
        (HIT_BUNDLED, None): stage.rolekey(*near, script="bundled-pip"),
        (BOTO3_HIT, None): stage.boto3_program(stage.endpoints[0], P256, use_cache=True),
        (IMPORT, None): stage.importing("rolekey", "boto3"),
        (IMPORT_SESSION, None): stage.importing("iam_rolesanywhere_session", "session"),
    }
    cold: dict[Row, Sequence[str]] = {}
    first: dict[Row, Sequence[str]] = {}
    for delay, url in stage.endpoints.items():
        for key in (FILE, P256, RSA):
            cold[COLD + key, delay] = stage.rolekey("--no-cache", "--endpoint", url, *stage.key(key))
            if stage.helper:
                # It knows no pin-source. This PIN opens nothing but a token that is gone in a minute.
                words = stage.key(key, f"?pin-value={stage.token.user_pin}")
                cold[HELPER + key, delay] = [stage.helper, *stage.options(), "--endpoint", url, *words]
        for key in (FILE, P256):
            cold[BOTO3 + key, delay] = stage.boto3_program(url, key)
        cold[SESSION + FILE, delay] = stage.session_program(url)
        first[FIRST + P256, delay] = stage.rolekey("--endpoint", url, *stage.key(P256))
    return [
        Batch(fast, FAST_RUNS, "hits", 0),
        Batch(cold, SLOW_RUNS, "misses", 1),
        Batch(first, SLOW_RUNS, "first", 1, empty_cache=True),
    ]
