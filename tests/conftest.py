"""Fixtures for every test, and the rig rule (support/rigs.py)."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.pkcs11_spy import PKCS11Spy
from support.rigs import MINIMUM_TESTS, RIGS, RigRule, find_spy
from support.softhsm import ProvisionedToken

pytest_plugins = ["support.leftovers", "support.rig_fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two degrees of strictness of the rig rule."""
    group = parser.getgroup("rolekey")
    group.addoption("--require-rigs", action="store_true", help="every rig must be there and run its tests; no skips")
    group.addoption("--complete", action="store_true", help="a skip, an xfail or a deselected test fails the run")


def pytest_configure(config: pytest.Config) -> None:
    """Puts the rig rule in force, and keeps the developer's own AWS settings away from the tests.

    Whoever started pytest may have ignored signals (nohup, a shell's background), which every process here would
    inherit.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "rig(name, ...): what the test runs against; see tests/support/rigs.py")
    # No example fails for being slow: a machine may be busy.
    settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    require = config.getoption("--require-rigs") or os.environ.get("ROLEKEY_REQUIRE_RIGS") == "1"
    complete = require or config.getoption("--complete")
    config.pluginmanager.register(RigRule(RIGS, MINIMUM_TESTS, require=require, complete=complete), "rig-rule")
    for name in list(os.environ):
        if name.startswith(("AWS_", "ROLEKEY_")) or name.upper().endswith(("_PROXY", "_CA_BUNDLE")):
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that several tests share stay away from the developer's directories, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("shared")))
        yield


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own record of refused PINs, away from the developer's."""
    directory = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(directory))
    return directory


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own cache, away from the developer's."""
    directory = tmp_path_factory.mktemp("runtime")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture(scope="session")
def provisioned_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvisionedToken]:
    """The token of softhsm/provision, made once; to be looked at and signed with, never to be changed.

    SoftHSM reads SOFTHSM2_CONF when the module is initialised, which a process does once: the variable is therefore
    set for the whole run. A test that needs another token starts a process of its own.
    """
    token = ProvisionedToken.make(tmp_path_factory.mktemp("softhsm") / "a token")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.environment.items():
            patch.setenv(name, value)
        yield token


@pytest.fixture(scope="session")
def pkcs11_spy() -> PKCS11Spy:
    """OpenSC's pkcs11-spy; `PKCS11Calls.read` counts what it saw."""
    module = find_spy()
    assert module is not None, "the rig's probe has seen it"
    return PKCS11Spy(module)
