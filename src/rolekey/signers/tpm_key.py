"""A key that a TPM has, or can load, before anything is asked of the TPM."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rolekey.errors import MissingExtraError
from rolekey.signers.tpm_policy import PolicyStep, policy_of
from rolekey.signers.tpm_public import PublicArea
from rolekey.tss2_key import TSS2Key
from rolekey.value import Value


class TPMKey(Value, kw_only=True):
    """A key.

    Args:
        text: what messages call it.
        area: its public area.
        policy: the commands that allow a signature; empty where its password does.
        file: what its file says, or None.
        handle: under which the TPM keeps it; 0 for a key file.
    """

    text: str
    area: PublicArea
    policy: tuple[PolicyStep, ...] = ()
    file: TSS2Key | None = None
    handle: int = 0


if sys.platform == "win32":
    _LIBRARY_HINT = "it is not made for Windows: use a key in the certificate store (--cert-selector) or in a token"
else:
    _LIBRARY_HINT = "pip install 'rolekey[tpm]'; Debian needs apt-get install libtss2-dev pkg-config gcc before"


@contextmanager
def tpm_library() -> Iterator[None]:
    """For a with block in which the TPM's library is imported: it is an extra.

    Raises:
        MissingExtraError: it cannot be loaded.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"the key is in a TPM, and the library for that cannot be loaded: {error}",
            hint=_LIBRARY_HINT,
        ) from error


def read_key_file(path: Path, data: bytes) -> TPMKey:
    """The key of a TSS2 key file.

    Args:
        path: its name, for messages.
        data: its content.

    Raises:
        KeyNotFoundError: it holds no TPM key.
        UnsupportedKeyError: the key is damaged, or cannot be used.
        AmbiguousMatchError: it holds more than one private key.
    """
    file = TSS2Key.parse(data, str(path))
    text = f"the TPM key {path}" + (f" ({file.description})" if file.description else "")
    area = PublicArea.parse(file.public, text)
    return TPMKey(text=text, area=area, file=file, policy=policy_of(file, area, text))
