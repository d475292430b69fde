"""The policy of a TPM key, as its file lists it: what can be executed, and whether it is the key's own.

draft-bottomley-tpm2-keys says what the commands of the list are; the TPM 2.0 Library, part 3, chapter 23, what they do
to the policy's digest. PolicyAuthValue, PolicyPassword, PolicyPCR and PolicyCommandCode are executed.
"""

import hashlib
import itertools
from collections.abc import Iterator

from rolekey.errors import UnsupportedKeyError
from rolekey.signers.tpm_public import HASHES, USER_WITH_AUTH, PublicArea
from rolekey.tss2_key import PolicyCommand, TSS2Key
from rolekey.value import Value

POLICY_PCR, POLICY_AUTH_VALUE, POLICY_PASSWORD, POLICY_COMMAND_CODE = 0x17F, 0x16B, 0x18C, 0x16C
_SIGN = 0x15D
_NAMES = {
    0x151: "PolicySecret",
    0x149: "PolicyNV",
    0x160: "PolicySigned",
    0x16A: "PolicyAuthorize",
    0x16D: "PolicyCounterTimer",
    0x16E: "PolicyCpHash",
    0x16F: "PolicyLocality",
    0x170: "PolicyNameHash",
    0x171: "PolicyOR",
    0x172: "PolicyTicket",
    0x187: "PolicyPhysicalPresence",
    0x188: "PolicyDuplicationSelect",
    0x18F: "PolicyNvWritten",
    0x190: "PolicyTemplate",
    0x192: "PolicyAuthorizeNV",
}
_MAX_STEPS = 16


class PolicyStep(Value):
    """One command to execute.

    Args:
        code: TPM_CC.
        pcrs: TPML_PCR_SELECTION of a PolicyPCR.
        pcr_digest: the digest of their values.
    """

    code: int
    pcrs: bytes = b""
    pcr_digest: bytes = b""

    @property
    def needs_password(self) -> bool:
        """Whether the key's password belongs to it."""
        return self.code in (POLICY_AUTH_VALUE, POLICY_PASSWORD)

    def __str__(self) -> str:
        return f"PCRs {'+'.join(_selected(self.pcrs))}" if self.pcrs else f"{self.code:#x}"

    @property
    def hashed(self) -> bytes:
        """What the command adds to the policy's digest."""
        if self.code == POLICY_PCR:
            return self.code.to_bytes(4) + self.pcrs + self.pcr_digest
        if self.code == POLICY_COMMAND_CODE:
            return self.code.to_bytes(4) + _SIGN.to_bytes(4)
        # PolicyPassword and PolicyAuthValue are one to the digest.
        return POLICY_AUTH_VALUE.to_bytes(4)


def policy_of(key: TSS2Key, area: PublicArea, text: str) -> tuple[PolicyStep, ...]:
    """The commands that allow a signature; empty for a key that its password alone allows it.

    Args:
        key: the file.
        area: the key's public area.
        text: what the key is called.

    Raises:
        UnsupportedKeyError: the file has a command that is not executed here, or not the key's own policy.
    """
    if area.attributes & USER_WITH_AUTH:
        return ()
    if not key.policy or len(key.policy) > _MAX_STEPS:
        raise without_policy(text)
    choices = [tuple(_readings(command, area, text)) for command in key.policy]
    for steps in itertools.product(*choices):
        if _digest(steps, area.name_algorithm) == area.auth_policy:
            return steps
    raise UnsupportedKeyError(
        f"the policy in the file of {text} is not the policy of the key", hint="the file was changed; make the key anew"
    )


def without_policy(text: str) -> UnsupportedKeyError:
    """The error for a key that only a policy allows to sign, where no policy is known.

    Args:
        text: what the key is called.
    """
    return UnsupportedKeyError(
        f"{text} signs under a policy only (attribute userWithAuth is clear), and the policy is not known",
        hint="use a key file that lists the policy, or a key with the attribute userWithAuth",
    )


def _readings(command: PolicyCommand, area: PublicArea, text: str) -> Iterator[PolicyStep]:
    """The ways in which a command can be read: programs disagree about PolicyPCR."""
    if command.code == POLICY_PCR:
        yield from _pcr_readings(command.body, hashlib.new(area.name_algorithm).digest_size)
    elif command.code == POLICY_COMMAND_CODE:
        if int.from_bytes(command.body) != _SIGN:
            raise UnsupportedKeyError(
                f"the policy of {text} does not allow signatures: PolicyCommandCode {command.body.hex()}",
                hint="use a key whose policy allows TPM2_Sign (0000015d)",
            )
        yield PolicyStep(command.code)
    elif command.code in (POLICY_AUTH_VALUE, POLICY_PASSWORD):
        yield PolicyStep(command.code)
    else:
        name = _NAMES.get(command.code, "an unknown command")
        raise UnsupportedKeyError(
            f"the policy of {text} has {name} (TPM_CC {command.code:#x}), which is not executed here",
            hint="PolicyAuthValue, PolicyPassword, PolicyPCR and PolicyCommandCode are; use a key without the other",
        )


def _pcr_readings(body: bytes, digest_size: int) -> Iterator[PolicyStep]:
    # The command's parameters: TPM2B_DIGEST, then the selection.
    size = int.from_bytes(body[:2])
    if size == digest_size and _is_selection(body[2 + size :]):
        yield PolicyStep(POLICY_PCR, body[2 + size :], body[2 : 2 + size])
    # What is hashed into the policy: the selection, then the bare digest.
    if _is_selection(body[:-digest_size]):
        yield PolicyStep(POLICY_PCR, body[:-digest_size], body[-digest_size:])


def _banks(selection: bytes) -> Iterator[tuple[int, bytes]]:
    """The hash and the bits of each bank in a TPML_PCR_SELECTION."""
    rest = selection[4:]
    while len(rest) >= 3:
        size = rest[2]
        yield int.from_bytes(rest[:2]), rest[3 : 3 + size]
        rest = rest[3 + size :]


def _is_selection(data: bytes) -> bool:
    banks = list(_banks(data))
    length = 4 + sum(3 + len(bits) for _, bits in banks)
    return len(data) == length and len(data) > 4 and int.from_bytes(data[:4]) == len(banks)


def _selected(selection: bytes) -> Iterator[str]:
    """As tpm2-tools write it: ``sha256:0,7``."""
    for bank, bits in _banks(selection):
        numbers = [str(8 * i + j) for i, byte in enumerate(bits) for j in range(8) if byte >> j & 1]
        yield f"{HASHES.get(bank, f'{bank:#06x}')}:{','.join(numbers)}"


def _digest(steps: tuple[PolicyStep, ...], algorithm: str) -> bytes:
    digest = bytes(hashlib.new(algorithm).digest_size)
    for step in steps:
        digest = hashlib.new(algorithm, digest + step.hashed).digest()
    return digest
