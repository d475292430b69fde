"""A token with ML-DSA keys: SoftHSM behind shim/pkcs11_mldsa.c, since no module that Debian packages has them.

SoftHSM keeps an EC pair for each; the module shows it as an ML-DSA pair and signs with dilithium-py.
"""

import os
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import mldsa

from support.pkcs11_shim import SOURCE as SHIM
from support.pkcs11_shim import compile_module
from support.pki import Issued, KeyName, make_root
from support.rig_token import RigToken, write_files
from support.softhsm import TOKEN_LABEL, ProvisionedToken

SOURCE = SHIM.with_name("pkcs11_mldsa.c")
PROGRAM = SHIM.with_name("mldsa_sign.py")
# label of the key -> CKA_ID of it and its certificate
KEYS: dict[KeyName, str] = {"mldsa44": "44", "mldsa65": "65", "mldsa87": "87"}


def make_mldsa_token(token: ProvisionedToken, directory: Path) -> RigToken:
    """A copy of SoftHSM's token with `KEYS` and their certificates.

    Args:
        token: stays as it is.
        directory: where; it must exist.
    """
    own = token.copy(directory / "token")
    keys = directory / "keys"
    keys.mkdir()
    issuer = make_root().issue_authority()
    leaves: dict[str, Issued] = {label: issuer.issue(label, label) for label in KEYS}
    write_files(directory, issuer, leaves, own.user_pin)
    for label, object_id in KEYS.items():
        key = leaves[label].key
        assert isinstance(key, mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey)
        (keys / f"{object_id}.public").write_bytes(key.public_key().public_bytes_raw())
        (keys / f"{object_id}.seed").write_bytes(key.private_bytes_raw())
        der = directory / f"{label}.der"
        der.write_bytes(leaves[label].der)
        names = ("--label", label, "--id", object_id)
        _tool(own, "--keypairgen", "--key-type", "EC:prime256v1", "--sensitive", *names)
        _tool(own, "--write-object", str(der), "--type", "cert", *names)
    environment = {
        **own.environment,
        "PKCS11_MLDSA_MODULE": str(own.module),
        "PKCS11_MLDSA_KEYS": str(keys),
        "PKCS11_MLDSA_PYTHON": sys.executable,
        "PKCS11_MLDSA_SIGN": str(PROGRAM),
    }
    selectors: dict[str, str] = {label: f"token={TOKEN_LABEL};object={label}" for label in KEYS}
    return RigToken(directory, compile_module(SOURCE, directory), environment, own.user_pin, selectors)


def _tool(token: ProvisionedToken, *words: str) -> None:
    command = ["pkcs11-tool", "--module", str(token.module), "--token-label", token.label, "--login"]
    command += ["--pin", token.user_pin, *words]
    environment = {**os.environ, **token.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
