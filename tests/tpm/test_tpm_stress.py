"""Many signatures on a TPM without a resource manager, in a row and from many processes at once."""

import sys
from pathlib import Path

import pytest

from support.pki import make_root
from support.process import finish, start_program
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import TPMKeys
from support.tpm_proxy import CREATE_PRIMARY, LOAD, proxy_of

SUPPORT = Path(__file__).resolve().parents[1]
# Signs twenty times, each time as a program that has just been started: SigningIdentity.sign() verifies.
CHILD = """
import sys
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from support.contract_child import ARNS
from rolekey.options import Options
key, certificate, tcti, source = sys.argv[1:]
options = Options(**ARNS, private_key=key, certificate=certificate, tpm_tcti=tcti, pin_source=source or None)
for number in range(20):
    with open_identity(resolve_settings(options, {}), NoInteraction(), Deadline(120)) as identity:
        identity.sign(f"text {number}")
print("signed")
"""


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


def test_a_thousand_in_a_row(tpm, keys):
    """One signer makes a thousand signatures."""
    with identity_of(tpm, keys.by_openssl("EC", "group:P-256"), seconds=600) as identity:
        for number in range(1000):
            identity.sign(f"text {number}")


def eight_at_once(tcti, made, environments, source=""):
    """Eight processes with twenty signatures each; what each of them said."""
    words = [made.private_key, str(made.certificate), tcti, source]
    path = {"PYTHONPATH": str(SUPPORT), "PATH": "/usr/bin:/bin"}
    processes = [
        start_program(sys.executable, "-c", CHILD, *words, environment=path | environment)
        for environment in environments
    ]
    return [finish(process, timeout=300) for process in processes]


def test_eight_processes_at_once(tpm, keys, state_home):
    """Eight processes with twenty signatures each, which share a lock, all succeed."""
    environments = [{"XDG_STATE_HOME": str(state_home)}] * 8
    said = eight_at_once(tpm.tcti, keys.by_openssl("EC", "group:P-256"), environments)
    assert [outcome.stdout for outcome in said] == ["signed\n"] * 8, said


def test_eight_processes_with_a_password(tpm, keys, state_home):
    """So they do with a password, for which each signature needs a session and one more key."""
    made = keys.by_tools(password="secret")
    environments = [{"XDG_STATE_HOME": str(state_home)}] * 8
    said = eight_at_once(tpm.tcti, made, environments, password_file(tpm.directory, "secret"))
    assert [outcome.stdout for outcome in said] == ["signed\n"] * 8, said
    assert tpm.lockout_counter() == 0


def test_eight_users_at_once(tpm, keys, tmp_path):
    """Eight users, who know of no common lock and whose commands get mixed, ask again while the TPM is full."""
    environments = [{"XDG_STATE_HOME": str(tmp_path / str(number))} for number in range(8)]
    full: list[bytes] = []

    def watch(command, ask):
        response = ask(command)
        full.extend([response] if response[6:10] == (0x902).to_bytes(4) else [])
        return response

    with proxy_of(tpm, tmp_path) as proxy:
        for code in (CREATE_PRIMARY, LOAD):
            proxy.script(code, watch, times=100_000)
        said = eight_at_once(str(proxy.path), keys.by_openssl("EC", "group:P-256"), environments)
    assert [outcome.stdout for outcome in said] == ["signed\n"] * 8, said
    assert full, "the TPM was never full"
