"""The rig rule: a test that needs more than Python says so, and CI fails when such a test did not run.

A rig is something outside the project that a test runs against: a module, a program, a server's library. A test names
its rigs with ``@pytest.mark.rig("softhsm")``, or gets them with a fixture of `FIXTURES`. On a developer's machine a
test whose rig is missing is skipped, with a line that says what to install. With ``--require-rigs`` (or
``ROLEKEY_REQUIRE_RIGS=1``) a missing rig, any skip, xfail or deselected test, and a rig that ran fewer tests than
`MINIMUM_TESTS` fail the run.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import aiobotocore, namespaces, node_sdk, opencryptoki_rig, pcscd, sdk_programs, windows_rig
from support.card_rig import find_opensc, find_ykcs11
from support.mounts import can_mount
from support.nss_rig import find_nss
from support.p11_kit_rig import find_p11_kit
from support.pkcs11_shim import can_compile
from support.softhsm import PROVISION
from support.strace import can_trace
from support.swtpm import has_programs
from support.tpm2_pkcs11_rig import find_tpm2_pkcs11

# How many tests of each rig must have passed before CI believes that the rig was used. Raise a number with its tests.
MINIMUM_TESTS = {
    "softhsm": 1000,
    "pkcs11-spy": 66,
    "emulator": 610,
    "openssl": 201,
    "shim": 380,
    "virtual-card": 155,
    "opensc": 105,
    "ykcs11": 55,
    "nss": 47,
    "p11-kit": 57,
    "opencryptoki": 17,
    "swtpm": 420,
    "tpm2-pkcs11": 39,
    "node": 16,
    "awscli": 17,
    "go": 20,
    "moto": 16,
    "aiobotocore": 3,
    "strace": 7,
    "systemd": 1,
    "tmpfs": 3,
    "root": 14,
    "namespace": 81,
    "windows": 106,
}

# What a fixture brings with it, so that no test has to say it twice.
FIXTURES = {
    "provisioned_token": "softhsm",
    "pkcs11_spy": "pkcs11-spy",
    "pkcs11_shim": "shim",
    "mldsa_token": "shim",
    "pcscd": "virtual-card",
    "virtual_card": "virtual-card",
    "nss_token": "nss",
    "p11_kit_server": "p11-kit",
    "opencryptoki_token": "opencryptoki",
    "swtpm": "swtpm",
    "tpm": "swtpm",
    "tpm2_pkcs11_token": "tpm2-pkcs11",
    "windows": "windows",
}

SPY_PLACES = [
    f"{directory}/{name}"
    for directory in ("usr/lib", "usr/lib64", "usr/lib/*-linux-gnu", "usr/local/lib", "opt/homebrew/lib")
    for name in ("pkcs11-spy.so", "pkcs11/pkcs11-spy.so")
]


def find_spy() -> Path | None:
    """OpenSC's module that writes down every call and passes it on; PKCS11_SPY_MODULE overrides."""
    named = os.environ.get("PKCS11_SPY_MODULE")
    patterns = [named.lstrip("/")] if named else SPY_PLACES
    return next((path for pattern in patterns for path in sorted(Path("/").glob(pattern)) if path.is_file()), None)


def _has_openssl() -> bool:
    program = shutil.which("openssl")
    if program is None:
        return False
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    return version.startswith("OpenSSL ") and int(version.split()[1].partition(".")[0]) >= 3


def _has_softhsm() -> bool:
    return subprocess.run([PROVISION, "--module"], capture_output=True, check=False).returncode == 0


def _has_server() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("uvicorn", "httptools"))


def _has_awscli() -> bool:
    return shutil.which("aws", path=str(Path(sys.executable).parent)) is not None


def _has_moto() -> bool:
    return (Path(__file__).parents[2] / ".venv-moto" / ".setup-stamp").is_file()


def _has_tpm2_pkcs11() -> bool:
    return find_tpm2_pkcs11() is not None and has_programs() and shutil.which("pkcs11-tool") is not None


def _has_tpm() -> bool:
    return has_programs() and importlib.util.find_spec("tpm2_pytss") is not None


@dataclass(frozen=True)
class Rig:
    """What a rig is called, whether it is there, and how to get it."""

    name: str
    is_there: Callable[[], bool]
    remedy: str


