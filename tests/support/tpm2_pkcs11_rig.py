"""The PKCS#11 module of the TPM (tpm2-pkcs11) on a TPM in software.

Its store is a database in a directory, and its PIN the password of an object in the TPM, which counts wrong ones.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from support.card_rig import find_module
from support.pki import PrivateKey, make_root
from support.rig_token import RigToken, write_files
from support.swtpm import SWTPM, running_swtpm

PIN = "tpm-user-pin"
KEYS = {"rsa-2048": "rsa:2048", "p-256": "EC:prime256v1", "p-384": "EC:secp384r1"}
_CURVES: dict[str, ec.EllipticCurve] = {"p-256": ec.SECP256R1(), "p-384": ec.SECP384R1()}
_SO_PIN = "tpm-so-pin"
_LABEL = "rolekey-tpm"


def find_tpm2_pkcs11() -> Path | None:
    """The module, wherever Debian has put it; TPM2_PKCS11_MODULE overrides."""
    return find_module("libtpm2_pkcs11.so", "TPM2_PKCS11_MODULE") or find_module(
        "libtpm2_pkcs11.so.1", "TPM2_PKCS11_MODULE"
    )


@dataclass(frozen=True)
class _HeldInTPM:
    """What a certificate's issuer needs of a key: its public half."""

    public: object

    def public_key(self) -> object:
        return self.public


@contextmanager
def tpm2_pkcs11_token(directory: Path) -> Iterator[tuple[RigToken, SWTPM]]:
    """A token with `KEYS`, made in the TPM, for the length of a with block.

    Args:
        directory: for the TPM's state, the store and the certificates.

    Yields:
        The token, and the TPM behind it.
    """
    module = find_tpm2_pkcs11()
    assert module is not None, "the rig's probe has seen it"
    with running_swtpm(directory / "tpm") as tpm:
        store = directory / "store"
        store.mkdir()
        environment = {"TPM2_PKCS11_STORE": str(store), "TPM2_PKCS11_TCTI": tpm.tcti}
        selectors = {label: f"token={_LABEL};object={label}" for label in KEYS}
        token = RigToken(directory, module, environment, PIN, selectors)
        _provision(token)
        # Making a token leaves one object loaded.
        tpm.flush()
        yield token, tpm


def _provision(token: RigToken) -> None:
    _run(token, "--slot-index", "0", "--init-token", "--label", _LABEL, "--so-pin", _SO_PIN)
    officer = ("--login", "--login-type", "so", "--so-pin", _SO_PIN)
    _run(token, "--token-label", _LABEL, *officer, "--init-pin", "--pin", PIN)
    issuer, leaves = make_root().issue_authority(), {}
    for label, key_type in KEYS.items():
        held = _HeldInTPM(_make_key(token, label, key_type))
        leaves[label] = issuer.issue(cast("PrivateKey", held), label)
    write_files(token.directory, issuer, leaves, PIN)


def _make_key(token: RigToken, label: str, key_type: str) -> object:
    """The public half of a new key."""
    login = ("--token-label", _LABEL, "--login", "--pin", PIN)
    words = ("--keypairgen", "--key-type", key_type, "--label", label, "--id", label.encode().hex())
    made = _run(token, *login, *words)
    if point := re.search("EC_POINT: *([0-9a-f]+)", made):
        # pkcs11-tool cannot write P-384's public key to a file.
        encoded = asn1.decode_der(bytes, bytes.fromhex(point[1]))
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[label], encoded)
    der = token.directory / "public.der"
    read = ("--read-object", "--type", "pubkey", "--label", label, "--output-file", str(der))
    _run(token, "--token-label", _LABEL, *read)
    return load_der_public_key(der.read_bytes())


def _run(token: RigToken, *words: str) -> str:
    command = ["pkcs11-tool", "--module", str(token.module), *words]
    environment = {**os.environ, **token.environment}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout
