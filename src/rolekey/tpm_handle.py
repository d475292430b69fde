"""``handle:0x81010001``: a key that a TPM keeps, by its persistent handle, as the official helper writes it."""

import re
from typing import Self

from rolekey.errors import ConfigurationError
from rolekey.value import Value

PREFIX = "handle:"
_HANDLE = re.compile(r"(?:0[xX])?([0-9a-fA-F]{8})")
_PERSISTENT = range(0x81000000, 0x82000000)


class TPMHandle(Value):
    """A persistent handle.

    Args:
        value: TPM_HANDLE.
    """

    value: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``handle:`` and eight hexadecimal digits, with or without 0x.

        Raises:
            ConfigurationError: it is no persistent handle.
        """
        match = _HANDLE.fullmatch(text.removeprefix(PREFIX))
        if match is None or (value := int(match[1], 16)) not in _PERSISTENT:
            raise ConfigurationError(
                "the TPM handle is not one of a persistent key",
                hint="write handle:0x81000000 to handle:0x81ffffff; tpm2_getcap handles-persistent lists those in use",
            )
        return cls(value)

    def __str__(self) -> str:
        return f"{PREFIX}{self.value:#010x}"
