"""Set-ups of `rolekey credential-process` that are broken in one way each, made for real, for `rolekey doctor`.

Each is a function that gets a `Bench` and returns what is run. `BROKEN` has them in the order of docs/doctor.md.
"""

import os
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from rolekey.emulator.configuration import DEFAULT_ROLE_ARN, for_certificate_authority
from rolekey.emulator.model import Configuration, Profile, Role
from rolekey.emulator.trust_policy import parse as parse_policy
from support.card_rig import find_opensc
from support.emulator import RunningEmulator, running_emulator
from support.listener import ServerTLS
from support.namespaces import as_user
from support.pcscd import Pcscd
from support.pkcs11_shim import (
    USER_PIN_COUNT_LOW,
    USER_PIN_FINAL_TRY,
    USER_PIN_LOCKED,
    USER_PIN_TO_BE_CHANGED,
    PKCS11Shim,
)
from support.pki import Issued, Overrides, key_to_pem, key_usage, make_name, make_root, to_pem
from support.process import rolekey
from support.service import ScriptedService, answer
from support.softhsm import ProvisionedToken
from support.swtpm import SWTPM
from support.tpm_keys import TPMKeys

YEAR = timedelta(days=365)
NOW = datetime.now(UTC)
REGION_ARNS = "arn:aws:rolesanywhere:{}:123456789012:{}/11111111-2222-3333-4444-555555555555"
ROLE_ARN = "arn:aws:iam::123456789012:role/web"


@dataclass(frozen=True)
class Run:
    """What is run.

    Attributes:
        words: after `rolekey doctor`.
        environment: variables.
        before: the words of a program that runs it.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()


@dataclass
class Bench:
    """What set-ups are made of.

    Attributes:
        directory: a new one for each set-up.
        root: the CA whose certificate the emulator trusts.
        emulator: the service.
        token: SoftHSM's, not to be changed.
        shim: the module that goes wrong on purpose.
        pcscd: a daemon with two empty readers.
        tpm: a TPM.
        stack: closes what a set-up has opened.
    """

    directory: Path
    root: Issued
    emulator: RunningEmulator
    token: ProvisionedToken
    shim: PKCS11Shim
    pcscd: Pcscd
    tpm: SWTPM
    stack: ExitStack

    def leaf(self, issuer: Issued | None = None, **overrides: Any) -> list[str]:
        """Options for a new certificate, of a year unless said otherwise, with its key in a file."""
        given: Overrides = {"not_after": NOW + YEAR, **overrides}  # type: ignore[typeddict-item]  # as issue() has them
        return self.files((issuer or self.root).issue(common_name="machine", **given))

    def files(self, issued: Issued) -> list[str]:
        """Options for a certificate and its key in files."""
        certificate, key = issued.write(self.directory, "leaf")
        return ["--certificate", str(certificate), "--private-key", str(key)]

    @property
    def arns(self) -> list[str]:
        """Options for the service."""
        return self.emulator.arguments

    def anchor(self, issued: Issued | None = None) -> list[str]:
        """The option for the trust anchor's certificate."""
        path = self.directory / "anchor.pem"
        path.write_bytes((issued or self.root).pem)
        return ["--trust-anchor", str(path)]

    def softhsm(self, *, uri: str = "", pin: bool = True, module: Path | None = None) -> Run:
        """The token's P-256 key."""
        words = ["--private-key", uri or self.token.uri("p-256", with_pin=pin)]
        words += [
            "--certificate",
            str(self.token.certificate("p-256")),
            "--pkcs11-lib",
            str(module or self.token.module),
        ]
        return Run([*self.arns, *words], self.token.environment)

    def with_flags(self, flags: int) -> Run:
        """The token with flags of CK_TOKEN_INFO that it does not have."""
        shim = self.shim.over(self.token.module, self.directory / "shim")
        shim.rule("C_GetTokenInfo", set_flags=flags)
        run = self.softhsm(module=shim.module)
        return Run(run.words, {**run.environment, **shim.environment})

    def service(self, configuration: Configuration, **more: Any) -> list[str]:
        """Options for a service of another set-up."""
        return self.stack.enter_context(running_emulator(configuration, **more)).arguments

    def configuration(self, **parts: Any) -> Configuration:
        """The emulator's set-up for the CA, with some parts otherwise."""
        path = self.directory / "trusted.pem"
        path.write_bytes(self.root.pem)
        default = for_certificate_authority(path)
        return Configuration(**{**{n: getattr(default, n) for n in ("trust_anchors", "profiles", "roles")}, **parts})

    def aws(self, config: str, credentials: str = "") -> dict[str, str]:
        """Variables for the SDKs' files with this in them."""
        files = {"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": credentials}
        for name, text in files.items():
            (self.directory / name).touch(mode=0o600)
            (self.directory / name).write_text(text, encoding="utf-8")
        return {name: str(self.directory / name) for name in files}