RIGS = {
    rig.name: rig
    for rig in (
        Rig("softhsm", _has_softhsm, "apt-get install softhsm2 opensc openssl"),
        Rig("pkcs11-spy", lambda: find_spy() is not None, "apt-get install opensc-pkcs11"),
        Rig("emulator", _has_server, "pip install 'rolekey[server]'"),
        Rig("openssl", _has_openssl, "apt-get install openssl (3 or newer)"),
        Rig("shim", can_compile, "apt-get install gcc libc6-dev"),
        Rig(
            "virtual-card",
            pcscd.can_run,
            "apt-get install pcscd vsmartcard-vpcd opensc, and allow mount namespaces",
        ),
        Rig("opensc", lambda: find_opensc() is not None, "apt-get install opensc-pkcs11"),
        Rig("ykcs11", lambda: find_ykcs11() is not None, "apt-get install ykcs11"),
        Rig("nss", lambda: find_nss() is not None, "apt-get install libnss3 libnss3-tools"),
        Rig("p11-kit", lambda: find_p11_kit() is not None, "apt-get install p11-kit p11-kit-modules"),
        Rig("root", lambda: os.name != "nt" and os.geteuid() == 0, "only root gives files away: run the tests as root"),
        Rig("namespace", namespaces.can_run, "apt-get install util-linux, and allow mount and user namespaces"),
        Rig("systemd", lambda: shutil.which("systemd-analyze") is not None, "apt-get install systemd"),
        Rig("strace", can_trace, "apt-get install strace, and allow ptrace"),
        Rig(
            "opencryptoki",
            opencryptoki_rig.can_run,
            "apt-get install opencryptoki opensc, and allow mount namespaces; only root can run it",
        ),
        Rig(
            "swtpm",
            _has_tpm,
            "apt-get install swtpm tpm2-tools tpm2-openssl libtss2-dev pkg-config gcc; pip install 'rolekey[tpm]'",
        ),
        Rig("tpm2-pkcs11", _has_tpm2_pkcs11, "apt-get install libtpm2-pkcs11-1 opensc swtpm tpm2-tools tpm2-openssl"),
        Rig("node", node_sdk.can_run, "install Node 20 or newer with npm, and run scripts/node-packages"),
        Rig(
            "go",
            sdk_programs.can_run_go,
            "install Go as new as tests/interop/go/go.mod says, and run scripts/go-programs",
        ),
        Rig("moto", _has_moto, "run scripts/moto-packages"),
        Rig("awscli", _has_awscli, "pip install awscli"),
        Rig("aiobotocore", aiobotocore.can_run, "scripts/aiobotocore"),
        Rig(
            "windows",
            windows_rig.can_run,
            "scripts/windows: it names what it needs",
        ),
        Rig("tmpfs", can_mount, "allow mount namespaces"),
    )
}


class RigRule:
    """The pytest plugin that enforces the rule; one for each run.

    Args:
        require: whether every rig must be there and have run its number of tests.
        complete: whether a skip, an xfail or a deselected test fails the run.
        rigs: the rigs by name.
        minimum: the number of passed tests for each of them.
    """

    def __init__(self, rigs: dict[str, Rig], minimum: dict[str, int], *, require: bool, complete: bool) -> None:
        self._rigs = rigs
        self._minimum = minimum
        self._require = require
        self._complete = complete
        self._present: dict[str, bool] = {}
        self._passed: Counter[str] = Counter()
        self._not_run: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Gives a test the rigs of its fixtures, and refuses a rig that the table does not have."""
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in FIXTURES:
                item.add_marker(pytest.mark.rig(FIXTURES[fixture]))
        unknown = sorted(rigs_of(item) - self._rigs.keys())
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: no rig {', '.join(unknown)}; see MINIMUM_TESTS in {__file__}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skips a test whose rig is missing, or fails it where rigs are required."""
        for name in sorted(rigs_of(item)):
            if not self._is_there(name):
                text = f"rig {name} is missing: {self._rigs[name].remedy}"
                if self._require:
                    pytest.fail(text, pytrace=False)
                pytest.skip(text)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Counts what ran, by rig, and what did not."""
        report = yield
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self._passed.update(rigs_of(item))
        elif report.skipped or hasattr(report, "wasxfail"):
            self._not_run.append(f"{'xfail' if hasattr(report, 'wasxfail') else 'skipped'}: {item.nodeid}")
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Notes a module that skipped itself while it was collected."""
        if report.skipped:
            self._not_run.append(f"skipped: {report.nodeid}")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Notes the tests that -k, -m or --deselect left out."""
        self._not_run.extend(f"deselected: {item.nodeid}" for item in items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turns a green run that broke the rule red."""
        if self.problems() and exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints what each rig ran, and what broke the rule."""
        terminalreporter.section("rigs")
        for name in self._minimum:
            terminalreporter.line(f"rig {name}: {self._passed[name]} tests")
        for problem in self.problems():
            terminalreporter.line(f"rig rule broken: {problem}", red=True)

    def problems(self) -> list[str]:
        """What breaks the rule in this run, one line each; empty where nothing is required."""
        found = []
        if self._require:
            found += [
                f"rig {name} ran {self._passed[name]} tests, fewer than {minimum}"
                for name, minimum in self._minimum.items()
                if self._passed[name] < minimum
            ]
        if self._complete:
            found += self._not_run
        return found

    def _is_there(self, name: str) -> bool:
        if name not in self._present:
            self._present[name] = self._rigs[name].is_there()
        return self._present[name]


def rigs_of(item: pytest.Item) -> set[str]:
    """The names of the rigs that a test runs against."""
    return {str(name) for marker in item.iter_markers("rig") for name in marker.args}
