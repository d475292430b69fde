"""No secret gets out: each kind, on each way through the program, in success and in failure.

A secret of this file is a canary (support/canaries.py), which is searched for on stdout and in the cache's entries
(where only an answer's credentials may be), on stderr and the terminal, in files and their names, child processes,
logs, exceptions, and what values show of themselves. A new feature that touches a secret adds its ways to `CASES`, and
its values to `values`.
"""

import base64
import json
import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from rolekey import create_session
from rolekey.cli.ending import exit_code
from rolekey.config import resolve_settings
from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.emulator import Emulator, for_certificate_authority
from rolekey.emulator.configuration import DEFAULT_PROFILE_ARN, DEFAULT_ROLE_ARN, DEFAULT_TRUST_ANCHOR_ARN
from rolekey.emulator.session import TemporaryCredentials
from rolekey.errors import RolekeyError
from rolekey.http_server import running, tls_context
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret
from rolekey.transport import Answer, Route
from rolekey.vend.boto3 import boto3_session
from support.canaries import CANARY, EVENTS, Recorder, Traces, canary, found_in, said_by, shown_by, traces_of_process
from support.listener import ServerTLS
from support.pki import key_to_pem, make_root
from support.process import GENEROUS, at_its_deadline
from support.proxy import ScriptedProxy
from support.serve_process import NAME, ask
from support.service import HANG, Script, ScriptedService, answer, session_answer, session_document
from support.softhsm import TOKEN_LABEL, ProvisionedToken
from support.tpm_keys import POLICY_AUTH_VALUE, UNDER_POLICY, TPMKeys, policy_field
from support.watching import wait_until

PIN = canary("pin")
WRONG_PIN = canary("wrong-pin")
PASSPHRASE = canary("passphrase")
WRONG_PASSPHRASE = canary("wrong-passphrase")
TPM_PASSWORD = canary("tpm")
WRONG_TPM_PASSWORD = canary("wrong-tpm")
PARENT_PASSWORD = canary("parent")
PROXY_PASSWORD = canary("proxy")
USER_INFO = canary("user-info")
SECRET_ACCESS_KEY = canary("secret-access-key")
SESSION_TOKEN = canary("session-token")

BASIC = "Basic " + base64.b64encode(f"user:{PROXY_PASSWORD}".encode()).decode()
ARNS = {
    "trust_anchor_arn": DEFAULT_TRUST_ANCHOR_ARN,
    "profile_arn": DEFAULT_PROFILE_ARN,
    "role_arn": DEFAULT_ROLE_ARN,
}

# --- what answers ---

HOLDING = {"secretAccessKey": SECRET_ACCESS_KEY, "sessionToken": SESSION_TOKEN}


def document(**fields: object) -> bytes:
    """The document of a success, with canaries for credentials and whatever else is wrong with it."""
    return json.dumps(session_document(DEFAULT_ROLE_ARN, **HOLDING | fields)).encode()


NO_CREDENTIALS = (7, "not a CreateSession answer with credentials")
CHUNKED = b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = {"credentialSet": [{"roleArn": DEFAULT_ROLE_ARN, "credentials": SESSION_TOKEN}]}
ELSEWHERE = {"Location": f"/?token={SESSION_TOKEN}", "Set-Cookie": f"token={SESSION_TOKEN}"}
# A malformed answer that holds credentials, the exit code, and what is said of it.
MALFORMED: dict[str, tuple[Script, int, str]] = {
    "half a document": ((answer(201, document()[:-30]),), *NO_CREDENTIALS),
    "in HTML": ((answer(200, b"<html>" + document()),), *NO_CREDENTIALS),
    "in a list": ((answer(201, b"[" + document() + b"]"),), *NO_CREDENTIALS),
    "in a text": ((answer(201, json.dumps(TEXT).encode()),), *NO_CREDENTIALS),
    "no UTF-8": ((answer(201, b"\xff" + document()),), *NO_CREDENTIALS),
    "no expiration": ((answer(201, document(expiration=None)),), *NO_CREDENTIALS),
    "token as expiration": ((answer(201, document(expiration=SESSION_TOKEN)),), *NO_CREDENTIALS),
    "no access key id": ((answer(201, document(accessKeyId=None)),), *NO_CREDENTIALS),
    "empty access key id": ((answer(201, document(accessKeyId="")),), 7, "empty or malformed"),
    "over": ((answer(201, document(expiration="2020-01-01T00:00:00Z")),), 7, "expired at 2020"),
    "another role": ((session_answer(DEFAULT_ROLE_ARN + "-2", **HOLDING),), 7, "another role"),
    "too large": ((answer(201, document() * 5000),), 7, "larger than 1 MiB"),
    "in a refusal": ((answer(403, document()),), 7, "HTTP status 403"),
    "in a redirect": ((answer(307, document(), ELSEWHERE),), 7, "HTTP status 307"),
    "cut short": ((answer(201, document(), length=100_000),), 6, "cut short"),
    "cut short in a chunk": ((CHUNKED + b"ffff\r\n" + document(),), 6, "cut short"),
    "without chunks": ((CHUNKED + document(),), 6, "cut short"),
    "not compressed": (
        (answer(201, document(), {"Content-Encoding": "gzip"}),),
        6,
        "compressed, which was not asked for",
    ),
    "in a status line": ((f"HTTP/1.1 2O1 {SESSION_TOKEN}\r\n\r\n".encode(),), 6, "does not speak HTTP"),
    "without HTTP": ((document(),), 6, "does not speak HTTP"),
    "in a header": ((b"HTTP/1.1 201 OK\r\nX-A: b\r\n" + document() + b"\r\n\r\n",), 7, "not a CreateSession answer"),
    "that hangs": ((answer(201, document(), length=100_000), HANG), 6, "timed out"),
}
SCRIPTS: dict[str, Script] = {
    "refuses": (answer(403, b'{"message": "Untrusted signing certificate"}'),),
    **{name: script for name, (script, _, _) in MALFORMED.items()},
}


@dataclass(frozen=True)
class Case:
    """One way of one secret through the program.

    Args:
        name: the secret and what happens.
        options: of the command and, with "_" for "-", of `Options`; the three ARNs and the endpoint are added.
        code: the exit code.
        says: what stderr says of the cause: that the secret came as far as it was to come.
        service: "grants", which is the emulator, or one of `SCRIPTS`.
        environment: variables.
        proxy: what the proxy does: "passes", "refuses"; the service is then https://service.test.
        words: further words, for the command line only.
        typed: the answer to the question on the terminal, for the command only.
        token: whether it needs the token.
        tpm: whether it needs the TPM.
        has_alias: whether the cache may keep the command line; not where something in it may be a secret.
    """

    name: str
    options: Mapping[str, str]
    code: int = 0
    says: str = ""
    service: str = "grants"
    environment: Mapping[str, str] = field(default_factory=dict)
    proxy: str = ""
    words: Sequence[str] = ()
    typed: str | None = None
    token: bool = False
    tpm: bool = False
    has_alias: bool = True

    @property
    def for_the_library(self) -> bool:
        """Whether a program can get into this, without a command line."""
        return not self.words and self.typed is None

    @property
    def asks_the_service(self) -> bool:
        """Whether it comes so far: options, keys, PINs and certificates are judged before."""
        return self.code not in (2, 3, 4, 5)

    @property
    def hangs(self) -> bool:
        """Whether it ends at its deadline."""
        return "hangs" in (self.service.rpartition(" ")[2], self.proxy)


# {braces} are filled in by `World.inputs`.
TOKEN_KEY = {
    "private_key": "{token_uri}?pin-value={pin}",
    "pkcs11_lib": "{module}",
    "certificate": "{token_certificate}",
}
ALWAYS_AUTHENTICATE = {"certificate": "{always_certificate}"}
PLAIN_KEY = {"certificate": "{certificate}", "private_key": "{key}"}
LOCKED_KEY = {"certificate": "{certificate}", "private_key": "{encrypted_key}"}
PKCS12 = {"certificate": "{pkcs12}"}
PASSPHRASE_OPTION = {"pkcs8_password": PASSPHRASE}


