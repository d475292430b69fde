"""A signer in a process of its own: for modules that need another environment than the tests, or that may crash.

`RemoteSigner` is a Signer in the test; `main`, in the child, opens the identity with rolekey's own functions. One JSON
line asks and one answers, over the child's standard input and a descriptor that no module writes on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.serialization import load_der_public_key

from rolekey.certificates import spki
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import PinError, RolekeyError
from rolekey.identity import SigningIdentity, open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.signers.base import HashName
from rolekey.tokens.modules import load_module
from support.rig_token import RigToken

ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
_SECONDS = 600


class RemoteError(Exception):
    """An error of rolekey in the child.

    Args:
        kind: its class's name.
        text: its message.
        tries: a PinError's.
    """

    def __init__(self, kind: str, text: str, tries: str | None = None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.tries = tries


class RemoteSigner:
    """A Signer whose work is done in the child.

    Args:
        child: the process.
        public_key: as the child's signer gives it.
    """

    def __init__(self, child: "ContractChild", public_key: Any) -> None:
        self._child = child
        self.public_key = public_key

    def sign(self, message: bytes, *, hash: HashName = "sha256") -> bytes:  # noqa: A002 - as in Signer
        """See Signer.sign()."""
        return bytes.fromhex(self._child.ask("sign", message=message.hex(), hash=hash)["signature"])

    def close(self) -> None:
        """See Signer.close()."""
        self._child.ask("close")


class ContractChild:
    """The process.

    Args:
        process: running `main`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def open(self, token: RigToken, label: str, **options: Any) -> RemoteSigner:
        """Open the identity of one of a token's keys.

        Args:
            token: where the key is.
            label: of the key.
            options: instead of the token's own, such as `private_key`.

        Raises:
            RemoteError: it could not be opened.
        """
        given = {
            "private_key": token.uri(label),
            "certificate": str(token.certificate(label)),
            "pkcs11_lib": str(token.module),
            **options,
        }
        answer = self.ask("open", reserved=token.reserved, options=given)
        der = answer["public_key"]
        return RemoteSigner(self, load_der_public_key(bytes.fromhex(der)) if der else None)

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """One question, one answer.

        Raises:
            RemoteError: rolekey raised an error.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"action": action, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the child ended with code {self.process.wait(30)} during {action}"
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RemoteError(answer["error"], answer["text"], answer["tries"])
        return answer


@contextmanager
def contract_child(environment: Mapping[str, str], wrapper: Sequence[str] = ()) -> Iterator[ContractChild]:
    """A child for the length of a with block.

    Args:
        environment: variables to add.
        wrapper: words in front of its command.
    """
    path = os.pathsep.join(part for part in sys.path if part)
    with TemporaryDirectory(prefix="rolekey-state-") as state:  # what is remembered of PINs is this child's own
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "support.contract_child"],
            env={**os.environ, "XDG_STATE_HOME": state, **environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield ContractChild(process)
                assert process.stdin is not None
                process.stdin.close()
                process.wait(30)
            finally:
                process.kill()


def _open(request: dict[str, Any]) -> SigningIdentity:
    options: dict[str, Any] = {**ARNS, **request["options"]}
    if request["reserved"] is not None:
        load_module(options["pkcs11_lib"], request["reserved"])
    return open_identity(resolve_settings(Options(**options), {}), NoInteraction(), Deadline(_SECONDS))


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what a module prints is not an answer
    identity: SigningIdentity | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if request["action"] == "open":
                identity = _open(request)
                key = identity.signer.public_key
                answer = {"public_key": spki(key).hex() if key is not None else None}
            elif identity is not None and request["action"] == "sign":
                message = bytes.fromhex(request["message"])
                signature = identity.signer.sign(message, hash=request["hash"])
                answer = {"signature": signature.hex()}
            elif identity is not None:
                identity.signer.close()
        except RolekeyError as error:
            tries = error.tries if isinstance(error, PinError) else None
            answer = {"error": type(error).__name__, "text": str(error), "tries": tries}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