@dataclass(frozen=True)
class Broken:
    """A set-up and what doctor is to say.

    Attributes:
        name: of the row.
        check: whose line names the cause.
        says: words of that line.
        make: makes it.
        status: of that line.
        beside: checks that warn as well, and are right.
    """

    name: str
    check: str
    says: str
    make: Callable[[Bench], Run]
    status: Literal["failed", "warning"] = "failed"
    beside: Sequence[str] = ()


BROKEN: list[Broken] = []


def broken(
    name: str, check: str, says: str, status: Literal["failed", "warning"] = "failed", beside: Sequence[str] = ()
) -> Callable[[Callable[[Bench], Run]], Callable[[Bench], Run]]:
    """Put a function into the list."""

    def decorate(make: Callable[[Bench], Run]) -> Callable[[Bench], Run]:
        BROKEN.append(Broken(name, check, says, make, status, beside))
        return make

    return decorate


# --- what is written down, and what SDKs make of it ---


def _with_line(bench: Bench, line: str, more: str = "", credentials: str = "") -> Run:
    config = f"[profile web]\ncredential_process = {line}\n{more}"
    return Run([*bench.arns, *bench.leaf(), "--profile", "web"], bench.aws(config, credentials))


@broken("an identity that the configuration file does not have", "configuration", "no identity is named 'web'")
def _no_identity(bench: Bench) -> Run:
    (bench.directory / "config.toml").write_text("[other]\n", encoding="utf-8")
    return Run(["web", *bench.arns, *bench.leaf()], {"ROLEKEY_CONFIG": str(bench.directory / "config.toml")})