def pin(name: str, code: int = 0, says: str = "", *, uri: str = "", **more: Any) -> Case:
    """A case with a PIN; `uri` is the key's."""
    options = TOKEN_KEY | ({"private_key": uri} if uri else {}) | more.pop("options", {})
    return Case(f"PIN: {name}", options, code, says, token=True, **more)


def tpm_password(name: str, code: int = 0, says: str = "", *, key: str = "file", **more: Any) -> Case:
    """A case with a TPM key's password; `key` is one of `tpm_inputs`."""
    options = {"private_key": f"{{tpm_{key}}}", "certificate": f"{{tpm_{key}_certificate}}", "tpm_tcti": "{tcti}"}
    return Case(f"TPM: {name}", options | more.pop("options", {}), code, says, tpm=True, **more)


VARIABLE_KEY = {"ROLEKEY_PRIVATE_KEY": "{token_uri}?pin-value={pin}"}
WRONG_VARIABLE_KEY = {"ROLEKEY_PRIVATE_KEY": "{token_uri}?pin-value={wrong_pin}"}
SECTION_WITH_PIN = {"ROLEKEY_CONFIG": "{section_with_pin}"}
TPM_OPTION = {"tpm_key_password": TPM_PASSWORD}
WRONG_TPM_OPTION = {"tpm_key_password": WRONG_TPM_PASSWORD}
PARENT_OPTION = {"tpm_parent_password_source": "file:{parent_password_file}"}


