"""NSS, p11-kit, openCryptoki and tpm2-pkcs11 as rigs: seen with OpenSC's pkcs11-tool, without rolekey."""

import os
import subprocess

import pytest

from support.p11_kit_rig import find_p11_kit


def tool(token, *words):
    """Runs pkcs11-tool where the token can be seen."""
    return subprocess.run(
        [*token.wrapper, "pkcs11-tool", "--module", str(token.module), *words],
        env={**os.environ, **token.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_nss_wants_its_string(nss_token):
    """NSS's module does not initialise for a program that gives it no string."""
    done = tool(nss_token, "--list-slots")
    assert done.returncode != 0
    assert "C_Initialize" in done.stderr


@pytest.fixture
def p11_kit_token(p11_kit_server):
    """The token behind the server."""
    return p11_kit_server.token(find_p11_kit())


def test_p11_kit_passes_on(p11_kit_token):
    """Behind the server is SoftHSM's token with its keys."""
    listed = tool(p11_kit_token, "--login", "--pin", p11_kit_token.user_pin, "--list-objects", "--type", "privkey")
    assert listed.returncode == 0, listed.stderr
    for label in p11_kit_token.selectors:
        assert f"label:      {label}" in listed.stdout


def test_p11_kit_server_dies_and_comes_back(p11_kit_server, p11_kit_token):
    """Without the server no token is there; with a new one on the same socket it is again."""

    def is_there():
        return "rolekey-softhsm" in tool(p11_kit_token, "--list-token-slots").stdout

    assert is_there()
    p11_kit_server.kill()
    assert not is_there()
    p11_kit_server.kill()
    p11_kit_server.start()
    assert is_there()


def test_opencryptoki_locks_after_three_tries(opencryptoki_token):
    """Three wrong PINs lock the token, and the right one does not help any more."""
    token = opencryptoki_token

    def login(pin):
        return tool(token, "--login", "--pin", pin, "--list-objects")

    assert login(token.user_pin).returncode == 0
    for _ in range(3):
        assert "CKR_PIN_INCORRECT" in login("7654321").stderr
    assert "CKR_PIN_LOCKED" in login(token.user_pin).stderr
    assert "user PIN locked" in tool(token, "--list-token-slots").stdout


def test_opencryptoki_is_the_runs_own(opencryptoki_token):
    """The token exists for commands behind the wrapper only."""
    words = ("--module", str(opencryptoki_token.module), "--list-token-slots")
    assert "rolekey-octok" in tool(opencryptoki_token, "--list-token-slots").stdout
    outside = subprocess.run(["pkcs11-tool", *words], capture_output=True, text=True, check=False, timeout=120)
    assert "rolekey-octok" not in outside.stdout


def test_tpm2_pkcs11_is_in_the_tpm(tpm2_pkcs11_token):
    """The TPM counts a wrong PIN, the module writes about it on stderr, and without the TPM there is no token."""
    token, tpm = tpm2_pkcs11_token
    assert tool(token, "--login", "--pin", token.user_pin, "--list-objects").returncode == 0
    refused = tool(token, "--login", "--pin", "another-pin", "--list-objects")
    assert "CKR_PIN_INCORRECT" in refused.stderr
    assert "ERROR" in refused.stderr
    assert tpm.lockout_counter() == 1
    tpm.stop()
    assert tool(token, "--list-token-slots").returncode != 0
    tpm.start()
    assert "rolekey-tpm" in tool(token, "--list-token-slots").stdout