@broken("credentials in the environment", "environment", "SDKs take that before", "warning")
def _environment(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf()], {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x"})


@broken("static keys beside `credential_process`", "AWS profile", "has aws_access_key_id in")
def _static_keys(bench: Bench) -> Run:
    return _with_line(bench, "/bin/true", "aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n")


@broken("static keys of the same profile in the credentials file", "AWS profile", "has aws_access_key_id in")
def _static_credentials(bench: Bench) -> Run:
    return _with_line(bench, "/bin/true", credentials="[web]\naws_access_key_id = A\naws_secret_access_key = x\n")


@broken("a backslash in `credential_process`", "AWS profile", "has a backslash")
def _backslash(bench: Bench) -> Run:
    return _with_line(bench, "/bin/true \\\n  --role-arn x")


@broken("`credential_process` with `~` in its program", "AWS profile", "starts ~/bin/rolekey, which is no program")
def _program(bench: Bench) -> Run:
    return _with_line(bench, "~/bin/rolekey credential-process web")


@broken("trust anchor and profile of two regions", "ARNs", "in eu-west-1 and the profile in eu-central-1")
def _regions(bench: Bench) -> Run:
    words = ["--trust-anchor-arn", REGION_ARNS.format("eu-west-1", "trust-anchor"), "--role-arn", ROLE_ARN]
    return Run([*words, "--profile-arn", REGION_ARNS.format("eu-central-1", "profile"), *bench.leaf()])


@broken("a role of another partition", "ARNs", "different partitions: aws, aws-us-gov")
def _partitions(bench: Bench) -> Run:
    return Run([*bench.arns, "--role-arn", ROLE_ARN.replace(":aws:", ":aws-us-gov:"), *bench.leaf()])


# --- modules, tokens, PINs ---


@broken("a module that is not there", "module", "cannot be loaded: cannot open shared object file")
def _no_module(bench: Bench) -> Run:
    return bench.softhsm(module=bench.directory / "libsofthsm2.so")


@broken("a module for another processor", "module", "is built for i386 (32 bit), and this Python for")
def _other_processor(bench: Bench) -> Run:
    content = bytearray(bench.token.module.read_bytes())
    content[4] = 1
    struct.pack_into("<H", content, 18, 3)
    path = bench.directory / "libsofthsm2.so"
    path.write_bytes(content)
    return bench.softhsm(module=path)


@broken("a module that is no library", "module", "cannot be loaded: ")
def _no_library(bench: Bench) -> Run:
    path = bench.directory / "module.so"
    path.write_text("a text\n" * 100, encoding="ascii")
    return bench.softhsm(module=path)


@broken("a typing error in the token's label", "token", "no token matches")
def _label(bench: Bench) -> Run:
    return bench.softhsm(uri="pkcs11:token=rolekey-softhsn;object=p-256")


@broken("a smart card that is not in its reader", "token", "no token matches")
def _no_card(bench: Bench) -> Run:
    words = ["--private-key", "pkcs11:id=%01", "--pkcs11-lib", str(find_opensc())]
    return Run([*bench.arns, *bench.leaf()[:2], *words], bench.pcscd.environment)


@broken("pcscd does not run", "pcscd", "does not run")
def _no_pcscd(bench: Bench) -> Run:
    run = _no_card(bench)
    return Run(run.words, {"PCSCLITE_CSOCK_NAME": str(bench.directory / "pcscd.comm")})


@broken("a certificate of another key", "key in token", "does not belong to the certificate")
def _other_key(bench: Bench) -> Run:
    run = bench.softhsm()
    return Run([*run.words, "--certificate", str(bench.token.certificate("p-384"))], run.environment)


@broken("a locked PIN", "PIN state", "is locked")
def _locked(bench: Bench) -> Run:
    return bench.with_flags(USER_PIN_LOCKED)


@broken("one try of the PIN left", "PIN state", "one try of the PIN")
def _last_try(bench: Bench) -> Run:
    return bench.with_flags(USER_PIN_COUNT_LOW | USER_PIN_FINAL_TRY)


@broken("an initial PIN that has to be changed", "PIN state", "has to be changed")
def _to_be_changed(bench: Bench) -> Run:
    return bench.with_flags(USER_PIN_TO_BE_CHANGED)


@broken("a PIN file that others can read", "PIN source", "mode is 0644")
def _open_pin_file(bench: Bench) -> Run:
    path = bench.directory / "pin"
    path.write_text(bench.token.user_pin, encoding="ascii")
    path.chmod(0o644)
    return bench.softhsm(uri=f"{bench.token.uri('p-256', with_pin=False)}?pin-source=file:{path}")


@broken("no source of a PIN, and nobody to ask", "PIN source", "no source is configured")
def _no_pin(bench: Bench) -> Run:
    return bench.softhsm(pin=False)


def _with_wrong_pin(bench: Bench) -> Run:
    path = bench.directory / "pin"
    path.touch(mode=0o600)
    path.write_text("wrong horse", encoding="ascii")
    token = bench.token.copy(bench.directory / "token")
    run = bench.softhsm(uri=f"{token.uri('p-256', with_pin=False)}?pin-source=file:{path}")
    return Run(run.words, {**token.environment, "XDG_STATE_HOME": str(bench.directory / "state")})


@broken("a PIN that was refused before", "PIN source", "was refused at", beside=["PIN state"])
def _refused_pin(bench: Bench) -> Run:
    run = _with_wrong_pin(bench)
    rolekey("credential-process", *run.words, environment=run.environment).failed(4, "the PIN was not accepted")
    return run


@broken("a wrong PIN, `--sign`", "signature", "the PIN was not accepted")
def _wrong_pin(bench: Bench) -> Run:
    run = _with_wrong_pin(bench)
    return Run([*run.words, "--sign"], run.environment)


# --- certificates ---


@broken("an expired certificate", "validity", "the certificate expired on")
def _expired(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW - YEAR, not_after=NOW - timedelta(days=1))])


@broken("a certificate of the future", "validity", "is not valid before")
def _future(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW + timedelta(days=1))])


@broken("a certificate that ends in a week", "validity", "expires on", "warning")
def _soon(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW - YEAR, not_after=NOW + timedelta(days=7, hours=1))])


@broken("a CA's certificate", "certificate profile", "is a CA certificate")
def _ca(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(ca=True, usage=key_usage("key_cert_sign"))])


@broken("no digitalSignature", "certificate profile", "keyUsage has no digitalSignature")
def _usage(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(usage=key_usage("key_encipherment"))])