CASES = [
    # A PIN in a URI
    pin("pin-value, accepted"),
    pin("pin-value, accepted, for the certificate too", options={"certificate": "{token_uri}?pin-value={pin}"}),
    pin("pin-value, percent-encoded", uri="{token_uri}?pin-value={encoded_pin}"),
    pin("pin-value, the service refuses", 7, "Untrusted signing", service="refuses"),
    pin(
        "pin-value, the service is down",
        6,
        "Connection refused",
        options={"endpoint": "http://{closed}"},
    ),
    pin("pin-value, no such key", 3, "no private key|no .*key", uri="pkcs11:token={label};object=no?pin-value={pin}"),
    pin("pin-value, no such token", 3, "no token matches", uri="pkcs11:token=no?pin-value={pin}"),
    pin("pin-value, no such module", 3, "cannot be loaded", options={"pkcs11_lib": "/no/module.so"}),
    pin("pin-value, refused", 4, "CKR_PIN_INCORRECT", uri="{token_uri}?pin-value={wrong_pin}"),
    pin("pin-value, too long", 4, "PIN", uri="{token_uri}?pin-value=" + PIN * 20),
    pin("pin-value with a line end", 2, "control character", uri="{token_uri}?pin-value={pin}\n"),
    pin("pin-value with an encoded line end", 2, "control character", uri="{token_uri}?pin-value={pin}%0A"),
    # A PIN in a file
    pin("pin-source, accepted", uri="{token_uri}?pin-source=file:{pin_file}"),
    pin("pin-source, refused", 4, "CKR_PIN_INCORRECT", uri="{token_uri}?pin-source=file:{wrong_pin_file}"),
    pin(
        "pin-source, the service refuses",
        7,
        "Untrusted",
        uri="{token_uri}?pin-source=file:{pin_file}",
        service="refuses",
    ),
    pin("pin-source, two lines", 4, "second line", uri="{token_uri}?pin-source=file:{two_lines}"),
    pin("pin-source, no UTF-8", 4, "not UTF-8", uri="{token_uri}?pin-source=file:{no_utf8}"),
    pin("pin-source, too large", 4, "too large", uri="{token_uri}?pin-source=file:{large}"),
    # A PIN in a place where none belongs
    pin("pin-value in the path", 3, "no token matches", uri="pkcs11:token={label};pin-value={pin}"),
    pin("pin-value beside pin-source", 2, "both", uri="{token_uri}?pin-value={pin}&pin-source=file:/x"),
    pin("pin-value twice", 2, "twice", uri="{token_uri}?pin-value={pin}&pin-value={pin}"),
    pin("pin-value with a bad escape", 2, "'%'", uri="{token_uri}?pin-value={pin}%ZZ"),
    pin("pin-value with an ampersand", 2, "name=value", uri="{token_uri}?pin-value=a&{pin}"),
    pin("pin-value after a semicolon", 2, "pin-value inside", uri="{token_uri};id=%01;object={label}&pin-value={pin}"),
    pin(
        "pin-value misspelt",
        4,
        "cannot read the PIN from /no",
        uri="pkcs11:token={label}?pin-source=file:/no&pin-valu={pin}",
    ),
    pin("pin-value in another case", 2, "small letters", uri="PKCS11:token=x?pin-value={pin}"),
    pin("URI with a blank before it", 2, "has a pin-value", uri=" {token_uri}?pin-value={pin}"),
    pin("URI with quotes around it", 2, "has a pin-value", uri="'{token_uri}?pin-value={pin}'"),
    pin("URI as intermediates", 2, "has a pin-value", options={"intermediates": "{token_uri}?pin-value={pin}"}),
    pin("URI as module", 2, "has a pin-value", options={"pkcs11_lib": "{token_uri}?pin-value={pin}"}),
    pin("URI as region", 2, "--region", options={"region": "{token_uri}?pin-value={pin}"}),
    pin("URI as role", 2, "--role-arn", options={"role_arn": "{token_uri}?pin-value={pin}"}),
    pin("URI as session name", 2, "--role-session-name", options={"role_session_name": "{token_uri}?pin-value={pin}"}),
    pin("URI as endpoint", 2, "--endpoint", options={"endpoint": "{token_uri}?pin-value={pin}"}),
    pin("URI as a word", 2, "no option", words=("{token_uri}?pin-value={pin}",)),
    pin("URI as a number", 2, "--session-duration", words=("--session-duration", "{token_uri}?pin-value={pin}")),
    pin("URI as a number of seconds", 2, "--timeout", words=("--timeout", "{token_uri}?pin-value={pin}")),
    pin("URI as a boolean", 2, "neither true nor false", words=("--debug={token_uri}?pin-value={pin}",)),
    pin("URI of an unknown option", 2, "--private-kye", words=("--private-kye={token_uri}?pin-value={pin}",)),
    # A PIN under a name that is none, which is ignored
    *(
        pin(
            f"{name} beside --pin-source",
            uri="{token_uri}?" + name + "={wrong_pin}",
            options={"pin_source": "file:{pin_file}"},
            has_alias=False,
        )
        for name in ("PIN-VALUE", "Pin-Value", "pin_value", "pin-valu", "x-pin")
    ),
    pin(
        "pin-value with an encoded name",
        2,
        "not name=value",
        uri="{token_uri}?pin%2Dvalue={wrong_pin}",
        options={"pin_source": "file:{pin_file}"},
    ),
    # A PIN where --pin-source says
    pin("--pin-source file, accepted", uri="{token_uri}", options={"pin_source": "file:{pin_file}"}),
    pin(
        "--pin-source file, refused",
        4,
        "CKR_PIN_INCORRECT",
        uri="{token_uri}",
        options={"pin_source": "file:{wrong_pin_file}"},
    ),
    *(
        pin(
            f"--pin-source systemd, {'refused' if code else 'accepted'}",
            code,
            says,
            uri="{token_uri}",
            options={"pin_source": f"systemd:{name}"},
            environment={"CREDENTIALS_DIRECTORY": "{credentials}"},
        )
        for name, code, says in (("pin_file", 0, ""), ("wrong_pin_file", 4, "CKR_PIN_INCORRECT"))
    ),
    pin(
        "--pin-source env, accepted",
        uri="{token_uri}",
        options={"pin_source": "env:HSM_PIN"},
        environment={"HSM_PIN": PIN},
    ),
    pin(
        "--pin-source env, refused",
        4,
        "CKR_PIN_INCORRECT",
        uri="{token_uri}",
        options={"pin_source": "env:HSM_PIN"},
        environment={"HSM_PIN": WRONG_PIN},
    ),
    pin(
        "--pin-source env, two lines",
        4,
        "second line",
        uri="{token_uri}",
        options={"pin_source": "env:HSM_PIN"},
        environment={"HSM_PIN": PIN + "\n"},
    ),
    # A PIN that is sent again for the signature
    pin("at each signature, pin-value", uri="{always_uri}?pin-value={pin}", options=ALWAYS_AUTHENTICATE),
    pin(
        "at each signature, --pin-source env",
        uri="{always_uri}",
        options=ALWAYS_AUTHENTICATE | {"pin_source": "env:HSM_PIN"},
        environment={"HSM_PIN": PIN},
    ),
    pin("at each signature, typed", uri="{always_uri}", options=ALWAYS_AUTHENTICATE, typed=PIN),
    pin("as --pin-source", 2, "names no source", uri="{token_uri}", options={"pin_source": PIN}),
    pin("as a kind of --pin-source", 2, "names no source", uri="{token_uri}", options={"pin_source": PIN + ":x"}),
    pin("in --pin-source's URI", 2, "pin-value", uri="{token_uri}", options={"pin_source": "file:pin-value={pin}"}),
    # A PIN on the terminal
    pin("typed, accepted", uri="{token_uri}", typed=PIN),
    pin("typed, refused", 4, "CKR_PIN_INCORRECT", uri="{token_uri}", typed=WRONG_PIN),
    # A TPM key's password
    tpm_password("accepted", options=TPM_OPTION),
    tpm_password("accepted, handle", key="handle", options=TPM_OPTION),
    tpm_password("accepted, policy", key="policy", options=TPM_OPTION),
    tpm_password("refused", 4, "TPM_RC_AUTH_FAIL", options=WRONG_TPM_OPTION),
    tpm_password("refused, handle", 4, "TPM_RC_AUTH_FAIL", key="handle", options=WRONG_TPM_OPTION),
    tpm_password("refused, policy", 4, "TPM_RC_AUTH_FAIL", key="policy", options=WRONG_TPM_OPTION),
    tpm_password("the service refuses", 7, "Untrusted signing", service="refuses", options=TPM_OPTION),
    tpm_password("too long", 4, "longer", options={"tpm_key_password": TPM_PASSWORD * 2}),
    tpm_password("two lines", 4, "second line", options={"tpm_key_password": TPM_PASSWORD + "\nx"}),
    tpm_password("not needed", 3, "emptyAuth", key="open", options=TPM_OPTION),
    tpm_password("no TPM", 3, "no TPM answers", options=TPM_OPTION | {"tpm_tcti": "swtpm:host=127.0.0.1,port=1"}),
    tpm_password("another key's", 5, "not belong", options=TPM_OPTION | {"certificate": "{tpm_open_certificate}"}),
    tpm_password("--pin-source file, accepted", options={"pin_source": "file:{tpm_password_file}"}),
    tpm_password("--pin-source file, refused", 4, "AUTH_FAIL", options={"pin_source": "file:{wrong_pin_file}"}),
    tpm_password(
        "--pin-source env, accepted", options={"pin_source": "env:TPM_PASS"}, environment={"TPM_PASS": TPM_PASSWORD}
    ),
    tpm_password("parent's, accepted", key="child", options=PARENT_OPTION),
    tpm_password(
        "parent's, refused",
        4,
        "TPM_RC_BAD_AUTH",
        key="child",
        options={"tpm_parent_password_source": "file:{wrong_pin_file}"},
    ),
    tpm_password(
        "parent's, env, accepted",
        key="child",
        options={"tpm_parent_password_source": "env:PARENT_PASS"},
        environment={"PARENT_PASS": PARENT_PASSWORD},
    ),
    tpm_password(
        "as --tpm-parent-password-source", 2, "names no source", options={"tpm_parent_password_source": PARENT_PASSWORD}
    ),
    tpm_password("typed, accepted", typed=TPM_PASSWORD),
    tpm_password("typed, refused", 4, "TPM_RC_AUTH_FAIL", typed=WRONG_TPM_PASSWORD),
    # A PIN in a variable or in a section
    pin("in ROLEKEY_PRIVATE_KEY, accepted", options={"private_key": ""}, environment=VARIABLE_KEY),
    pin("in ROLEKEY_PRIVATE_KEY, refused", 4, "PIN", options={"private_key": ""}, environment=WRONG_VARIABLE_KEY),
    pin("as ROLEKEY_PIN_SOURCE", 2, "no source", uri="{token_uri}", environment={"ROLEKEY_PIN_SOURCE": PIN}),
    pin("as ROLEKEY_TIMEOUT", 2, "not a number", uri="{token_uri}", environment={"ROLEKEY_TIMEOUT": PIN}),
    Case("PIN: in a section", PLAIN_KEY, 2, "holds a PIN", words=("prod",), environment=SECTION_WITH_PIN),
    Case("PIN: as a section", PLAIN_KEY, 2, "not TOML", words=("prod",), environment={"ROLEKEY_CONFIG": "{pin_file}"}),
    # A passphrase
    Case("passphrase: accepted", LOCKED_KEY | PASSPHRASE_OPTION),
    Case("passphrase: the service refuses", LOCKED_KEY | PASSPHRASE_OPTION, 7, "Untrusted", "refuses"),
    Case("passphrase: refused", LOCKED_KEY | {"pkcs8_password": WRONG_PASSPHRASE}, 4, "does not decrypt"),
    Case("passphrase: of a PKCS#12 file, accepted", PKCS12 | PASSPHRASE_OPTION),
    Case("passphrase: of a PKCS#12 file, refused", PKCS12 | {"pkcs8_password": WRONG_PASSPHRASE}, 4, "does not open"),
    Case("passphrase: of a PKCS#12 file, typed", PKCS12, typed=PASSPHRASE),
    Case("passphrase: not needed", PLAIN_KEY | PASSPHRASE_OPTION, 3, "not encrypted"),
    Case("passphrase: no such file", LOCKED_KEY | PASSPHRASE_OPTION | {"private_key": "/no/key"}, 3, "cannot read"),
    Case("passphrase: no key", LOCKED_KEY | PASSPHRASE_OPTION | {"private_key": "{certificate}"}, 3, "no private key"),
    Case("passphrase: a broken key", LOCKED_KEY | PASSPHRASE_OPTION | {"private_key": "{broken_key}"}, 4, "decrypt"),
    Case("passphrase: another key's", LOCKED_KEY | PASSPHRASE_OPTION | {"private_key": "{other_key}"}, 5, "not belong"),
    Case("passphrase: no ARN", LOCKED_KEY | PASSPHRASE_OPTION | {"role_arn": ""}, 2, "--role-arn is missing"),
    Case("passphrase: lone surrogates", LOCKED_KEY | {"pkcs8_password": PASSPHRASE + "\udcff"}, 4, "passphrase|PIN"),
    Case("passphrase: twice", LOCKED_KEY, words=("--pkcs8-password", WRONG_PASSPHRASE, "--pkcs8-password", PASSPHRASE)),
    Case("passphrase: in two words", LOCKED_KEY, 2, "no option", words=("--pkcs8-password", "a", PASSPHRASE)),
    Case("passphrase: misspelt", LOCKED_KEY, 2, "--pkcs8-pasword", words=("--pkcs8-pasword", PASSPHRASE)),
    Case("passphrase: misspelt with =", LOCKED_KEY, 2, "--pkcs8-pasword", words=(f"--pkcs8-pasword={PASSPHRASE}",)),
    Case("passphrase: one dash", LOCKED_KEY, 2, "No such option", words=(f"-pkcs8-password={PASSPHRASE}",)),
    Case(
        "passphrase: with a TPM's",
        LOCKED_KEY,
        2,
        "exclude each other",
        words=("--pkcs8-password", PASSPHRASE, "--tpm-key-password", canary("tpm")),
    ),
    Case("passphrase: a TPM's without a TPM", PLAIN_KEY, words=("--tpm-key-password", canary("tpm"))),
    Case("passphrase: typed, accepted", LOCKED_KEY, typed=PASSPHRASE),
    Case("passphrase: typed, refused", LOCKED_KEY, 4, "does not decrypt", typed=WRONG_PASSPHRASE),
    # A proxy's password
    Case("proxy: accepted", PLAIN_KEY, proxy="passes"),
    Case("proxy: 407", PLAIN_KEY, 6, "407", proxy="refuses"),
    Case("proxy: the service refuses", PLAIN_KEY, 7, "Untrusted", "refuses", proxy="passes"),
    Case(
        "proxy: an untrusted service",
        PLAIN_KEY,
        6,
        "no TLS connection",
        proxy="passes",
        environment={"AWS_CA_BUNDLE": "{other_ca}"},
    ),
    Case("proxy: hangs", PLAIN_KEY, 6, "timed out", proxy="hangs"),
    Case("proxy: down", PLAIN_KEY, 6, "the proxy for", proxy="is down"),
    *(
        Case(f"proxy: {url}", PLAIN_KEY, 2, "proxy's URL", proxy=url)
        for url in (
            "http://user:{proxy_password}#x@127.0.0.1:1",
            "http://user:{proxy_password}/x@127.0.0.1:1",
            "http://user:{proxy_password}@127.0.0.1:99999",
            "http://user:{proxy_password}%E2%82%AC@127.0.0.1:1",
            "http://user:{proxy_password}@",
        )
    ),
    # User information in an endpoint
    *(
        Case(f"endpoint: {url} in {place}", PLAIN_KEY | options, 2, place, environment=environment)
        for url in (
            "https://user:{user_info}@service.test",
            "https://{user_info}@service.test/",
            "http://user:{user_info}@127.0.0.1:1",
            "https://user:{user_info}#@service.test",
            "https://user:{user_info}/@service.test",
            "https://user:{user_info}@[::1",
            "https://user:{user_info}@service.test:port",
            "user:{user_info}@service.test",
            "ftp://user:{user_info}@service.test",
        )
        for place, options, environment in (
            ("--endpoint", {"endpoint": url}, {}),
            ("AWS_ENDPOINT_URL_ROLESANYWHERE", {"endpoint": ""}, {"AWS_ENDPOINT_URL_ROLESANYWHERE": url}),
            ("ROLEKEY_ENDPOINT", {"endpoint": ""}, {"ROLEKEY_ENDPOINT": url}),
        )
    ),
    Case(
        "endpoint: in a variable that --endpoint overrules",
        PLAIN_KEY,
        environment={"AWS_ENDPOINT_URL_ROLESANYWHERE": "https://user:{user_info}@service.test"},
        has_alias=False,
    ),
    # Credentials in an answer
    Case("answer: good", PLAIN_KEY),
    *(Case(f"answer: {name}", PLAIN_KEY, code, says, service=name) for name, (_, code, says) in MALFORMED.items()),
]


