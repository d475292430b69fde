"""One failure injected into one PKCS#11 function, many times: run as a process of its own over the fault shim.

Reads cases from stdin as JSON lines ``[function, code, detail, uri]`` (detail: null, or as ShimmedModule.rule's `only`)
and answers each with a JSON line: the class of the error (or "ok"), its text, and how often C_Login was called.
"""

import ctypes
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import RolekeyError
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.sigv4_x509 import verify_signature
from rolekey.tokens import modules
from rolekey.tokens.library import _C_FINALIZE
from support.pkcs11_shim import ShimmedModule

ARNS: dict[str, Any] = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}


def attempt(module: Path, uri: str) -> dict[str, Any]:
    """Open an identity and sign once."""
    options = Options(**ARNS, private_key=uri, pkcs11_lib=str(module))
    try:
        with open_identity(resolve_settings(options, {}), NoInteraction(), Deadline(20)) as identity:
            verify_signature(identity.certificate.public_key(), identity.sign("message"), b"message")
    except RolekeyError as error:
        return {"class": type(error).__name__, "text": f"{error.message} | {error.hint}"}
    return {"class": "ok", "text": ""}


def forget_module() -> None:
    """Finalise the module and drop it, so that the next attempt loads and initialises it."""
    for _, module in modules._registry.values():
        module._library.call(_C_FINALIZE, ctypes.c_void_p())
    modules._registry.clear()


def main() -> None:
    """Answer cases until stdin ends."""
    shim = ShimmedModule(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    state = Path(os.environ["XDG_STATE_HOME"])
    for line in sys.stdin:
        function, code, detail, uri = json.loads(line)
        shutil.rmtree(state, ignore_errors=True)  # what one case left behind about the PIN is none of the next one's
        forget_module()
        shim.forget_calls()
        shim.rule(function, result=code, only=detail)
        result = attempt(shim.module, uri)
        shim.clear()
        result["logins"] = shim.calls["C_Login"]
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
