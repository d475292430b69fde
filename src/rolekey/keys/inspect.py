"""What a key's hardware says of it, and whether the key can leave it. The key itself is not used."""

from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rolekey.certificates import read_file
from rolekey.deadline import Deadline
from rolekey.errors import DeadlineError, KeyNotFoundError, PinRequiredError
from rolekey.exportability import KeyAttributes
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.keys import ARGUMENT
from rolekey.pins import record_directories
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.signers.base import PublicKey
from rolekey.tpm_handle import TPMHandle
from rolekey.value import Value


class Inspection(Value, kw_only=True):
    """What is known of a key.

    Args:
        key: what selects it: a URI without its query, a handle, or a path.
        kind: its type, such as ``RSA 2048`` or ``EC secp256r1``.
        place: where it is.
        attributes: what its hardware says; None of a key that is in a file.
    """

    key: str
    kind: str
    place: str
    attributes: KeyAttributes | None


def inspect_key(settings: KeySettings, interaction: Interaction, deadline: Deadline) -> Inspection:
    """Find a key and read what is said of it.

    A token is logged in to, as for a signature. A TPM is asked for what it keeps; for a key file, the file is, and the
    TPM checks that when it loads the key. The passphrase of an encrypted file is not asked for.

    Args:
        settings: where the key is and what opens it.
        interaction: asks for a token's PIN that no source gives.
        deadline: for everything that token and TPM do.

    Raises:
        SignerError: the key cannot be found or read.
        DeadlineError: the hardware did not answer in time.
    """
    reference = settings.private_key
    if isinstance(reference, TPMHandle):
        return _of_handle(settings, reference, deadline)
    if isinstance(reference, PKCS11URI):
        return _in_token(settings, reference, interaction, deadline)
    assert isinstance(reference, Path)  # noqa: S101 - the argument names no certificate store
    return _in_file(reference)


def _in_token(settings: KeySettings, uri: PKCS11URI, interaction: Interaction, deadline: Deadline) -> Inspection:
    # Each backend's libraries are for its keys.
    from rolekey.signers.pkcs11 import CLOSE_SECONDS  # noqa: PLC0415
    from rolekey.token_identity import TokenIdentity  # noqa: PLC0415

    found = TokenIdentity(settings, uri, interaction, deadline).find_key(ARGUMENT)
    token, key = found.contents.token, found.key
    try:
        attributes = deadline.run(f"token {token}", key.attributes)
        spki = found.contents.public_key_of(key)
        kind = kind_of(load_der_public_key(spki)) if spki else key.key_type
        return Inspection(key=token.uri(key), kind=kind, place=f"token {token}", attributes=attributes)
    finally:
        with suppress(DeadlineError):
            Deadline(CLOSE_SECONDS).run("the token to close", found.login.session.close)


def _of_handle(settings: KeySettings, handle: TPMHandle, deadline: Deadline) -> Inspection:
    from rolekey.signers.tpm_key import tpm_library  # noqa: PLC0415 - as above

    with tpm_library():
        from rolekey.tpm_identity import area_of_handle, find_tpm  # noqa: PLC0415 - as above

    device = find_tpm(settings, deadline, record_directories())
    _, area = area_of_handle(device, handle)
    place = f"TPM at {device.address}"
    return Inspection(key=str(handle), kind=kind_of(area.public_key), place=place, attributes=area.key_attributes)


def _in_file(path: Path) -> Inspection:
    from rolekey.signers.file import open_file_signer  # noqa: PLC0415 - as above
    from rolekey.tss2_key import is_tss2  # noqa: PLC0415 - as above

    content = read_file(path, "private key file", KeyNotFoundError)
    if is_tss2(content):
        return _in_key_file(path, content)
    try:
        kind = kind_of(open_file_signer(path, content, _no_passphrase).public_key)
    except PinRequiredError:
        kind = "encrypted"
    return Inspection(key=str(path), kind=kind, place="file", attributes=None)


def _in_key_file(path: Path, content: bytes) -> Inspection:
    from rolekey.signers.tpm_public import PublicArea  # noqa: PLC0415 - as above
    from rolekey.tss2_key import TSS2Key  # noqa: PLC0415 - as above

    key = TSS2Key.parse(content, str(path))
    area = PublicArea.parse(key.public, f"the TPM key {path}")
    place = f"file for a TPM ({key.kind}), which says what follows and which the TPM checks when it loads the key"
    return Inspection(key=str(path), kind=kind_of(area.public_key), place=place, attributes=area.key_attributes)


def _no_passphrase(_what: str) -> Secret:
    raise PinRequiredError("the private key is encrypted", hint="nothing is asked for to look at it")


def kind_of(public_key: PublicKey) -> str:
    """The type of a key, such as ``RSA 2048`` or ``EC secp256r1``."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA {public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"EC {public_key.curve.name}"
    return type(public_key).__name__.removesuffix("PublicKey")
