"""Keys in a TPM as users have them: made by OpenSSL and by tpm2-tools, in files and kept by the TPM.

Each comes with a certificate, so that it can be used for everything. The files that neither program writes (other
hierarchies, descriptions, policies) are put together of what tpm2-tools made, by support/tss2_files.py.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from support.der import octets
from support.pki import Issued, PrivateKey
from support.swtpm import SWTPM
from support.tss2_files import EMPTY_AUTH, FALSE, IMPORTABLE, LOADABLE, POLICY, SECRET, TRUE, key_der, key_pem
from support.tss2_files import policy as policy_der

OWNER, NULL, ENDORSEMENT, PLATFORM = 0x40000001, 0x40000007, 0x4000000B, 0x4000000C
_LETTERS = {OWNER: "o", NULL: "n", ENDORSEMENT: "e", PLATFORM: "p"}
_STORAGE = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
SIGNING = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
UNDER_POLICY = "fixedtpm|fixedparent|sensitivedataorigin|sign"
POLICY_PCR, POLICY_AUTH_VALUE, POLICY_COMMAND_CODE = 0x17F, 0x16B, 0x16C


@dataclass(frozen=True)
class MadeKey:
    """A key and how it is used.

    Attributes:
        private_key: the file, or the handle.
        certificate: its certificate's file.
        public_key: cryptography's.
        password: its own; empty where it has none.
        options: what rolekey needs besides, by the names of its options' fields.
    """

    private_key: str
    certificate: Path
    public_key: Any
    password: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _PublicHalf:
    """What a CA needs of a key."""

    key: Any

    def public_key(self) -> Any:
        return self.key


class TPMKeys:
    """Makes keys in one TPM. Nothing stays loaded.

    Args:
        tpm: the TPM.
        root: issues the certificates.
    """

    def __init__(self, tpm: SWTPM, root: Issued) -> None:
        self.tpm = tpm
        self._root = root
        self._numbers = itertools.count(1)

    def by_openssl(self, *options: str, password: str = "") -> MadeKey:
        """A file of `openssl genpkey -provider tpm2`, under the owner's hierarchy.

        Args:
            options: such as "EC", "group:P-256": the algorithm, then what -pkeyopt takes.
            password: of the key.
        """
        algorithm, *more = options
        if password:
            more.append(f"user-auth:{password}")
        name = self._name()
        words = (word for option in more for word in ("-pkeyopt", option))
        self.tpm.openssl("genpkey", "-algorithm", algorithm, *words, "-out", f"{name}.key")
        unlock = ("-passin", f"pass:{password}") if password else ()
        self.tpm.openssl("pkey", *unlock, "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub.pem")
        return self._made(name, str(self.tpm.directory / f"{name}.key"), password)

    def by_tools(
        self,
        algorithm: str = "ecc256",
        *,
        parent: int = OWNER,
        attributes: str = SIGNING,
        password: str = "",
        parent_password: str = "",
        rsa_parent: bool = False,
        policy: Path | None = None,
        handle: int | None = None,
        fields: Mapping[int, bytes] | None = None,
    ) -> MadeKey:
        """A key of `tpm2_create`, in a file or kept by the TPM.

        Args:
            algorithm: as tpm2_create takes it.
            parent: a hierarchy, whose standard key is the parent, or the handle of one that is there.
            attributes: as tpm2_create takes them.
            password: of the key.
            parent_password: of the hierarchy or the parent.
            rsa_parent: the hierarchy's standard key of RSA, not of P-256.
            policy: the file with the policy's digest.
            handle: where the TPM keeps the key; None for a key in a file.
            fields: of the file, in DER, besides emptyAuth.
        """
        name = self._name()
        context = self._parent(name, parent, parent_password, rsa_parent=rsa_parent)
        words = ["--parent-context", context, "--key-algorithm", algorithm, "--attributes", attributes]
        words += ["--public", f"{name}.pub", "--private", f"{name}.priv"]
        words += ["--format", "pem", "--output", f"{name}.pub.pem"]
        words += ["--key-auth", password] if password else []
        words += ["--parent-auth", parent_password] if parent_password and parent not in _LETTERS else []
        words += ["--policy", str(policy)] if policy else []
        self.tpm.run("tpm2_create", *words)
        self.tpm.run("tpm2_flushcontext", "--transient-object")
        if handle is not None:
            load = ["--public", f"{name}.pub", "--private", f"{name}.priv", "--key-context", f"{name}.ctx"]
            load += ["--auth", parent_password] if parent_password and parent not in _LETTERS else []
            self.tpm.run("tpm2_load", "--parent-context", context, *load)
            self.tpm.run("tpm2_evictcontrol", "--object-context", f"{name}.ctx", f"{handle:#x}")
        self.tpm.flush()
        if handle is not None:
            return self._made(name, f"handle:{handle:#x}", password)
        empty = FALSE if password else TRUE
        return self.write(name, parent, {EMPTY_AUTH: empty, **(fields or {})}, password)

    def write(
        self, name: str, parent: int, fields: Mapping[int, bytes], password: str = "", object_type: bytes = LOADABLE
    ) -> MadeKey:
        """Put a file together of `NAME.pub` and `NAME.priv`.

        Args:
            name: of the files.
            parent: of the key.
            fields: the optional ones, by number, in DER.
            password: of the key.
            object_type: loadable or importable, in DER.
        """
        public, private = ((self.tpm.directory / f"{name}.{ending}").read_bytes() for ending in ("pub", "priv"))
        path = self.tpm.directory / f"{name}.key"
        ordered = dict(sorted(fields.items()))
        der = key_der(public, private, object_type=object_type, fields=ordered, parent=parent)
        path.write_bytes(key_pem(der))
        return self._made(name, str(path), password)

    def storage_key(self, handle: int, password: str = "", *, counted: bool = False) -> int:
        """A storage key that the TPM keeps, for a parent.

        Args:
            handle: where.
            password: its own.
            counted: wrong passwords count: without the attribute noDA.
        """
        name = self._name()
        auth = ["--key-auth", password] if password else []
        attributes = _STORAGE.replace("|noda", "") if counted else _STORAGE
        self.tpm.run("tpm2_createprimary", "--attributes", attributes, "--key-context", f"{name}.ctx", *auth)
        self.tpm.run("tpm2_evictcontrol", "--object-context", f"{name}.ctx", f"{handle:#x}")
        self.tpm.flush()
        return handle

    def importable(self, parent: int) -> MadeKey:
        """A key that was made elsewhere and wrapped for a parent, as `tpm2_duplicate` wraps it.

        Args:
            parent: the handle of a storage key.
        """
        name = self._name()
        tpm = self.tpm
        tpm.run("tpm2_startauthsession", "--session", f"{name}.trial")
        words = ["--session", f"{name}.trial", "--policy", f"{name}.policy", "TPM2_CC_Duplicate"]
        tpm.run("tpm2_policycommandcode", *words)
        tpm.run("tpm2_flushcontext", f"{name}.trial")
        tpm.run("tpm2_createprimary", "--key-context", f"{name}.elsewhere")
        words = ["--parent-context", f"{name}.elsewhere", "--key-algorithm", "ecc256", "--policy", f"{name}.policy"]
        words += ["--attributes", "sensitivedataorigin|userwithauth|sign", "--public", f"{name}.pub", "--private", "x"]
        tpm.run("tpm2_create", *words, "--format", "pem", "--output", f"{name}.pub.pem")
        tpm.flush()
        words = ["--public", f"{name}.pub", "--private", "x", "--key-context", f"{name}.ctx"]
        tpm.run("tpm2_load", "--parent-context", f"{name}.elsewhere", *words)
        tpm.run("tpm2_flushcontext", "--transient-object")
        tpm.run("tpm2_startauthsession", "--policy-session", "--session", f"{name}.session")
        tpm.run("tpm2_policycommandcode", "--session", f"{name}.session", "TPM2_CC_Duplicate")
        words = ["--parent-context", f"{parent:#x}", "--key-context", f"{name}.ctx", "--wrapper-algorithm", "null"]
        words += ["--auth", f"session:{name}.session", "--private", f"{name}.priv", "--encrypted-seed", f"{name}.seed"]
        tpm.run("tpm2_duplicate", *words)
        tpm.flush()
        seed = (tpm.directory / f"{name}.seed").read_bytes()
        commands = policy_der([(POLICY_COMMAND_CODE, (0x14B).to_bytes(4))])
        fields = {EMPTY_AUTH: TRUE, POLICY: commands, SECRET: octets(seed)}
        return self.write(name, parent, fields, object_type=IMPORTABLE)

    def policy_digest(self, *commands: tuple[str, ...]) -> Path:
        """The digest of a policy, in a file.

        Args:
            commands: tools and their words, such as ("tpm2_policypcr", "--pcr-list", "sha256:0").
        """
        name = self._name()
        path = self.tpm.directory / f"{name}.policy"
        self.tpm.run("tpm2_startauthsession", "--session", f"{name}.session")
        for tool, *words in commands:
            self.tpm.run(tool, "--session", f"{name}.session", "--policy", str(path), *words)
        self.tpm.run("tpm2_flushcontext", f"{name}.session")
        return path

    def pcr_command(self, *numbers: int, hashed: bool = False) -> bytes:
        """The body of a PolicyPCR over the SHA-256 bank, for the values of now.

        Args:
            numbers: of the PCRs.
            hashed: what is hashed into the policy, in place of the command's parameters: programs disagree.
        """
        bits = sum(1 << number for number in numbers).to_bytes(3, "little")
        selection = (1).to_bytes(4) + (0x0B).to_bytes(2) + b"\x03" + bits
        listed = ",".join(map(str, numbers))
        self.tpm.run("tpm2_pcrread", f"sha256:{listed}", "--output", "pcrs")
        digest = hashlib.sha256((self.tpm.directory / "pcrs").read_bytes()).digest()
        return selection + digest if hashed else octets_sized(digest) + selection

    def _parent(self, name: str, parent: int, password: str, *, rsa_parent: bool) -> str:
        if parent not in _LETTERS:
            return f"{parent:#x}"
        words = ["--hierarchy", _LETTERS[parent], "--attributes", _STORAGE, "--key-context", f"{name}.parent"]
        words += ["--key-algorithm", "rsa2048:aes128cfb" if rsa_parent else "ecc256:aes128cfb"]
        words += ["--hierarchy-auth", password] if password else []
        self.tpm.run("tpm2_createprimary", *words)
        return f"{name}.parent"

    def _name(self) -> str:
        return f"key-{next(self._numbers)}"

    def _made(self, name: str, private_key: str, password: str) -> MadeKey:
        public_key = load_pem_public_key((self.tpm.directory / f"{name}.pub.pem").read_bytes())
        certificate = self.tpm.directory / f"{name}.pem"
        certificate.write_bytes(self._root.issue(cast("PrivateKey", _PublicHalf(public_key)), name).pem)
        return MadeKey(private_key, certificate, public_key, password)


def octets_sized(data: bytes) -> bytes:
    """A TPM2B structure."""
    return len(data).to_bytes(2) + data


def policy_field(commands: Iterable[tuple[int, bytes]]) -> Mapping[int, bytes]:
    """The field of a file that lists a policy.

    Args:
        commands: TPM_CC and body.
    """
    return {POLICY: policy_der(commands)}
