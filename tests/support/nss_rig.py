"""NSS's soft token: a database made with certutil, keys put in with pk12util.

Its module takes the database's place from a string at C_Initialize (pReserved), and does not initialise without one.
"""

import os
import shutil
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from support.card_rig import find_module
from support.pki import KeyName, make_root
from support.rig_token import RigToken, write_files

PIN = "nss-pin-1"
KEYS: dict[str, KeyName] = {"rsa-2048": "rsa2048", "p-256": "p256", "p-384": "p384", "p-521": "p521"}
_LABEL = "NSS Certificate DB"


def find_nss() -> Path | None:
    """NSS's module, where the two tools are there as well; NSS_MODULE overrides."""
    tools = shutil.which("certutil") and shutil.which("pk12util")
    return find_module("libsoftokn3.so", "NSS_MODULE") if tools else None


def make_nss_token(directory: Path) -> RigToken:
    """A database with `KEYS` and their certificates.

    Args:
        directory: where; made if need be.
    """
    module = find_nss()
    assert module is not None, "the rig's probe has seen it"
    issuer = make_root().issue_authority()
    leaves = {label: issuer.issue(name, label) for label, name in KEYS.items()}
    write_files(directory, issuer, leaves, PIN)
    database, pin = directory / "database", directory / "user-pin"
    database.mkdir()
    _run("certutil", "-N", "-d", f"sql:{database}", "-f", str(pin))
    for label, leaf in leaves.items():
        assert isinstance(leaf.key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        bundle = directory / f"{label}.p12"
        protection = BestAvailableEncryption(PIN.encode("ascii"))
        certificate = leaf.certificate
        bundle.write_bytes(
            pkcs12.serialize_key_and_certificates(label.encode("ascii"), leaf.key, certificate, None, protection)
        )
        _run("pk12util", "-i", str(bundle), "-d", f"sql:{database}", "-k", str(pin), "-w", str(pin))
        bundle.unlink()
    selectors = {label: f"token={_LABEL.replace(' ', '%20')};object={label}" for label in KEYS}
    reserved = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
    return RigToken(directory, module, {}, PIN, selectors, reserved)


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, capture_output=True, timeout=120, env={**os.environ, "NSS_DEFAULT_DB_TYPE": "sql"}
    )
