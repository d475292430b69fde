"""A card that another program holds for itself."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from support.process import rolekey, running_program

pytestmark = pytest.mark.rig("virtual-card")

# Takes every card for itself through PC/SC, under the name of gpg's program, for as long as it is told.
HOLDER = """
import ctypes, select, sys
ctypes.CDLL(None).prctl(15, b"scdaemon")
pcsc = ctypes.CDLL("libpcsclite.so.1")
context, size = ctypes.c_long(), ctypes.c_ulong(4096)
names = ctypes.create_string_buffer(4096)
assert pcsc.SCardEstablishContext(2, None, None, ctypes.byref(context)) == 0
assert pcsc.SCardListReaders(context, None, names, ctypes.byref(size)) == 0
cards = []
for name in names.raw[: size.value].split(b"\\0"):
    card, protocol = ctypes.c_long(), ctypes.c_ulong()
    if name and pcsc.SCardConnect(context, name, 1, 3, ctypes.byref(card), ctypes.byref(protocol)) == 0:
        cards.append(card)
print(len(cards), flush=True)
select.select([sys.stdin], [], [], float(sys.argv[1]))
for card in cards:
    pcsc.SCardDisconnect(card, 0)
pcsc.SCardReleaseContext(context)
"""


@contextmanager
def held_card(token, seconds):
    words = [sys.executable, "-c", HOLDER, str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running_program(words, env=token.environment, **pipes) as holder:
        assert holder.stdout.readline() == "1\n"
        try:
            yield holder.pid
        finally:
            holder.stdin.close()
            holder.wait(30)


def run(token, tmp_path):
    return rolekey(
        "credential-process",
        *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
        *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
        *("--role-arn", "arn:aws:iam::000000000000:role/r", "--endpoint", "http://127.0.0.1:1"),
        *("--pkcs11-lib", str(token.module), "--private-key", token.uri("rsa-2048")),
        *("--certificate", str(token.certificate("rsa-2048"))),
        *("--timeout", "50"),
        environment={**token.environment, "XDG_STATE_HOME": str(tmp_path / "state")},
    )


def test_a_card_that_is_let_go(token, tmp_path):
    """A card that another program holds for a moment is waited for, and then signs."""
    with held_card(token, 2):
        run(token, tmp_path).failed(6, "Connection refused")


def test_a_card_that_is_not_let_go(token, tmp_path):
    """A card that another program keeps: the hint names the program and what makes it let go."""
    with held_card(token, 60) as holder:
        outcome = run(token, tmp_path)
    assert outcome.code == 3
    outcome.failed(3, f"scdaemon (process {holder}) may hold the card: gpgconf --kill scdaemon")
