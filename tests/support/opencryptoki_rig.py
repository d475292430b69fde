"""The software token of openCryptoki, whose PIN locks after three tries.

Its daemon, its clients and its keys have fixed places in /run, /var/lib and in shared memory. The rig therefore runs
the daemon in a mount and IPC namespace of its own, and so must its clients: `RigToken.wrapper` holds the words that put
a command there. That needs root.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from support.card_rig import find_module
from support.pki import make_root
from support.rig_token import RigToken, write_files

PIN = "1234567"
_LABEL = "rolekey-octok"
_SLOT = "3"  # the software token's, in the configuration that the package installs
_FIRST_SO_PIN, _SO_PIN, _FIRST_PIN = "87654321", "76543210", "123456"
# CKF_USER_PIN_COUNT_LOW, _FINAL_TRY and _LOCKED, in the order in which three wrong PINs set them.
_TRIES = (0x10000, 0x20000, 0x40000)
_UNSHARE = ("unshare", "--mount", "--ipc", "--propagation", "private")
# An empty /run and /var/lib/opencryptoki, with the directories that the package makes in them.
_MOUNT = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/opencryptoki
mkdir -p /run/lock/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
[ -d /var/lock/opencryptoki/swtok ]
chgrp -R pkcs11 /run/lock/opencryptoki /var/lib/opencryptoki
chmod -R 770 /run/lock/opencryptoki /var/lib/opencryptoki
exec "$@"
"""


def find_opencryptoki() -> Path | None:
    """The module of openCryptoki; OPENCRYPTOKI_MODULE overrides."""
    return find_module("libopencryptoki.so", "OPENCRYPTOKI_MODULE")


def can_run() -> bool:
    """Whether it is installed and the namespace is allowed."""
    programs = ("unshare", "nsenter", "pkcs11-tool", _program("pkcsslotd"), _program("pkcsconf"))
    if os.geteuid() != 0 or find_opencryptoki() is None or not all(map(shutil.which, programs)):
        return False
    trial = [*_UNSHARE, "sh", "-c", _MOUNT, "sh", "true"]
    return subprocess.run(trial, capture_output=True, check=False, timeout=30).returncode == 0


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin") or name


@contextmanager
def opencryptoki_token(directory: Path) -> Iterator[RigToken]:
    """A token with an RSA key, for the length of a with block; openCryptoki 3.8 has no EC keys.

    Args:
        directory: for the certificate and the PIN.
    """
    module = find_opencryptoki()
    assert module is not None, "the rig's probe has seen it"
    daemon = [_program("pkcsslotd"), "-f"]
    if shutil.which("setpriv") is not None:  # a test run that was killed leaves no daemon behind
        daemon = ["setpriv", "--pdeathsig", "TERM", *daemon]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _MOUNT, "sh", *daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            wrapper = ("nsenter", "--target", str(process.pid), "--mount", "--ipc", "--")
            _wait_for(process, wrapper)
            _provision(directory, module, wrapper)
            selectors = {"rsa-2048": f"token={_LABEL};object=rsa-2048"}
            yield RigToken(directory, module, {}, PIN, selectors, wrapper=wrapper)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def tries_spent(token: RigToken) -> int:
    """How many wrong PINs the token has counted since the last right one, as openCryptoki's own tool reads its flags.

    Args:
        token: of `opencryptoki_token`.
    """
    command = [*token.wrapper, _program("pkcsconf"), "-t", "-c", _SLOT]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    (flags,) = re.findall(r"^\s*Flags: 0x([0-9A-F]+) ", shown, re.MULTILINE)
    set_flags = [spent for spent, flag in enumerate(_TRIES, 1) if int(flags, 16) & flag]
    return max(set_flags, default=0)


def _wait_for(process: subprocess.Popen[bytes], wrapper: Sequence[str]) -> None:
    end = time.monotonic() + 30
    command = [*wrapper, _program("pkcsconf"), "-t", "-c", _SLOT]
    while subprocess.run(command, capture_output=True, check=False, timeout=30).returncode != 0:
        assert process.poll() is None, "pkcsslotd does not start"
        assert time.monotonic() < end, "pkcsslotd does not answer"
        time.sleep(0.05)


def _provision(directory: Path, module: Path, wrapper: Sequence[str]) -> None:
    issuer = make_root().issue_authority()
    leaf = issuer.issue("rsa2048", "rsa-2048")
    write_files(directory, issuer, {"rsa-2048": leaf}, PIN)

    def run(*command: str, answer: str = "") -> None:
        words = [*wrapper, *command]
        subprocess.run(words, input=answer, text=True, check=True, capture_output=True, timeout=60)

    pkcsconf = (_program("pkcsconf"), "-c", _SLOT)
    run(*pkcsconf, "-I", "-S", _FIRST_SO_PIN, answer=f"{_LABEL}\n")
    run(*pkcsconf, "-P", "-S", _FIRST_SO_PIN, "-n", _SO_PIN)
    run(*pkcsconf, "-u", "-S", _SO_PIN, "-n", _FIRST_PIN)
    run(*pkcsconf, "-p", "-U", _FIRST_PIN, "-n", PIN)
    encoding, plain = serialization.Encoding.DER, serialization.NoEncryption()
    objects = {
        "privkey": leaf.key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, plain),
        "pubkey": leaf.key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo),
        "cert": leaf.der,
    }
    tool = ("pkcs11-tool", "--module", str(module), "--token-label", _LABEL, "--login", "--pin", PIN)
    for kind, der in objects.items():
        file = directory / f"{kind}.der"
        file.write_bytes(der)
        run(*tool, "--write-object", str(file), "--type", kind, "--label", "rsa-2048", "--id", "01")
        file.unlink()
