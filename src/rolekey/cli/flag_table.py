"""Every flag that several commands share, as a table: the official helper's, and ours."""

from typing import Any, Literal

from rolekey.options import DEFAULT_SESSION_DURATION
from rolekey.value import Value


class Flag(Value):
    """One option.

    Args:
        name: with its dashes.
        kind: what it takes; "texts" may be given more than once.
        help: one line.
        default: where it is not given.
        choices: the only values of a text, if it has such.
    """

    name: str
    kind: Literal["text", "texts", "secret", "boolean", "integer", "seconds"]
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """The name of the Python argument."""
        return self.name.removeprefix("--").replace("-", "_")


# The flags that credential-process, serve and update of the official helper share, in the order of its help.
HELPER_FLAGS = (
    Flag("--role-arn", "text", "The role to assume."),
    Flag("--profile-arn", "text", "The Roles Anywhere profile that lists the role."),
    Flag("--trust-anchor-arn", "text", "The trust anchor that the certificate leads to."),
    Flag("--session-duration", "integer", f"Seconds, 900 to 43200.  [default: {DEFAULT_SESSION_DURATION}]"),
    Flag("--region", "text", "The region; by default the trust anchor's."),
    Flag("--endpoint", "text", "Base URL of the service, in place of the region's own."),
    Flag("--no-verify-ssl", "boolean", "Accept any server certificate. Whoever is in between gets the credentials."),
    Flag("--with-proxy", "boolean", "Accepted and without effect: HTTPS_PROXY and NO_PROXY always count."),
    Flag("--debug", "boolean", "Say on stderr what is done and why, without secrets."),
    Flag("--certificate", "text", "The certificate: a PEM, DER or PKCS#12 file, or a pkcs11: URI."),
    Flag(
        "--private-key",
        "text",
        "The private key: a PEM, DER, PKCS#12 or TPM key file, a pkcs11: URI, or handle:0x81...",
    ),
    Flag("--intermediates", "text", "PEM file with the issuers between the certificate and the trust anchor."),
    Flag("--cert-selector", "text", "Windows: selects certificate and key in a certificate store; '' takes any."),
    Flag(
        "--system-store-name", "text", "Windows: the certificate store: MY, Root, Trust, CA, or another.  [default: MY]"
    ),
    Flag(
        "--use-latest-expiring-certificate", "boolean", "Windows: of several in the store, the one that expires last."
    ),
    Flag("--pkcs11-lib", "text", "The PKCS#11 module; else the URI's, PKCS11_MODULE_PATH, or the first usual one."),
    Flag("--reuse-pin", "boolean", "Accepted: the PIN always serves keys that ask for it at each signature, too."),
    Flag("--tpm-key-password", "secret", "Password of a TPM key (visible to other processes: prefer --pin-source)."),
    Flag("--no-tpm-key-password", "boolean", "The TPM key has no password."),
    Flag("--role-session-name", "text", "Name of the role session; the profile must accept one."),
    Flag("--pkcs8-password", "secret", "Passphrase of the key or PKCS#12 file (visible to other processes)."),
)
OWN_FLAGS = (
    Flag("--use-fips-endpoint", "boolean", "Use the region's FIPS endpoint (AWS_USE_FIPS_ENDPOINT)."),
    Flag("--use-dualstack-endpoint", "boolean", "Use the region's dual-stack endpoint (AWS_USE_DUALSTACK_ENDPOINT)."),
    Flag("--pkcs11-init-args", "text", "A string that the module wants at C_Initialize (NSS: configdir=...)."),
    Flag(
        "--pin-source", "text", "Where PIN or TPM password is: file:PATH, fd:N, env:NAME, systemd:NAME, prompt, none."
    ),
    Flag("--pin-file-group-readable", "boolean", "A PIN's file may be readable by its group."),
    Flag("--require-non-exportable", "boolean", "Use only a key that its hardware says cannot leave it."),
    Flag("--use-last-try", "boolean", "Send a PIN even if the token locks when it is wrong."),
    Flag("--tpm-tcti", "text", "The TPM: a TCTI such as device:/dev/tpmrm0 (TPM2TOOLS_TCTI, TPM_DEVICE)."),
    Flag("--tpm-parent-password-source", "text", "Where the password of a TPM key's parent is, as --pin-source."),
    Flag("--timeout", "seconds", "Seconds for everything: token, network, retries.  [default: 50, or 4.5 unattended]"),
)
NO_CACHE = Flag("--no-cache", "boolean", "Ask for new credentials, and keep nothing of them.")
CREDENTIAL_PROCESS_FLAGS = (*HELPER_FLAGS, *OWN_FLAGS, NO_CACHE)
# Pairs that the official helper refuses when both are given, whatever their values.
EXCLUSIONS = (
    ("--certificate", "--cert-selector"),
    ("--certificate", "--system-store-name"),
    ("--private-key", "--cert-selector"),
    ("--private-key", "--system-store-name"),
    ("--private-key", "--use-latest-expiring-certificate"),
    ("--use-latest-expiring-certificate", "--intermediates"),
    ("--use-latest-expiring-certificate", "--reuse-pin"),
    ("--cert-selector", "--intermediates"),
    ("--cert-selector", "--reuse-pin"),
    ("--system-store-name", "--reuse-pin"),
    ("--tpm-key-password", "--cert-selector"),
    ("--tpm-key-password", "--reuse-pin"),
    ("--no-tpm-key-password", "--cert-selector"),
    ("--no-tpm-key-password", "--tpm-key-password"),
    ("--pkcs8-password", "--tpm-key-password"),
)
_BY_NAME = {flag.name: flag for flag in (*HELPER_FLAGS, *OWN_FLAGS)}
SECRET_FLAGS = tuple(flag.name for flag in HELPER_FLAGS if flag.kind == "secret")


def flags_named(names: str) -> tuple[Flag, ...]:
    """Some of the flags of HELPER_FLAGS and OWN_FLAGS.

    Args:
        names: with blanks between them.
    """
    return tuple(_BY_NAME[name] for name in names.split())
