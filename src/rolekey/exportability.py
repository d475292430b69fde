"""Whether a private key can leave its hardware, by what the hardware says of it.

PKCS#11 v2.40, 4.9 (private key objects), TPM 2.0 Library, part 2, 8.3 (TPMA_OBJECT), and ncrypt.h (CNG). What is not
said counts as said against the key: a token that gives no CKA_LOCAL does not say that the key was made in it.
"""

from collections.abc import Mapping
from typing import Literal

from rolekey.errors import UnsupportedKeyError
from rolekey.value import Value

Place = Literal["token", "TPM", "hardware of its provider"]
# What rules export out, now and ever since the key was made: all of it together. The first two of a token's speak of
# now, the next two of the past; and a key that was made elsewhere may have stayed there.
RULES_EXPORT_OUT: Mapping[Place, Mapping[str, bool]] = {
    "token": {
        "CKA_EXTRACTABLE": False,
        "CKA_SENSITIVE": True,
        "CKA_ALWAYS_SENSITIVE": True,
        "CKA_NEVER_EXTRACTABLE": True,
        "CKA_LOCAL": True,
    },
    "TPM": {"fixedTPM": True, "fixedParent": True, "sensitiveDataOrigin": True},
    # CNG has no word for where a key was made. Without hardware its policy is a promise of software.
    "hardware of its provider": {
        "NCRYPT_IMPL_HARDWARE_FLAG": True,
        "NCRYPT_IMPL_SOFTWARE_FLAG": False,
        "NCRYPT_ALLOW_EXPORT_FLAG": False,
        "NCRYPT_ALLOW_PLAINTEXT_EXPORT_FLAG": False,
        "NCRYPT_ALLOW_ARCHIVING_FLAG": False,
        "NCRYPT_ALLOW_PLAINTEXT_ARCHIVING_FLAG": False,
    },
}


class KeyAttributes(Value):
    """What the hardware says of a private key.

    Args:
        place: what keeps the key.
        values: names of attributes, and what each is; None where it is not given. Others may be among them.
    """

    place: Place
    values: tuple[tuple[str, bool | None], ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What does not rule export out, such as ``CKA_EXTRACTABLE is true``; empty where everything does."""
        given = dict(self.values)
        wanted = RULES_EXPORT_OUT[self.place].items()
        return tuple(f"{name} is {written(given.get(name))}" for name, value in wanted if given.get(name) is not value)


def check_non_exportable(key: str, attributes: KeyAttributes | None) -> None:
    """Refuse a key that may leave its hardware, or may have left it.

    Args:
        key: what the key is called.
        attributes: what the hardware says; None of a key that is in none.

    Raises:
        UnsupportedKeyError: with what does not rule export out.
    """
    if attributes is None or attributes.doubts:
        raise UnsupportedKeyError(
            f"{key} is not used (--require-non-exportable): {verdict(attributes)}",
            hint="use a key that was made in a token or TPM and cannot leave it; `rolekey key inspect` looks at one",
        )


def written(value: bool | None) -> str:  # noqa: FBT001 - it is what is written
    """An attribute's value in words."""
    return "not given" if value is None else str(value).lower()


def verdict(attributes: KeyAttributes | None) -> str:
    """Whether the key can leave its hardware, in one line.

    Args:
        attributes: what the hardware says; None of a key that is in none.
    """
    if attributes is None:
        return "this key is a file"
    if attributes.doubts:
        return f"export cannot be ruled out: {', '.join(attributes.doubts)}"
    return f"this key cannot leave the {attributes.place}"
