"""docs/quickstart-yubikey.md, with the virtual card for the YubiKey, and moto and the emulator for AWS."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import tutorial
from support.card_rig import empty_card_in_reader, find_ykcs11

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quickstart-yubikey.md"
SLOT = 0x9A
ARNS = (
    *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:123456789012:trust-anchor/quickstart"),
    *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:123456789012:profile/quickstart"),
    *("--role-arn", "arn:aws:iam::123456789012:role/quickstart"),
)

pytestmark = pytest.mark.rig("virtual-card", "ykcs11")


@pytest.fixture
def rig(pcscd, tmp_path):
    """A card as it leaves the factory, with the firmware of the page."""
    with empty_card_in_reader(pcscd, tmp_path / "card", (5, 4, 3)) as empty:
        yield empty


@pytest.fixture
def environment(pcscd, tmp_path):
    """The readers, and a place for what is kept of credentials and PINs."""
    place = tmp_path / "my place"
    (place / "runtime").mkdir(parents=True, mode=0o700)
    return {
        **os.environ,
        **pcscd.environment,
        "TMPDIR": str(place),
        "XDG_STATE_HOME": str(place / "state"),
        "XDG_RUNTIME_DIR": str(place / "runtime"),
    }


def run(environment, *words, text=""):
    return subprocess.run(
        words, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.rig("moto", "emulator", "openssl", "awscli")
def test_the_page(rig, environment):
    """Every block runs and prints what the page shows.

    The key is used twice, for the request and for the credentials: what comes after is the cache's. A PIN is sent six
    times: to be changed, for these two, for two looks at the key, and the wrong one.
    """
    done = run(environment, "scripts/moto", "python", tutorial.__file__, str(PAGE))
    assert done.returncode == 0, done.stdout + done.stderr
    card = rig.card
    assert card.signatures == {SLOT: 2}
    assert card.tries_left == 3
    assert card.pin_attempts == 6
    assert "SessionToken" not in done.stdout
    assert "PRIVATE KEY" not in done.stdout


def test_a_pulled_card(virtual_card, environment, tmp_path):
    """What the page shows for a card that is out, and for one that is pulled while it signs, on one line each."""
    row = re.compile(r"^\| (?:before|while) [^|`]* \| (.*) \|$", re.MULTILINE)
    before, during = row.findall(PAGE.read_text(encoding="utf-8"))
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("123456\n", encoding="ascii")
    key = ("--private-key", f"pkcs11:serial={virtual_card.card.serial};id=%01", "--pin-source", f"file:{pin}")
    module = ("--pkcs11-lib", str(find_ykcs11()))
    command = (sys.executable, "-m", "rolekey", "credential-process", *ARNS, *module, *key)
    virtual_card.card.pull_at_next_signature()
    done = run(environment, *command)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        f"rolekey: error: {during}",
        "rolekey: hint: put the token back in and run the command again",
    ]
    virtual_card.remove()
    done = run(environment, *command)
    assert (done.returncode, done.stdout) == (3, "")
    error, hint = done.stderr.splitlines()
    assert error == f"rolekey: error: {before}"
    assert hint.endswith("shows no token; is it plugged in, and is this the right module?")
    assert virtual_card.card.signatures.total() == 0


def test_a_management_key_that_the_tool_does_not_know(pcscd, environment, tmp_path):
    """A card of firmware 5.7 is refused by a tool without AES with the words of the page; a newer tool writes it."""
    with empty_card_in_reader(pcscd, tmp_path / "card", (5, 7, 1)):
        done = run(environment, "yubico-piv-tool", "-s", "9a", "-a", "generate", "-A", "ECCP256")
    said = "Failed authentication with the application."
    assert f'"{said}"' in PAGE.read_text(encoding="utf-8")
    version = run(environment, "yubico-piv-tool", "--version").stdout.split()[-1]
    if tuple(map(int, version.split(".")[:2])) <= (2, 2):
        assert (done.returncode, done.stderr.strip()) == (1, said)
    else:
        assert done.returncode == 0, done.stderr
