"""Whether IAM Roles Anywhere can use a certificate and its key, in a few words (AWS, trust-model: certificates)."""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rolekey.certificates import Certificate, check_end_entity, is_attestation
from rolekey.errors import RolekeyError
from rolekey.signers.pkcs11 import MECHANISMS
from rolekey.sigv4_x509 import algorithm_name
from rolekey.tokens.objects import TokenPrivateKey

_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def use_of_certificate(certificate: Certificate, now: datetime) -> str:
    """What a certificate is good for.

    Args:
        certificate: any.
        now: aware datetime.

    Returns:
        ``usable, 42 days left``, or ``no: `` and the reason.
    """
    try:
        check_end_entity(certificate, now)
        algorithm_name(certificate.public_key())
    except RolekeyError as error:
        return f"no: {error.message}"
    if reasons := faults(certificate):
        return f"no: {reasons[0]}"
    return f"usable, {(certificate.not_valid_after_utc - now).days} days left"


def use_of_key(key: TokenPrivateKey) -> str:
    """Why a private key cannot sign, or nothing."""
    try:
        key.check_usage()
    except RolekeyError as error:
        return f"no: {error.message}"
    if key.key_type in MECHANISMS:
        return ""
    return f"no: it is of type {key.key_type}, and rolekey signs in tokens with RSA, EC and ML-DSA keys"


def faults(certificate: Certificate) -> tuple[str, ...]:
    """Why IAM Roles Anywhere takes no certificate like this one, whatever the time is; empty where it does.

    Args:
        certificate: any.
    """
    usage, is_readable = _key_usage(certificate)
    public_key = certificate.public_key()
    is_v3 = _parsed(certificate).version is x509.Version.v3
    curve = public_key.curve.name if isinstance(public_key, ec.EllipticCurvePublicKey) else _CURVES[0]
    found = (
        (is_attestation(certificate), "it attests a key, and is not for authentication"),
        (not is_v3, "it is no X.509 v3 certificate"),
        (curve not in _CURVES, f"its key is on {curve}, not P-256, P-384 or P-521"),
        (not is_readable, "its extensions cannot be read"),
        (is_v3 and is_readable and usage is None, "it has no keyUsage, which is to have digitalSignature"),
        (usage is not None and not usage.digital_signature, "its keyUsage has no digitalSignature"),
        (is_weakly_signed(certificate), "its signature is weaker than SHA-256"),
        (not list(certificate.subject), "its subject is empty"),
    )
    return tuple(text for is_so, text in found if is_so)


def _key_usage(certificate: Certificate) -> tuple[x509.KeyUsage | None, bool]:
    """keyUsage, and whether the extensions can be read."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value, True
    except x509.ExtensionNotFound:
        return None, True
    except ValueError:
        return None, False


def is_weakly_signed(certificate: Certificate) -> bool:
    """Whether a certificate's signature is weaker than SHA-256.

    Args:
        certificate: any.
    """
    try:
        algorithm = _parsed(certificate).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    # None is ML-DSA's.
    return isinstance(algorithm, hashes.MD5 | hashes.SHA1 | hashes.SHA224)


def _parsed(certificate: Certificate) -> x509.Certificate:
    return certificate if isinstance(certificate, x509.Certificate) else certificate.mended
