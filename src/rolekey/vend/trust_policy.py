"""A role's trust policy for one certificate (IAM JSON policy language; IAM Roles Anywhere, trust model)."""

import json
import re
import unicodedata
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from rolekey.arn import ARN
from rolekey.certificates import Certificate, describe
from rolekey.errors import CertificateError, ConfigurationError

_SERVICE = "rolesanywhere.amazonaws.com"
_ACTIONS = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
_LONGEST_TAG = 256
_SIGNS = "_.:/=+-@"
_WILDCARD = re.compile(r"[*?$]")


def trust_policy_json(certificate: Certificate, trust_anchor: ARN) -> str:
    """The policy of a role for whoever has a certificate with these names from that trust anchor.

    Args:
        certificate: the end-entity certificate.
        trust_anchor: the only one that may vouch for it.

    Returns:
        JSON in ASCII, indented, without a line end.

    Raises:
        ConfigurationError: the anchor's ARN has a wildcard in it.
        CertificateError: no condition can name this certificate.
    """
    if _WILDCARD.search(str(trust_anchor)):
        raise ConfigurationError(
            "--trust-anchor-arn has a wildcard in it, and a policy with it would trust other anchors, too",
            hint="copy the whole ARN of one trust anchor",
        )
    conditions = {"ArnEquals": {"aws:SourceArn": str(trust_anchor)}, "StringEquals": _names(certificate)}
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": _SERVICE},
        "Action": list(_ACTIONS),
        "Condition": conditions,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


def _names(certificate: Certificate) -> dict[str, str]:
    subject = _common_name(certificate, certificate.subject, "subject")
    if subject is None:
        # What the service makes of the serial number where there is no common name.
        digits = f"{certificate.serial_number:x}"
        names = {"sts:SourceIdentity": f"ID={digits.zfill(len(digits) + len(digits) % 2)}"}
    else:
        names = {"aws:PrincipalTag/x509Subject/CN": subject}
    issuer = _common_name(certificate, certificate.issuer, "issuer")
    if issuer is not None:
        names["aws:PrincipalTag/x509Issuer/CN"] = issuer
    return names


def _common_name(certificate: Certificate, name: x509.Name, whose: str) -> str | None:
    """As the service writes it into a session tag; None where there is none."""
    values = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not values:
        return None
    text = "/".join(value if isinstance(value, str) else "" for value in values)
    if 0 < len(text) <= _LONGEST_TAG and all(_fits_a_tag(character) for character in text):
        return text
    raise CertificateError(
        f"the {whose}'s common name of the certificate {describe(certificate)} cannot be a session tag, so that no "
        "trust policy can ask for it",
        hint="have a certificate issued whose common name has up to 256 letters, digits, blanks and _ . : / = + - @",
    )


def _fits_a_tag(character: str) -> bool:
    """By STS's pattern for tags: letters, separators, numbers and a few signs."""
    return unicodedata.category(character)[0] in "LZN" or character in _SIGNS
