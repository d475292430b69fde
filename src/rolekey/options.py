"""What the user wrote on a command line, in a configuration or in a program, before anything of it is checked."""

from rolekey.pkcs11_uri import redact_pin_value
from rolekey.secret import Secret
from rolekey.value import Value

DEFAULT_SESSION_DURATION = 3600


class Options(Value, kw_only=True):
    """What the user wrote, as it was written; None or an empty text is what was not.

    Args:
        trust_anchor_arn, profile_arn, role_arn: the three ARNs.
        certificate, private_key: a path or a ``pkcs11:`` URI, of the key also ``handle:`` and a TPM's handle; when
            one is missing the other serves for both. A text that holds a PIN becomes a Secret, and so does an endpoint
            with user information.
        intermediates: path of a PEM bundle.
        session_duration: seconds.
        role_session_name: name of the role session.
        region: AWS region; else the trust anchor's.
        endpoint: base URL of the service.
        pkcs11_lib: path of a PKCS#11 module.
        pkcs8_password: passphrase of an encrypted key file.
        pin_source: where a token's PIN, or a TPM key's password, is, as PinSource.parse() reads it.
        pin_file_group_readable: a PIN's file may be readable by its group.
        pkcs11_init_args: a string that the module is initialised with (NSS).
        use_last_try: the token's last try may be spent.
        tpm_tcti: where the TPM is: a TCTI, or the path of a device or socket.
        tpm_key_password: of a key in a TPM.
        no_tpm_key_password: the key in a TPM has none.
        tpm_parent_password_source: where the password of the key's parent or hierarchy is, as ``pin_source``.
        verify_tls: whether the service's certificate is checked.
        use_fips_endpoint, use_dualstack_endpoint: None leaves it to the environment.
        timeout: seconds for everything; None is 50 where a person may be needed, else 4.5.
    """

    trust_anchor_arn: str | None = None
    profile_arn: str | None = None
    role_arn: str | None = None
    certificate: str | Secret | None = None
    private_key: str | Secret | None = None
    intermediates: str | None = None
    session_duration: int = DEFAULT_SESSION_DURATION
    role_session_name: str | None = None
    region: str | None = None
    endpoint: str | Secret | None = None
    pkcs11_lib: str | None = None
    pkcs8_password: Secret | None = None
    pin_source: str | None = None
    pin_file_group_readable: bool = False
    pkcs11_init_args: str | None = None
    use_last_try: bool = False
    tpm_tcti: str | None = None
    tpm_key_password: Secret | None = None
    no_tpm_key_password: bool = False
    tpm_parent_password_source: str | None = None
    verify_tls: bool = True
    use_fips_endpoint: bool | None = None
    use_dualstack_endpoint: bool | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        """Keep a text that holds a PIN, or user information before a host, from reprs and pickles."""
        for name in ("certificate", "private_key", "endpoint"):
            value = getattr(self, name)
            if isinstance(value, str) and (redact_pin_value(value) != value or (name == "endpoint" and "@" in value)):
                object.__setattr__(self, name, Secret(value))