@dataclass(frozen=True)
class World:
    """What the cases have in common.

    Args:
        inputs: what stands for the names in braces.
        trust: the roots of every certificate here, PEM.
        tls: the certificate of service.test.
        token_environment: what the module needs to see the token.
    """

    inputs: Mapping[str, str]
    trust: Path
    tls: ServerTLS
    token_environment: Mapping[str, str]


@dataclass(frozen=True)
class Scene:
    """One case, set up.

    Args:
        options: of the command, but for --timeout.
        words: further words.
        environment: all variables.
        was_asked: whether the service, or the proxy, has had a request.
        arrived: raises AssertionError unless the secret reached its destination.
    """

    options: Mapping[str, str]
    words: Sequence[str]
    environment: Mapping[str, str]
    was_asked: Callable[[], bool]
    arrived: Callable[[], None]

    def command_line(self, seconds: str) -> list[str]:
        """As words; `seconds` are for --timeout."""
        pairs = ((f"--{name.replace('_', '-')}", value) for name, value in self.options.items())
        return [*(word for pair in pairs for word in pair), "--timeout", seconds, *self.words]

    def as_options(self, seconds: str) -> Options:
        """As a program has them; `seconds` are those of the timeout."""
        types: dict[str, Callable[[str], Any]] = {
            "pkcs8_password": Secret,
            "tpm_key_password": Secret,
        }
        values = {name: types.get(name, str)(value) for name, value in self.options.items()}
        return Options(**values, timeout=float(seconds))


@pytest.fixture(scope="session")
def file_inputs(tmp_path_factory):
    """Files, and the roots that vouch for them."""
    directory = tmp_path_factory.mktemp("inputs")
    root = make_root()
    leaf = root.issue()
    certificate, key = leaf.write(directory, "leaf")
    encryption = BestAvailableEncryption(PASSPHRASE.encode())
    contents = {
        "encrypted_key": key_to_pem(leaf.key, PASSPHRASE.encode()),
        "pkcs12": pkcs12.serialize_key_and_certificates(b"x", leaf.key, leaf.certificate, None, encryption),
        "other_key": key_to_pem(root.key, PASSPHRASE.encode()),
        "broken_key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "wrong_pin_file": WRONG_PIN.encode(),
        "tpm_password_file": TPM_PASSWORD.encode(),
        "parent_password_file": PARENT_PASSWORD.encode(),
        "pin_file": PIN.encode() + b"\n",
        "two_lines": f"{PIN}\n{PIN}\n".encode(),
        "no_utf8": PIN.encode() + b"\xff",
        "large": PIN.encode() * 1000,
        "section_with_pin": f'[prod]\nprivate-key = "pkcs11:token=t?pin-value={PIN}"\n'.encode(),
        "root": root.pem,
    }
    for name, data in contents.items():
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    inputs = {name: str(directory / name) for name in contents}
    other_ca = ServerTLS.make(directory / "other", "other.test").ca
    paths = {"certificate": certificate, "key": key, "other_ca": other_ca, "credentials": directory}
    return inputs | {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="session")
def own_token(provisioned_token, tmp_path_factory):
    """A copy of the provisioned token, with a PIN that can be recognised, and of its module.

    A process has one set-up for each module.
    """
    directory = tmp_path_factory.mktemp("softhsm-canary") / "token"
    shutil.copytree(provisioned_token.directory, directory)
    conf = directory / "softhsm2.conf"
    conf.write_text(conf.read_text().replace(str(provisioned_token.directory), str(directory)))
    module = Path(shutil.copy(provisioned_token.module, directory / "libsofthsm2-copy.so"))
    environment = {"SOFTHSM2_CONF": str(conf)}
    words = ["--module", module, "--token-label", TOKEN_LABEL, "--login", "--pin", "env:OLD_PIN"]
    subprocess.run(
        ["pkcs11-tool", *words, "--change-pin", "--new-pin", "env:NEW_PIN"],
        env=os.environ | environment | {"OLD_PIN": provisioned_token.user_pin, "NEW_PIN": PIN},
        capture_output=True,
        check=True,
    )
    return ProvisionedToken(directory), module, environment


@pytest.fixture(scope="module")
def tpm_inputs(swtpm):
    """Keys in a TPM that takes any number of wrong passwords, and the root of their certificates."""
    swtpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries", "1000", "--recovery-time", "1000")
    root = make_root()
    keys = TPMKeys(swtpm, root)
    parent = keys.storage_key(0x81000001, PARENT_PASSWORD)
    policy = keys.policy_digest(("tpm2_policyauthvalue",))
    made = {
        "file": keys.by_openssl("EC", "group:P-256", password=TPM_PASSWORD),
        "handle": keys.by_tools(password=TPM_PASSWORD, handle=0x81010001),
        "policy": keys.by_tools(
            password=TPM_PASSWORD,
            attributes=UNDER_POLICY,
            policy=policy,
            fields=policy_field([(POLICY_AUTH_VALUE, b"")]),
        ),
        "child": keys.by_tools(parent=parent, parent_password=PARENT_PASSWORD),
        "open": keys.by_openssl("EC", "group:P-256"),
    }
    (swtpm.directory / "root.pem").write_bytes(root.pem)
    inputs = {f"tpm_{name}": key.private_key for name, key in made.items()}
    inputs |= {f"tpm_{name}_certificate": str(key.certificate) for name, key in made.items()}
    return inputs | {"tcti": swtpm.tcti, "tpm_root": str(swtpm.directory / "root.pem")}