@broken("a SHA-1 signature", "certificate profile", "weaker than SHA-256")
def _sha1(bench: Bench) -> Run:
    ca, ca_key = bench.root.write(bench.directory, "ca")
    words = bench.leaf()
    usage = bench.directory / "usage"
    usage.write_text("keyUsage=digitalSignature\n", encoding="ascii")
    request = ["openssl", "req", "-new", "-key", words[3], "-subj", "/CN=machine"]
    sign = [
        "openssl",
        "x509",
        "-req",
        "-sha1",
        "-days",
        "365",
        "-CA",
        str(ca),
        "-CAkey",
        str(ca_key),
        "-set_serial",
        "7",
    ]
    made = subprocess.run(request, check=True, capture_output=True, timeout=60)
    sign += ["-extfile", str(usage), "-out", words[1]]
    subprocess.run(sign, input=made.stdout, check=True, capture_output=True, timeout=60)
    return Run([*bench.arns, *words])


@broken("an empty subject", "certificate profile", "subject is empty")
def _subject(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(subject=make_name(None))])


@broken("a missing intermediate", "trust anchor", "the chain breaks above CN=machine")
def _intermediate(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(bench.root.issue_authority()), *bench.anchor()])


@broken("an expired intermediate", "chain", "expired on")
def _old_intermediate(bench: Bench) -> Run:
    issuer = bench.root.issue_authority(not_before=NOW - YEAR, not_after=NOW - timedelta(days=1))
    words = bench.leaf(issuer)
    (bench.directory / "chain.pem").write_bytes(to_pem([issuer.certificate]))
    return Run([*bench.arns, *words, "--intermediates", str(bench.directory / "chain.pem")])


@broken("a trust anchor of another CA", "trust anchor", "nor the trust anchor CN=Another root")
def _anchor(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), *bench.anchor(make_root(common_name="Another root"))])


@broken("a trust anchor whose CA was made anew", "trust anchor", "was signed by another key of that name")
def _renewed_anchor(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), *bench.anchor(make_root())])


# --- files ---


@broken("a key file that everybody can read", "key file", "has mode 0644", "warning")
def _open_key(bench: Bench) -> Run:
    words = bench.leaf()
    Path(words[3]).chmod(0o644)
    return Run([*bench.arns, *words])


@broken("an encrypted key without a passphrase", "key file", "is encrypted")
def _encrypted(bench: Bench) -> Run:
    issued = bench.root.issue(common_name="machine", not_after=NOW + YEAR)
    words = bench.files(issued)
    Path(words[3]).write_bytes(key_to_pem(issued.key, b"correct horse"))
    return Run([*bench.arns, *words])


@broken("certificate and key file of two pairs", "key file", "does not belong to the certificate")
def _pairs(bench: Bench) -> Run:
    words = bench.leaf()
    Path(words[3]).write_bytes(bench.root.issue().key_pem)
    return Run([*bench.arns, *words])


@broken("a cache that others can look into", "cache", "nothing is kept", "warning")
def _cache(bench: Bench) -> Run:
    (bench.directory / "rolekey").mkdir()
    (bench.directory / "rolekey").chmod(0o755)
    return Run([*bench.arns, *bench.leaf()], {"XDG_RUNTIME_DIR": str(bench.directory)})


# --- the TPM ---


def _with_handle(bench: Bench, handle: str, tcti: str) -> list[str]:
    return [*bench.arns, *bench.leaf()[:2], "--private-key", handle, "--tpm-tcti", tcti, "--no-tpm-key-password"]


@broken("no TPM", "TPM key", "there is no TPM at")
def _no_tpm(bench: Bench) -> Run:
    return Run(_with_handle(bench, "handle:0x81010001", str(bench.directory / "tpmrm0")))


@broken("a TPM that this user may not use", "TPM key", "may not be used")
def _forbidden_tpm(bench: Bench) -> Run:
    master, slave = os.openpty()
    bench.stack.callback(os.close, master)
    bench.stack.callback(os.close, slave)
    os.fchmod(slave, 0)
    return Run(_with_handle(bench, "handle:0x81010001", os.ttyname(slave)), before=as_user(65534))


@broken("a handle under which the TPM keeps nothing", "TPM key", "find the TPM key handle:0x81010009")
def _no_handle(bench: Bench) -> Run:
    return Run(_with_handle(bench, "handle:0x81010009", bench.tpm.tcti))


@broken("a TPM key of another certificate", "TPM key", "does not belong to the certificate")
def _other_tpm_key(bench: Bench) -> Run:
    made = TPMKeys(bench.tpm, bench.root).by_tools()
    return Run(_with_handle(bench, made.private_key, bench.tpm.tcti)[:-1])


