"""Whether IAM Roles Anywhere can use a certificate and its key, in a few words (AWS, trust-model: certificates)."""

from datetime import datetime

from cryptography import x509
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
    if reason := _unfit(certificate):
        return f"no: {reason}"
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


def _unfit(certificate: Certificate) -> str:
    public_key = certificate.public_key()
    if is_attestation(certificate):
        return "it attests a key, and is not for authentication"
    if isinstance(certificate, x509.Certificate) and certificate.version is not x509.Version.v3:
        return "it is no X.509 v3 certificate"
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name not in _CURVES:
        return f"its key is on {public_key.curve.name}, not P-256, P-384 or P-521"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    except ValueError:
        return "its extensions cannot be read"
    return "" if usage.digital_signature else "its keyUsage has no digitalSignature"