@pytest.fixture
def world(request, case, file_inputs, tmp_path_factory):
    """What a case needs: the token only where it uses one."""
    assert bool(case.says) == bool(case.code), "a failure without a cause proves nothing"
    inputs = dict(file_inputs) | {
        "pin": PIN,
        "wrong_pin": WRONG_PIN,
        "encoded_pin": "".join(f"%{byte:02x}" for byte in PIN.encode()),
        "proxy_password": PROXY_PASSWORD,
        "user_info": USER_INFO,
        "closed": closed_address(),
    }
    roots, environment = [Path(inputs["root"])], {}
    if case.token:
        token, module, environment = request.getfixturevalue("own_token")
        roots.append(token.root)
        inputs |= {
            "module": str(module),
            "label": TOKEN_LABEL,
            "token_uri": token.uri("p-256", with_pin=False),
            "token_certificate": str(token.certificate("p-256")),
            "always_uri": token.uri("always-auth", with_pin=False),
            "always_certificate": str(token.certificate("always-auth")),
            "intermediate": str(token.intermediate),
        }
    if case.tpm:
        inputs |= request.getfixturevalue("tpm_inputs")
        roots.append(Path(inputs["tpm_root"]))
    directory = tmp_path_factory.mktemp("world")
    trust = directory / "roots.pem"
    trust.write_bytes(b"".join(root.read_bytes() for root in roots))
    return World(inputs, trust, ServerTLS.make(directory, "service.test"), environment)


def closed_address() -> str:
    """An address at which nobody listens."""
    return "127.0.0.1:1"  # none that the system gives to anybody


@contextmanager
def scene_of(case: Case, world: World) -> Iterator[Scene]:
    """Set a case up: its service, its proxy, its files."""
    with ExitStack() as stack:
        proxied = bool(case.proxy)
        service, port = None, int(world.inputs["closed"].rpartition(":")[2])
        if not case.asks_the_service:
            pass
        elif case.service == "grants":
            port = stack.enter_context(granting(world, secured=proxied))
        else:
            script = SCRIPTS[case.service]
            service = stack.enter_context(ScriptedService(script, tls=world.tls if proxied else None))
            port = service.port
        defaults = ARNS | {"endpoint": "https://service.test" if proxied else f"http://127.0.0.1:{port}"}
        if case.token:
            defaults["intermediates"] = "{intermediate}"
        variables = dict(world.token_environment)
        received: Callable[[], Any] = tuple
        if proxied:
            address, received = stack.enter_context(proxy_of(case.proxy, port))
            variables |= {"HTTPS_PROXY": address, "AWS_CA_BUNDLE": str(world.tls.ca)}

        def was_asked() -> bool:
            return bool(received() or (service is not None and service.requests))

        def arrived() -> None:
            assert all(request.header("Proxy-Authorization") == BASIC for request in received())
            assert received() or case.proxy not in PROXIES_THAT_LISTEN
            assert service is None or service.requests, "the service was never asked"

        fill = world.inputs
        yield Scene(
            {name: value.format_map(fill) for name, value in (defaults | dict(case.options)).items()},
            [word.format_map(fill) for word in case.words],
            {name: value.format_map(fill) for name, value in (variables | dict(case.environment)).items()},
            was_asked,
            arrived,
        )


@contextmanager
def granting(world: World, *, secured: bool) -> Iterator[int]:
    """The emulator, which verifies, with canaries for credentials; its port."""
    credentials = TemporaryCredentials("ASIAEXAMPLEEXAMPLE00", SECRET_ACCESS_KEY, SESSION_TOKEN)
    emulator = Emulator(for_certificate_authority(world.trust), mint=lambda _: credentials)
    tls = tls_context(world.tls.certificate, world.tls.key) if secured else None
    with running(emulator, tls=tls) as url:
        yield int(url.rpartition(":")[2])


PROXIES_THAT_LISTEN = ("passes", "refuses", "hangs")


@contextmanager
def proxy_of(kind: str, port: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A proxy's URL, and what gives the requests that it got."""
    prefix = f"http://user:{PROXY_PASSWORD}@"
    if kind == "hangs":
        with ScriptedService((HANG,)) as silent:
            yield prefix + silent.address, lambda: silent.requests
    elif kind in PROXIES_THAT_LISTEN:
        refusal = answer(407) if kind == "refuses" else None
        with ScriptedProxy({"service.test:443": port}, authorization=BASIC, refusal=refusal) as proxy:
            yield prefix + proxy.address, lambda: proxy.connects
    else:
        yield (prefix + closed_address() if kind == "is down" else kind), lambda: ()


def rigs_of(case: Case) -> list[pytest.MarkDecorator]:
    """What a case runs against."""
    names = [
        *(["softhsm"] if case.token else []),
        *(["swtpm"] if case.tpm else []),
        *(["emulator"] if case.asks_the_service and case.service == "grants" else []),
    ]
    return [pytest.mark.rig(*names)] if names else []


def each(cases: Sequence[Case]) -> Any:
    """A test for each case."""
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=rigs_of(c)) for c in cases])


# --- the promises ---


@each(CASES)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_the_command_keeps_its_secrets(case, debug, world, tmp_path):
    """The command writes a secret nowhere; an answer's credentials are on stdout, in their fields, and nowhere else.

    They are in the cache, too, where its entries are, and nothing else is. It starts no process, and sets no variable
    for one.
    """
    with scene_of(case, world) as scene:

        def run(seconds: str) -> Traces:
            words = ["-m", "rolekey", "credential-process", *scene.command_line(seconds)]
            (tmp_path / seconds).mkdir()
            return traces_of_process(
                tmp_path / seconds, [*words, *(["--debug"] if debug else [])], scene.environment, case.typed
            )

        traces = at_its_deadline(run, scene.was_asked) if case.hangs else run(GENEROUS)
        stderr = traces.stderr.decode()
        assert traces.code == case.code, stderr
        assert re.search(case.says, stderr), stderr
        scene.arrived()
    if debug:
        assert "rolekey: debug:" in stderr or case.code == 2, "no trace to search"
    else:
        assert stderr.count("\n") == (2 if case.code else 0)
    stdout = traces.stdout
    if case.code == 0:
        printed = json.loads(stdout)
        assert (printed["SecretAccessKey"], printed["SessionToken"]) == (SECRET_ACCESS_KEY, SESSION_TOKEN)
        stdout = without_credentials(stdout)
    else:
        assert stdout == b""
    entries = [name for name in traces.files if re.fullmatch(r"runtime_dir/rolekey/[0-9a-f]{32}\.entry", name)]
    assert len(entries) == (case.code == 0)
    assert bool(aliases(traces)) is (case.code == 0 and case.has_alias and not debug)
    assert all(mode & 0o077 == 0 for name, mode in traces.modes.items() if name.startswith("runtime_dir/"))
    promised = {f"the contents of {name}" for name in entries}
    for place, contents in (("stdout", stdout), *traces.places()):
        looked_at = without_credentials(contents) if place in promised else contents
        assert not found_in(looked_at), f"{place}: {looked_at!r}"
    assert traces.children == []


SIGNED = (
    "PIN: pin-value, accepted",
    "PIN: pin-value, refused",
    "PIN: pin-source, accepted",
    "PIN: --pin-source env, accepted",
    "PIN: --pin-source env, refused",
    "PIN: at each signature, typed",
    "PIN: typed, refused",
    "PIN: URI as a word",
    "TPM: accepted",
    "TPM: refused",
    "passphrase: accepted",
    "passphrase: refused",
    "passphrase: of a PKCS#12 file, accepted",
    "passphrase: of a PKCS#12 file, refused",
    "passphrase: not needed",
    "passphrase: another key's",
    "passphrase: in two words",
    "passphrase: misspelt with =",
    "passphrase: typed, accepted",
    "passphrase: typed, refused",
)
NOT_FOR_SIGN_STRING = (*ARNS, "endpoint", "intermediates")


