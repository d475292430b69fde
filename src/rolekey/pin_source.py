"""What a PIN source is called: the values of ``--pin-source``, and what the record of refused PINs keeps of one.

A PinSource says where a PIN is, never what it is: it may be printed, logged, pickled and written to disk.
"""

import re
from typing import Literal, Self

from rolekey.base.paths import path_of_url
from rolekey.errors import ConfigurationError
from rolekey.value import Value

Kind = Literal[
    "file",
    "fd",
    "env",
    "systemd",
    "pin-value",
    "tpm-key-password",
    "no-tpm-key-password",
    "empty-auth",
    "no-parent-password",
    "prompt",
    "none",
]

FORMS = "file:PATH, fd:N, env:NAME, systemd:NAME, prompt, none"
_NAMED: dict[str, tuple[Kind, re.Pattern[str]]] = {
    "file": ("file", re.compile(r"[^\0]+", re.DOTALL)),
    # 1 and 2 are what rolekey writes to.
    "fd": ("fd", re.compile(r"(?![12]\Z)(?:0|[1-9][0-9]{0,5})")),
    "env": ("env", re.compile(r"[A-Za-z_][A-Za-z0-9_]*")),
    "systemd": ("systemd", re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.@+-]{1,255}")),
}
_TEXTS: dict[Kind, str] = {
    "file": "the file {}",
    "fd": "file descriptor {}",
    "env": "the variable {}",
    "systemd": "the systemd credential {}",
    "pin-value": "the URI's pin-value",
    "tpm-key-password": "--tpm-key-password",
    "no-tpm-key-password": "--no-tpm-key-password",
    "empty-auth": "the key's file, which says that it has none",
    "no-parent-password": "nowhere, since --tpm-parent-password-source is not given",
    "prompt": "the prompt",
    "none": "nowhere",
}


class PinSource(Value):
    """Where a PIN comes from.

    Args:
        kind: of what sort it is; ``pin-value`` is the URI's, ``empty-auth`` a TPM key file's, the others are options.
        name: the path, number or name; empty for kinds that have none.
        version: for a file that was read: device, inode, size in bytes, and the times of the last change of its
            content and of its inode in nanoseconds; empty for everything else, which shows no sign of having changed.
    """

    kind: Kind
    name: str = ""
    version: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, option: str = "--pin-source") -> Self:
        """Read a value of ``--pin-source``, or of another option of its kind.

        Raises:
            ConfigurationError: it is none. It is not quoted: it may be a PIN.
        """
        kind, colon, name = text.partition(":")
        if text in ("prompt", "none"):
            return cls("prompt" if text == "prompt" else "none")
        if kind == "file":
            name = path_of_url(name)
        if colon and kind in _NAMED and _NAMED[kind][1].fullmatch(name):
            return cls(_NAMED[kind][0], name)
        raise ConfigurationError(
            f"{option} names no source of a PIN (what it says is not shown: it may be one)",
            hint=f"give one of {FORMS}",
        )

    def __str__(self) -> str:
        return _TEXTS[self.kind].format(self.name)

    def is_same(self, other: "PinSource") -> bool:
        """Whether both would give the same PIN, as far as can be told without looking at one.

        A file is the same while size and times are, whatever a restart makes of its device and inode number; under
        another name it is the same if everything is. Any other source is the same while its name is.
        """
        if not self.version or not other.version:
            return (self.kind, self.name) == (other.kind, other.name) and not (self.version or other.version)
        return self.version == other.version or (self.name == other.name and self.version[2:] == other.version[2:])
