"""OpenSC's pkcs11-spy: which PKCS#11 calls a program really made.

The module passes every call on to another module and appends it to a log. The log has the PIN in it, in hex, so it
belongs into a test's temporary directory and nowhere else.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_ATTRIBUTES = "C_GetAttributeValue"
_CALL = re.compile(r"^\d+: (C_\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class PKCS11Calls:
    """A log, counted.

    Attributes:
        count: how often each function was called, by name ("C_SignInit").
        logins: C_Login by user type: "CKU_USER", "CKU_SO", "CKU_CONTEXT_SPECIFIC".
        signatures: C_Sign with a buffer: each is one operation of the private key.
        length_queries: C_Sign without a buffer, which asks only for the signature's length.
        asked_after_login: the objects whose attributes were asked for after the first C_Login.
    """

    count: Counter[str]
    logins: Counter[str]
    signatures: int
    length_queries: int
    asked_after_login: frozenset[str]

    @classmethod
    def read(cls, log: Path) -> "PKCS11Calls":
        """Counts the calls of a log; a log that does not exist has none.

        Args:
            log: the file that `PKCS11Spy.environment` was given.
        """
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        parts = _CALL.split(text)[1:]
        calls = list(zip(parts[::2], parts[1::2], strict=True))
        logins = [
            re.findall(r"^\[in\] userType = (\w+)", body, re.MULTILINE) for name, body in calls if name == "C_Login"
        ]
        # A signature that fails shows no output line at all: the call was made with a buffer all the same.
        queries = sum(
            1
            for name, body in calls
            if name == "C_Sign" and re.search(r"^\[out\] pSignature\S* NULL", body, re.MULTILINE)
        )
        names = [name for name, _ in calls]
        after = calls[names.index("C_Login") :] if "C_Login" in names else []
        asked = [
            re.findall(r"^\[in\] hObject = (\w+)", body, re.MULTILINE) for name, body in after if name == _ATTRIBUTES
        ]
        count = Counter(names)
        return cls(
            count,
            Counter(kind for kinds in logins for kind in kinds),
            count["C_Sign"] - queries,
            queries,
            frozenset(handle for handles in asked for handle in handles),
        )


@dataclass(frozen=True)
class PKCS11Spy:
    """The spy's module.

    Attributes:
        module: the path to load instead of the real module.
    """

    module: Path

    def environment(self, module: Path, log: Path) -> dict[str, str]:
        """What a process needs in its environment for the spy to work.

        Args:
            module: the module that does the work.
            log: the file to append calls to.
        """
        return {"PKCS11SPY": str(module), "PKCS11SPY_OUTPUT": str(log)}