@each([case for case in CASES if case.name in SIGNED])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_sign_string_keeps_its_secrets(case, debug, world, tmp_path):
    """`rolekey sign-string` writes a secret nowhere, with each kind of key; stdout is the signature, or nothing."""
    with scene_of(case, world) as scene:
        options = {name: value for name, value in scene.options.items() if name not in NOT_FOR_SIGN_STRING}
        words = replace(scene, options=options).command_line(GENEROUS)
        command = ["-m", "rolekey", "sign-string", *words, *(["--debug"] if debug else [])]
        traces = traces_of_process(tmp_path, command, scene.environment, case.typed)
    stderr = traces.stderr.decode()
    assert traces.code == case.code, stderr
    assert re.search(case.says, stderr), stderr
    assert re.fullmatch(rb'"[0-9a-f]{128,}"' if case.code == 0 else b"", traces.stdout)
    assert ("rolekey: debug:" in stderr) is debug or case.code in (2, 3)
    assert not [name for name in traces.files if name.endswith((".entry", ".alias"))]
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert traces.children == []


# One way of each kind that doctor goes without a person; what answers badly is not of interest there.
_DOCTORED = {
    (case.name.partition(" ")[0], case.code, case.token, case.proxy.partition(":")[0], *sorted(case.environment)): case
    for case in CASES
    if case.service == "grants" and case.typed is None and not case.hangs
}


@each(list(_DOCTORED.values()))
@pytest.mark.parametrize("form", [(), ("--json",), ("--debug",)], ids=["plain", "json", "debug"])
def test_doctor_keeps_its_secrets(case, form, world, tmp_path):
    """`rolekey doctor --sign` writes no secret anywhere, whatever is wrong, and throws the credentials away."""
    with scene_of(case, world) as scene:
        words = ["-m", "rolekey", "doctor", *scene.command_line(GENEROUS), "--sign", *form]
        traces = traces_of_process(tmp_path, words, scene.environment)
    stdout = traces.stdout.decode()
    if traces.code == 2:
        assert stdout == ""
        assert case.code == 2
    else:
        assert traces.code == (1 if case.code else 0), stdout
        assert case.code or "one signature, and credentials for" in stdout
        if form == ("--json",):
            assert {tuple(finding) for finding in json.loads(stdout)} == {("check", "status", "message", "remedy")}
    assert not [name for name in traces.files if name.endswith((".entry", ".alias"))]
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert traces.children == []


OLD_LINE = "[profile prod]\ncredential_process = aws_signing_helper credential-process "
CONFIGURED = [
    ("holds a PIN", ["--private-key", f"pkcs11:token=t?pin-value={PIN}"], ""),
    ("no place in a file", ["--pkcs8-password", PASSPHRASE], ""),
    ("no place in a file", ["--tpm-key-password", TPM_PASSWORD], ""),
    ("belongs to no option", ["--pkcs8-password", "a", PASSPHRASE], ""),
    ("names no source", ["--private-key", "pkcs11:token=t", "--pin-source", PIN], ""),
    ("not sent to anybody", ["--certificate", "c", "--endpoint", f"https://user:{USER_INFO}@service.test"], ""),
    ("holds a PIN", ["--from-aws-config", "prod"], f"--private-key 'pkcs11:token=t?pin-value={PIN}'"),
    ("no place in a file", ["--from-aws-config", "prod"], f"--pkcs8-password {PASSPHRASE}"),
    ("exclude each other", ["--from-aws-config", "prod"], f"--pkcs8-password {PASSPHRASE} --tpm-key-password x"),
    ("a quote is open", ["--from-aws-config", "prod"], f"--pkcs8-password '{PASSPHRASE}"),
]


@pytest.mark.parametrize(("says", "words", "line"), CONFIGURED)
def test_configure_keeps_its_secrets(says, words, line, tmp_path):
    """`rolekey configure` refuses what holds a secret, shows nothing of it, and writes it into no file."""
    config = tmp_path / "aws-config"
    config.write_text(OLD_LINE + line)
    arns = [word for name, value in ARNS.items() for word in (f"--{name.replace('_', '-')}", value)]
    command = ["-m", "rolekey", "configure", "prod", *arns, *words]
    (tmp_path / "traces").mkdir()
    traces = traces_of_process(tmp_path / "traces", command, {"AWS_CONFIG_FILE": str(config)})
    assert traces.code == 2
    assert says in traces.stderr.decode()
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert config.read_text() == OLD_LINE + line


# What is said, with which exit code, of a key that is looked at.
INSPECTED = [
    (0, "verdict: this key cannot leave the token", ["inspect", "{uri}?pin-value={pin}"]),
    (0, "verdict: this key cannot leave the token", ["inspect", "{uri}", "--pin-source", "env:HSM_PIN"]),
    (4, "the PIN was not accepted", ["inspect", "{uri}?pin-value={wrong_pin}"]),
    (3, "holds no private key", ["inspect", "{uri}-2?pin-value={pin}"]),
    (2, "2 arguments are given", ["inspect", "{uri}", "--tpm-key-password", "a", PASSPHRASE]),
    (2, "pin-value", ["inspect", "'{uri}?pin-value={pin}'"]),
    (2, "--timeout has no value", ["inspect", "{uri}", "--timeout", f"--tpm-key-password={TPM_PASSWORD}"]),
    (0, "usable, ", ["list", "{uri}?pin-value={pin}"]),
    (0, "usable, ", ["list", "--pin-source", "env:HSM_PIN"]),
    (4, "the PIN was not accepted", ["list", "{uri}?pin-value={wrong_pin}"]),
    (3, "no token matches", ["list", "pkcs11:token=a?pin-value={pin}"]),
    (2, "2 arguments are given", ["list", "{uri}", PASSPHRASE]),
    (0, "verdict: this key cannot", ["generate", "{uri}-new?pin-value={pin}", "--type", "p256", "--force"]),
    (3, "already holds", ["generate", "{uri}", "--pin-source", "env:HSM_PIN", "--type", "p256"]),
    (4, "the PIN was not accepted", ["generate", "{uri}-new?pin-value={wrong_pin}", "--type", "p256"]),
    (0, "-----BEGIN CERTIFICATE REQUEST-----", ["csr", "{uri}?pin-value={pin}", "--subject", "CN=a", "--out", "-"]),
    (4, "the PIN was not accepted", ["csr", "{uri}?pin-value={wrong_pin}", "--subject", "CN=a", "--out", "-"]),
    (2, "--out has a pin-value", ["csr", "{uri}", "--subject", "CN=a", "--out", "'{uri}?pin-value={pin}'"]),
    (2, "--out is a URI", ["csr", "{uri}", "--subject", "CN=a", "--out", "pkcs11:object={pin}"]),
    (2, "--subject is no name", ["csr", "{uri}", "--subject", PASSPHRASE, "--out", "-"]),
    (2, "--san has a kind", ["csr", "{uri}", "--subject", "CN=a", "--san", PASSPHRASE, "--out", "-"]),
    (0, "it is there already", ["import-certificate", "{uri}?pin-value={pin}", "{certificate}"]),
    (4, "the PIN was not accepted", ["import-certificate", "{uri}?pin-value={wrong_pin}", "{certificate}"]),
    (2, "FILE has a pin-value", ["import-certificate", "{uri}", "{uri}?pin-value={pin}"]),
]


@pytest.mark.rig("softhsm")
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize(("code", "says", "words"), INSPECTED)
def test_key_keeps_its_secrets(code, says, words, debug, own_token, tmp_path):
    """The commands of `rolekey key` write no PIN and no password anywhere, whatever comes of it."""
    token, module, environment = own_token
    inputs = {
        "certificate": token.certificate("p-256"),
        "uri": token.uri("p-256", with_pin=False),
        "pin": PIN,
        "wrong_pin": WRONG_PIN,
    }
    filled = [word.format_map(inputs) for word in words]
    command = ["-m", "rolekey", "key", *filled, "--pkcs11-lib", str(module), *(["--debug"] if debug else [])]
    traces = traces_of_process(tmp_path, [*command, "--timeout", GENEROUS], environment | {"HSM_PIN": PIN})
    assert traces.code == code, traces.stderr
    assert says in (traces.stderr if code else traces.stdout).decode()
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert traces.children == []


