"""A signature over the official helper's fixed text, by which a key is tried without the service."""

import hashlib
from contextlib import closing

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rolekey.deadline import Deadline
from rolekey.identity import open_pair, open_signer
from rolekey.interaction import Interaction
from rolekey.key_settings import KeySettings
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.signers.base import HashName

_TEXT = b"AWS Roles Anywhere Credential Helper Signing Test1"


def sign_string(
    settings: KeySettings,
    interaction: Interaction,
    deadline: Deadline,
    *,
    hash: HashName = "sha256",  # noqa: A002 - the word of the field
) -> bytes:
    """Sign once, and verify with the certificate where one is named.

    Args:
        settings: where the key is, and its certificate.
        interaction: asks for a PIN or passphrase that no source gives.
        deadline: for all of it.
        hash: as Signer.sign() takes it.

    Returns:
        The signature, as Signer.sign() encodes it.

    Raises:
        RolekeyError: as open_pair() and open_signer() say.
    """
    certificate = settings.certificate
    # The official helper does not look for the public key of a key in a token.
    is_told = not isinstance(settings.private_key, PKCS11URI) or isinstance(certificate, PKCS11URI)
    if certificate is None:
        with closing(open_signer(settings, interaction, deadline)) as signer:
            return signer.sign(message_for(signer.public_key if is_told else None), hash=hash)
    with open_pair(settings, certificate, interaction, deadline) as identity:
        message = message_for(identity.certificate.public_key() if is_told else None)
        return identity.sign_message(message, hash=hash)


def message_for(public_key: object) -> bytes:
    """What the official helper has a key sign.

    Args:
        public_key: a public key of ``cryptography``, or None where it is not told.

    Returns:
        The fixed text; after it, for an RSA or EC key that is told, 32 bytes that depend on it.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        encoded = public_key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        encoded = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        return _TEXT
    return _TEXT + hashlib.sha256(b"IAM RA" + encoded).digest()
