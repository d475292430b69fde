"""Broken set-ups whose fault is in the configuration, or where the key is: token, TPM, file."""

import os
import socket
import struct
import tempfile
from pathlib import Path

from support.broken_bench import NOW, YEAR, Bench, Run, broken
from support.card_rig import find_opensc
from support.namespaces import as_user
from support.pkcs11_shim import (
    USER_PIN_COUNT_LOW,
    USER_PIN_FINAL_TRY,
    USER_PIN_LOCKED,
    USER_PIN_TO_BE_CHANGED,
)
from support.pki import key_to_pem
from support.process import rolekey
from support.tpm_keys import TPMKeys

REGION_ARNS = "arn:aws:rolesanywhere:{}:123456789012:{}/11111111-2222-3333-4444-555555555555"
ROLE_ARN = "arn:aws:iam::123456789012:role/web"


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


@broken("a typing error in the key's label", "certificate", "what is private is shown after the login", "warning")
def _object(bench: Bench) -> Run:
    words = ["--private-key", bench.token.uri("p-256").replace("object=p-256", "object=p-265")]
    return Run([*bench.arns, *words, "--pkcs11-lib", str(bench.token.module)], bench.token.environment)


@broken("a smart card that is not in its reader", "token", "no token matches")
def _no_card(bench: Bench) -> Run:
    words = ["--private-key", "pkcs11:id=%01", "--pkcs11-lib", str(find_opensc())]
    return Run([*bench.arns, *bench.leaf()[:2], *words], bench.pcscd.environment)


@broken("pcscd does not run", "pcscd", "does not run")
def _no_pcscd(bench: Bench) -> Run:
    run = _no_card(bench)
    return Run(run.words, {"PCSCLITE_CSOCK_NAME": str(bench.directory / "pcscd.comm")})


@broken("pcscd's socket is closed to this user", "pcscd", "may not be used: Permission denied")
def _closed_pcscd(bench: Bench) -> Run:
    # Not the test's directory: a socket's path has at most 107 bytes.
    directory = Path(bench.stack.enter_context(tempfile.TemporaryDirectory(prefix="pcscd-")))
    directory.chmod(0o755)
    listening = bench.stack.enter_context(socket.socket(socket.AF_UNIX))
    listening.bind(str(directory / "pcscd.comm"))
    listening.listen()
    (directory / "pcscd.comm").chmod(0)
    return Run(_no_card(bench).words, {"PCSCLITE_CSOCK_NAME": f"{directory}/pcscd.comm"}, as_user(65534))


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


@broken("a PIN file that others can read", "PIN source", "has mode 0644")
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


@broken("a PIN that is shorter than any of the token", "PIN source", "is not of a length that token")
def _short_pin(bench: Bench) -> Run:
    (bench.directory / "pin").touch(mode=0o600)
    (bench.directory / "pin").write_text("1", encoding="ascii")
    return bench.softhsm(uri=f"{bench.token.uri('p-256', with_pin=False)}?pin-source=file:{bench.directory / 'pin'}")


@broken("a damaged record of refused PINs", "PIN source", "is damaged, so that no PIN is sent", beside=["PIN state"])
def _damaged_record(bench: Bench) -> Run:
    run = _refused_pin(bench)
    (record,) = (bench.directory / "state" / "rolekey" / "pins").glob("*.json")
    record.write_text("{", encoding="ascii")
    return run


@broken("a wrong PIN, `--sign`", "signature", "the PIN was not accepted")
def _wrong_pin(bench: Bench) -> Run:
    run = _with_wrong_pin(bench)
    return Run([*run.words, "--sign"], run.environment)


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


@broken("`--require-non-exportable` and a key in a file", "key file", "this key is a file")
def _required(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--require-non-exportable"])


@broken("`--pin-source` and a key in a file", "key file", "names a file with the key itself")
def _pin_of_file(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--pin-source", "env:PIN"])


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