@pytest.mark.rig("swtpm")
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("words", [["--tpm-key-password", TPM_PASSWORD], ["--pin-source", "env:TPM_PASSWORD"]])
def test_a_new_tpm_key_keeps_its_password(words, debug, tpm_inputs, tmp_path):
    """`rolekey key generate` writes the password of a new TPM key nowhere, its file included."""
    made = tmp_path / "new.key"
    command = [
        "-m",
        "rolekey",
        "key",
        "generate",
        str(made),
        "--type",
        "p256",
        "--tpm-tcti",
        tpm_inputs["tcti"],
        *words,
    ]
    (tmp_path / "traces").mkdir()
    command += ["--timeout", GENEROUS, *(["--debug"] if debug else [])]
    traces = traces_of_process(tmp_path / "traces", command, {"TPM_PASSWORD": TPM_PASSWORD})
    assert traces.code == 0, traces.stderr
    for place, contents in (("stdout", traces.stdout), ("the file", made.read_bytes()), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"
    assert traces.children == []


def without_credentials(contents: bytes) -> bytes:
    """What remains of stdout or of a cache's entry, in which the answer's credentials stand once."""
    for secret in (SECRET_ACCESS_KEY, SESSION_TOKEN):
        assert contents.count(secret.encode()) == 1
        contents = contents.replace(secret.encode(), b"")
    return contents


def aliases(traces):
    """The command lines that the cache knows an answer to."""
    return [contents for name, contents in traces.files.items() if name.endswith(".alias")]


# Says where it can be sent a signal, and becomes the program.
NOTES_ITS_NUMBER = """
import os, sys
with open(os.environ["HOME"] + "/number", "w") as file:
    file.write(str(os.getpid()))
from rolekey.__main__ import main
main()
"""
SERVED = (
    "PIN: pin-value, accepted",
    "PIN: pin-value, refused",
    "PIN: pin-value, the service refuses",
    "PIN: pin-source, accepted",
    "PIN: --pin-source file, accepted",
    "PIN: --pin-source env, accepted",
    "PIN: --pin-source env, refused",
    "PIN: at each signature, --pin-source env",
)


@each([case for case in CASES if case.name in SERVED])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_serve_keeps_its_secrets(case, debug, world, tmp_path):
    """`rolekey serve` and the key's process write a secret nowhere; whoever may ask gets the credentials over HTTP.

    What it leaves is the token's file, and what belongs to the record of refused PINs.
    """
    with scene_of(case, world) as scene, ThreadPoolExecutor(1) as threads:
        words = ["-c", NOTES_ITS_NUMBER, "serve", "--port=0", "--print-env", *scene.command_line(GENEROUS)]
        words += ["--debug"] if debug else []
        running_process = threads.submit(traces_of_process, tmp_path, words, scene.environment)
        if case.code == 0:
            ask_and_end(tmp_path / "home", running_process)
        traces = running_process.result(120)
        stderr = traces.stderr.decode()
        assert traces.code == case.code, stderr
        assert re.search(case.says, stderr), stderr
        scene.arrived()
    assert ("rolekey: debug:" in stderr) is debug
    assert (b"AWS_CONTAINER_CREDENTIALS_FULL_URI" in traces.stdout) is (case.code == 0)
    assert "rolekey.worker_child" in traces.events
    assert len(traces.children) == 1
    kept = [name for name in traces.files if re.match("runtime_dir/rolekey/(?!pins)", name)]
    assert len(kept) == (case.code == 0)
    assert all(re.fullmatch(r"runtime_dir/rolekey/serve-[0-9]+\.token", name) for name in kept)
    assert all(traces.modes[name] == 0o600 for name in kept)
    for place, contents in (("stdout", traces.stdout), *traces.places()):
        assert not found_in(contents), f"{place}: {contents!r}"


def ask_and_end(home, running_process):
    """Take the credentials from the container endpoint, and end the process."""
    directory = home / "runtime_dir" / "rolekey"

    def token_files():
        assert not running_process.done(), running_process.result()
        return [path for path in directory.glob("serve-*.token") if path.stat().st_size]

    wait_until(token_files)
    (token_file,) = token_files()
    port = token_file.stem.partition("-")[2]
    reply = ask(f"http://127.0.0.1:{port}", f"/creds/{NAME}", {"Authorization": token_file.read_text()})
    assert (reply.document["SecretAccessKey"], reply.document["Token"]) == (SECRET_ACCESS_KEY, SESSION_TOKEN)
    os.kill(int((home / "number").read_text()), signal.SIGTERM)


HANDED_ON = (
    "PIN: pin-value, accepted",
    "PIN: pin-value, refused",
    "PIN: pin-value, the service refuses",
    "PIN: --pin-source file, accepted",
    "PIN: --pin-source env, accepted",
    "PIN: --pin-source env, refused",
    "PIN: typed, accepted",
    "PIN: in ROLEKEY_PRIVATE_KEY, accepted",
    "TPM: --pin-source env, accepted",
    "TPM: parent's, env, accepted",
    "passphrase: accepted",
    "passphrase: typed, refused",
)


@each([case for case in CASES if case.name in HANDED_ON])
@pytest.mark.parametrize("command", ["exec", "login"])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_exec_and_login_keep_their_secrets(command, case, debug, world, tmp_path):
    """An answer's credentials are in the environment of exec's command and in the cache's entry; login prints none.

    No PIN, passphrase or password is anywhere, nor in the command's environment or arguments.
    """
    with scene_of(case, world) as scene:
        words = ["-m", "rolekey", command, *scene.command_line(GENEROUS), *(["--debug"] if debug else [])]
        words += ["--", "env"] if command == "exec" else []
        traces = traces_of_process(tmp_path, words, scene.environment, case.typed)
        stderr = traces.stderr.decode()
        assert traces.code == case.code, stderr
        assert re.search(case.says, stderr), stderr
        scene.arrived()
    entries = [name for name in traces.files if name.endswith(".entry")]
    assert len(entries) == (case.code == 0)
    promised = {f"the contents of {name}" for name in entries}
    stdout = traces.stdout
    if case.code == 0 and command == "exec":
        assert f"AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}\nAWS_SESSION_TOKEN={SESSION_TOKEN}\n".encode() in stdout
        stdout = without_credentials(stdout)
        assert traces.children == ["os.exec "]
        promised.add(EVENTS)
    else:
        assert (b"good until" in stdout) is (case.code == 0)
        assert traces.children == []
    for place, contents in (("stdout", stdout), *traces.places()):
        looked_at = without_credentials(contents) if place in promised else contents
        assert not found_in(looked_at), f"{place}: {looked_at!r}"


@each([case for case in CASES if case.for_the_library])
def test_the_library_keeps_its_secrets(case, world, monkeypatch):
    """A program that uses rolekey meets no secret either: in no exception, none of its causes, and no logger's log."""
    recorder = Recorder()
    with scene_of(case, world) as scene, recorder.listening():
        for name, value in scene.environment.items():
            monkeypatch.setenv(name, value)

        def run(seconds: str) -> Credentials | RolekeyError:
            try:
                return credentials_for(scene.as_options(seconds))
            except RolekeyError as error:
                return error

        outcome = at_its_deadline(run, scene.was_asked) if case.hangs else run(GENEROUS)
        scene.arrived()
    if isinstance(outcome, Credentials):
        assert (case.code, outcome.session_token) == (0, SESSION_TOKEN)
        assert not found_in(f"{outcome} {outcome!r}")
    else:
        assert exit_code(outcome) == case.code
        assert re.search(case.says, f"{outcome.message} {outcome.hint}")
        for where, text in said_by(outcome):
            assert not found_in(text), f"{where}: {text}"
    for logger, text in recorder.said:
        assert not found_in(text), f"{logger}: {text}"
    if case.code != 2:
        assert any(logger.startswith("rolekey") for logger, _ in recorder.said)


@each([case for case in CASES if case.for_the_library])
def test_boto3_keeps_its_secrets(case, world, monkeypatch):
    """A session of boto3 shows no secret either: not before it has credentials, nor after, nor where it gets none.

    What it leaves is the answer in the cache, and what belongs to the record of refused PINs.
    """
    recorder = Recorder()
    with scene_of(case, world) as scene, recorder.listening():
        for name, value in scene.environment.items():
            monkeypatch.setenv(name, value)

        def run(seconds: str) -> tuple[Any, Any, RolekeyError | None]:
            session = None
            try:
                session = boto3_session(scene.as_options(seconds))
                assert_shows_nothing(session.get_credentials())
                return session, session.get_credentials().get_frozen_credentials(), None
            except RolekeyError as error:
                return session, None, error

        session, frozen, failure = at_its_deadline(run, scene.was_asked) if case.hangs else run(GENEROUS)
        scene.arrived()
    if failure is None:
        assert (case.code, frozen.token) == (0, SESSION_TOKEN)
    else:
        assert exit_code(failure) == case.code
        assert re.search(case.says, f"{failure.message} {failure.hint}")
        for where, text in said_by(failure):
            assert not found_in(text), f"{where}: {text}"
    if session is not None:
        for way, shown in shown_by(session.get_credentials()):
            assert way == "walk" or not found_in(shown), f"{way}: {shown!r}"
    for logger, text in recorder.said:
        assert not found_in(text), f"{logger}: {text}"
    for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        is_entry = path.suffix == ".entry"
        assert is_entry is (content.count(SESSION_TOKEN.encode()) == 1)
        assert not found_in(without_credentials(content) if is_entry else content), path


def credentials_for(options: Options) -> Credentials:
    """What a program does."""
    settings = resolve_settings(options, os.environ)
    deadline = Deadline.of(settings.timeout, attended=False)
    with open_identity(settings, NoInteraction(), deadline) as identity:
        for value in (settings, identity, vars(identity)):
            assert_shows_nothing(value)
        return create_session.request_credentials(settings, identity, deadline, sleep=lambda _: None)


def assert_shows_nothing(value: object) -> None:
    """Whatever way a value is shown, no canary is in it."""
    for way, shown in shown_by(value):
        assert not found_in(shown), f"{way}: {shown!r}"


URI = f"pkcs11:token=x;object=y?pin-value={PIN}"
OPTIONS = {
    "passphrase": Options(**ARNS, private_key="key.pem", pkcs8_password=Secret(PASSPHRASE)),
    "PIN of the key": Options(**ARNS, private_key=URI),
    "PIN of the certificate": Options(**ARNS, certificate=URI),
    "TPM password": Options(
        **ARNS, private_key="handle:81010001", certificate="a.pem", tpm_key_password=Secret(TPM_PASSWORD)
    ),
}
VALUES = {
    **{f"Options: {name}": options for name, options in OPTIONS.items()},
    "Options: user info": Options(**ARNS, private_key="key.pem", endpoint=f"https://user:{USER_INFO}@service.test"),
    **{f"Settings: {name}": resolve_settings(options, {}) for name, options in OPTIONS.items()},
    "Secret": Secret(PIN),
    "PKCS11URI": PKCS11URI.parse(URI),
    "Route": Route(proxy=Secret(f"http://user:{PROXY_PASSWORD}@proxy.test")),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_keep_their_secrets(value):
    """A value that holds a secret shows it in no text of itself, to no serialiser, and in no pickle."""
    assert_shows_nothing(value)


def test_settings_with_a_proxy(monkeypatch):
    """The Settings of a machine behind a proxy do not show its password."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY_PASSWORD}@proxy.test:3128")
    settings = resolve_settings(Options(**ARNS, private_key="key.pem"), os.environ)
    assert settings.proxy is not None
    assert PROXY_PASSWORD in settings.proxy.reveal()
    assert_shows_nothing(settings)


@pytest.mark.parametrize(
    "value",
    [
        Credentials("ASIAEXAMPLE", SECRET_ACCESS_KEY, SESSION_TOKEN, datetime(2030, 1, 1, tzinfo=UTC)),
        Answer(201, {"set-cookie": SESSION_TOKEN}, document()),
    ],
    ids=["Credentials", "Answer"],
)
def test_what_holds_credentials_does_not_print_them(value):
    """Credentials, and the answer that carries them, can be printed and logged without harm."""
    for way, shown in shown_by(value):
        if way in ("repr", "str", "format", "in a list"):
            assert not found_in(shown), way


# --- that the promises are not vacuous ---

ENCODERS: dict[str, Callable[[str], bytes | str]] = {
    "plain": str,
    "inside": lambda text: f"...{text}...",
    "upper": str.upper,
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "a hex dump": lambda text: text.encode().hex(" "),
    "bytes": lambda text: repr(list(text.encode())),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 after one": lambda text: base64.b64encode(b":" + text.encode()),
    "base64 after two": lambda text: base64.b64encode(b"::" + text.encode()),
    "base64 URL": lambda text: base64.urlsafe_b64encode(text.encode()),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "some percent": lambda text: text.replace("A", "%41"),
    "escapes": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "backwards": lambda text: text[::-1],
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("end", [slice(0, len(CANARY)), slice(-len(CANARY), None)], ids=["start", "end"])
def test_canaries_are_found(encode, end):
    """A canary is found in each encoding, also where only its beginning or its end was written."""
    assert found_in(encode(PIN[end]))
    assert not found_in(encode("harmless text"))


@dataclass
class Leaky:
    """Holds a secret in the open."""

    secret: str
    _more: list[dict[str, str]] = field(default_factory=list, repr=False)


@pytest.mark.parametrize("value", [Leaky(PIN), Leaky("", [{"a": PIN}]), {"x": (PIN,)}, PIN.encode()])
def test_values_that_leak_are_found(value):
    """A secret in the open is found by what looks at values."""
    assert any(found_in(shown) for _, shown in shown_by(value))
    assert found_in(dict(shown_by(value))["walk"])
    assert found_in(dict(shown_by(value))["pickle protocol 5"])


@pytest.mark.parametrize("where", ["args", "cause", "context", "hint", "note"])
def test_exceptions_that_leak_are_found(where):
    """A secret is found in an exception's arguments, attributes and notes, and in those of what led to it."""
    error: Exception = RolekeyError(PIN if where == "args" else "x", hint=PIN if where == "hint" else "y")
    if where == "cause":
        error.__cause__ = ValueError(PIN)
    elif where == "context":
        error.__context__, error.__suppress_context__ = KeyError(PIN), True
    elif where == "note":
        error.add_note(PIN)
    assert any(found_in(text) for _, text in said_by(error))


LEAKS = {
    "stderr": "sys.stderr.write(secret)",
    "a file": "open(os.environ['HOME'] + '/file', 'w').write(secret)",
    "a file's name": "open(os.environ['TMPDIR'] + '/' + secret, 'w')",
    "a file that is gone": "open(secret, 'w'); os.remove(secret)",
    "a directory": "os.makedirs(os.environ['XDG_CACHE_HOME'] + '/' + secret)",
    "a child's arguments": "subprocess.run(['true', secret])",
    "a child's environment": "subprocess.run(['true'], env={'PIN': secret})",
    "the environment": "os.environ['PIN'] = secret",
    "a shell": "os.system('true ' + secret)",
    "a fork": "(os.fork() or os.execv('/bin/true', ['true', secret])) and os.wait()",
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_processes_that_leak_are_found(leak, tmp_path):
    """A secret is found in whatever way a process lets it out."""
    code = f"import os, subprocess, sys; secret = {PIN!r}; {leak}"
    traces = traces_of_process(tmp_path, ["-c", code], {})
    assert traces.code == 0, traces.stderr
    assert [place for place, contents in traces.places() if found_in(contents)]
    assert bool(traces.children) is ("child" in leak or any(word in leak for word in ("run(", "system(", "fork(")))


def test_a_terminal_that_leaks_is_found(tmp_path):
    """A secret that is typed while the terminal echoes is found."""
    code = "tty = open('/dev/tty', 'r+b', 0); tty.write(b'PIN: '); tty.readline()"
    traces = traces_of_process(tmp_path, ["-c", code], {}, typed=PIN)
    assert found_in(dict(traces.places())["the terminal"])


def test_logs_that_leak_are_found():
    """A secret is found in any logger's message, arguments and exception, at any level."""
    for leak in (
        lambda logger: logger.debug(PIN),
        lambda logger: logger.debug("%.0s", PIN),
        lambda logger: logger.debug("x", exc_info=ValueError(PIN)),
    ):
        recorder = Recorder()
        with recorder.listening():
            leak(logging.getLogger("another.library"))
        assert any(found_in(text) for _, text in recorder.said)