# --- the network ---


@broken("a name without an address", "DNS", "has no address")
def _dns(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--endpoint", "https://rolesanywhere.invalid"])


@broken("nothing listens at the endpoint", "connection", "Connection refused")
def _nobody(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--endpoint", f"http://{_closed()}"])


def _closed() -> str:
    with ScriptedService() as service:
        return service.address


@broken("TLS by a CA that is not trusted (an intercepting proxy)", "TLS", "is issued by CN=Test server CA, which")
def _untrusted(bench: Bench) -> Run:
    tls = ServerTLS.make(bench.directory / "tls")
    arguments = bench.service(bench.configuration(), tls=(tls.certificate, tls.key))
    return Run([*arguments, *bench.leaf()], {"SSL_CERT_FILE": ""})


@broken("a server's certificate for another host", "TLS", "has the certificate of another host")
def _other_host(bench: Bench) -> Run:
    tls = ServerTLS.make(bench.directory / "tls", "service.test")
    arguments = bench.service(bench.configuration(), tls=(tls.certificate, tls.key))
    return Run([*arguments, *bench.leaf()], {"AWS_CA_BUNDLE": str(tls.ca)})


@broken("a proxy that is not there", "connection", "no connection to proxy")
def _proxy(bench: Bench) -> Run:
    words = [*bench.arns, *bench.leaf(), "--endpoint", "https://service.test"]
    return Run(words, {"HTTPS_PROXY": f"http://user:hunter2-canary@{_closed()}"})


@broken("a proxy that wants another password", "answer", "does not let the request through")
def _strict_proxy(bench: Bench) -> Run:
    service = bench.stack.enter_context(ScriptedService((answer(407),), (answer(407),)))
    words = [*bench.arns, *bench.leaf(), "--endpoint", "https://service.test"]
    return Run(words, {"HTTPS_PROXY": f"http://user:hunter2-canary@{service.address}"})


@broken("a clock that is an hour behind", "clock", "behind the service's: every signature is refused")
def _clock(bench: Bench) -> Run:
    words = bench.service(bench.configuration(), clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    return Run([*words, *bench.leaf()])


# --- what the service refuses ---


@broken("a CA that the service does not know, `--sign`", "signature", "the trust anchor's CA")
def _unknown_ca(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(make_root(common_name="Another root")), "--sign"])


@broken("a trust policy for another certificate, `--sign`", "signature", "the role's trust policy is what")
def _trust_policy(bench: Bench) -> Run:
    policy = parse_policy(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "rolesanywhere.amazonaws.com"},
                    "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
                    "Condition": {"StringEquals": {"aws:PrincipalTag/x509Subject/CN": "another"}},
                }
            ],
        }
    )
    role = Role(DEFAULT_ROLE_ARN, trust_policy=policy)
    return Run([*bench.service(bench.configuration(roles={role.arn: role})), *bench.leaf(), "--sign"])


@broken("a role that the Roles Anywhere profile does not list, `--sign`", "signature", "does not list")
def _role(bench: Bench) -> Run:
    return Run([*bench.arns, "--role-arn", f"{DEFAULT_ROLE_ARN}-2", *bench.leaf(), "--sign"])


@broken("a trust anchor that does not exist, `--sign`", "signature", "the trust anchor is what the service refuses")
def _no_anchor(bench: Bench) -> Run:
    arn = f"{bench.emulator.trust_anchor_arn[:-1]}9"
    return Run([*bench.arns, "--trust-anchor-arn", arn, *bench.leaf(), "--sign"])


@broken("a session name that the Roles Anywhere profile does not take, `--sign`", "signature", "the role session name")
def _session_name(bench: Bench) -> Run:
    profile = Profile(bench.emulator.profile_arn, (DEFAULT_ROLE_ARN,), accept_role_session_name=False)
    words = bench.service(bench.configuration(profiles={profile.arn: profile}))
    return Run([*words, *bench.leaf(), "--role-session-name", "web", "--sign"])


@broken("a request that something changes on its way, `--sign`", "signature", "or something that changes requests")
def _changed(bench: Bench) -> Run:
    refusal = answer(403, b'{"message": "Invalid signature"}', {"X-Amzn-ErrorType": "AccessDeniedException"})
    service = bench.stack.enter_context(ScriptedService((), (answer(404),), (refusal,)))
    return Run([*bench.arns, *bench.leaf(), "--endpoint", service.url, "--sign"])
