"""What is said when a token, key, certificate, module or PIN is not the right one: exit code, cause, remedy."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from rolekey.arn import ARN
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import AmbiguousMatchError
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from support.emulator import running_emulator
from support.pkcs11_spy import PKCS11Calls
from support.pki import make_root
from support.process import rolekey
from support.softhsm import ProvisionedToken

pytestmark = pytest.mark.rig("softhsm")
ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
ARGUMENTS = [word for name, arn in ARNS.items() for word in ("--" + name.replace("_", "-"), arn)]


@pytest.fixture
def run(provisioned_token):
    def run(*args, module=None, **options):
        module = str(module or provisioned_token.module)
        # Nothing answers there: a test that got so far would say so with exit code 6.
        endpoint = ("--endpoint", "http://127.0.0.1:1")
        return rolekey("credential-process", *ARGUMENTS, *endpoint, "--pkcs11-lib", module, *args, **options)

    return run


def test_no_such_token(run, provisioned_token):
    """A token that is not there: the error names it, the hint lists those that are."""
    run("--private-key", "pkcs11:token=nobody;object=p-256").failed(3, "token=nobody", provisioned_token.label)


def test_no_such_key(run, provisioned_token):
    """A key that is not there: the hint lists ready-to-paste URIs of those that are."""
    certificate = str(provisioned_token.certificate("p-256"))
    outcome = run("--certificate", certificate, "--private-key", provisioned_token.uri("nobody"))
    outcome.failed(3, "no private key that matches", "object=nobody", "object=p-256;id=%03")


def test_unknown_path_attribute(run):
    """RFC 7512: an attribute that is not known matches nothing; the hint names it."""
    run("--private-key", "pkcs11:token=rolekey-softhsm;frobnicate=1").failed(3, "no token matches", "frobnicate")


@pytest.mark.parametrize(
    ("module", "words"),
    [("/nonexistent/module.so", "No such file"), (shutil.which("true"), "cannot be loaded"), (__file__, "ELF")],
)
def test_no_such_module(run, provisioned_token, module, words):
    """A module that cannot be loaded: exit 3 with the loader's own text."""
    run("--private-key", provisioned_token.uri("p-256"), module=module).failed(3, str(module), words)


def test_module_path_in_the_uri(provisioned_token):
    """module-path names the module where --pkcs11-lib does not; without either the default is named in the error."""
    uri = provisioned_token.uri("p-256")
    endpoint = ("--endpoint", "http://127.0.0.1:1")
    named = f"{uri}&module-path={provisioned_token.module}"
    rolekey("credential-process", *ARGUMENTS, *endpoint, "--private-key", named).failed(6, "Connection refused")
    missing = f"{uri}&module-path=/nonexistent.so"
    rolekey("credential-process", *ARGUMENTS, *endpoint, "--private-key", missing).failed(3, "/nonexistent.so")


@pytest.mark.parametrize("by", ["--pkcs11-lib", "module-path", "PKCS11_MODULE_PATH"])
def test_module_directory(provisioned_token, by):
    """RFC 7512: a module-path may be a directory, in which module-name says which; without one the error says so."""
    directory = provisioned_token.module.parent
    uri = provisioned_token.uri("p-256") + (f"&module-path={directory}" if by == "module-path" else "")
    more = ("--endpoint", "http://127.0.0.1:1", *(("--pkcs11-lib", str(directory)) if by == "--pkcs11-lib" else ()))
    environment = {"PKCS11_MODULE_PATH": str(directory)} if by == "PKCS11_MODULE_PATH" else {}

    def run(uri):
        return rolekey("credential-process", *ARGUMENTS, *more, "--private-key", uri, environment=environment)

    run(uri).failed(3, f"{directory} is a directory, not a PKCS#11 module", "module-name=NAME")
    if by != "PKCS11_MODULE_PATH":
        run(f"{uri}&module-name=softhsm2").failed(6, "Connection refused")
        run(f"{uri}&module-name=SoftHSM2").failed(6, "Connection refused")
        run(f"{uri}&module-name=other").failed(3, f"no PKCS#11 module in {directory} is called other", "--pkcs11-lib")


def test_wrong_pin(run, provisioned_token, pkcs11_spy, tmp_path):
    """A wrong PIN is sent once and ends the run with exit 4; no signature is made."""
    log = tmp_path / "spy.log"
    environment = pkcs11_spy.environment(provisioned_token.module, log)
    uri = provisioned_token.uri("p-256", with_pin=False) + "?pin-value=0000"
    run("--private-key", uri, module=pkcs11_spy.module, environment=environment).failed(4, "CKR_PIN_INCORRECT")
    calls = PKCS11Calls.read(log)
    assert calls.logins == {"CKU_USER": 1}
    assert calls.count["C_SignInit"] == 0


@pytest.mark.parametrize("pin", ["", "12%0A34"])
def test_a_pin_that_is_none_is_not_sent(run, provisioned_token, pin):
    """An empty PIN, or one with a control character, is refused without a try."""
    outcome = run("--private-key", provisioned_token.uri("p-256", with_pin=False) + f"?pin-value={pin}")
    assert outcome.code in (2, 4)
    outcome.failed(outcome.code)
    assert "CKR" not in outcome.stderr


def test_no_pin_and_no_terminal(run, provisioned_token):
    """Without a PIN source and a terminal the error says what to configure."""
    run("--private-key", provisioned_token.uri("p-256", with_pin=False)).failed(4, "needs a PIN", "pin-source=file:")


def test_pin_file_with_one_line_end(run, provisioned_token, tmp_path):
    """One line end after the PIN belongs to the file, not to the PIN."""
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(provisioned_token.user_pin + "\n")
    uri = provisioned_token.uri("p-256", with_pin=False) + f"?pin-source=file:{pin}"
    run("--private-key", uri).failed(6, "Connection refused")


def test_pin_file_missing(run, provisioned_token):
    """A pin-source that cannot be read is an error, never a reason to ask elsewhere."""
    uri = provisioned_token.uri("p-256", with_pin=False) + "?pin-source=file:/nonexistent/pin"
    run("--private-key", uri).failed(4, "/nonexistent/pin", "No such file")


@pytest.mark.parametrize("place", ["file", "token"])
def test_key_of_another_certificate(run, provisioned_token, pkcs11_spy, tmp_path, place):
    """A key that visibly is not the certificate's is refused before the PIN is sent."""
    log = tmp_path / "spy.log"
    environment = pkcs11_spy.environment(provisioned_token.module, log)
    file, uri = str(provisioned_token.certificate("p-384")), provisioned_token.uri("p-384")
    arguments = ("--certificate", file if place == "file" else uri, "--private-key", provisioned_token.uri("p-256"))
    run(*arguments, module=pkcs11_spy.module, environment=environment).failed(5, "does not belong", "CN=p-384")
    calls = PKCS11Calls.read(log)
    assert calls.count["C_GetTokenInfo"] > 0
    assert calls.logins.total() == 0


def test_expired_certificate_costs_no_pin(run, provisioned_token, pkcs11_spy, tmp_path):
    """A certificate that has expired is refused before the PIN is sent."""
    now = datetime.now(UTC)
    old = make_root().issue(not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    certificate, _ = old.write(tmp_path, "old")
    log = tmp_path / "spy.log"
    environment = pkcs11_spy.environment(provisioned_token.module, log)
    arguments = ("--certificate", str(certificate), "--private-key", provisioned_token.uri("p-256"))
    run(*arguments, module=pkcs11_spy.module, environment=environment).failed(5, "expired on")
    assert PKCS11Calls.read(log).logins.total() == 0


def test_no_certificate_in_the_token(run, provisioned_token):
    """A certificate URI that selects nothing: the error says so and how to name a file."""
    uri = provisioned_token.uri("nobody")
    run("--certificate", uri, "--private-key", provisioned_token.uri("p-256")).failed(5, "no token shows", "nobody")


def identity_of(provisioned_token: ProvisionedToken, **options):
    settings = resolve_settings(Options(**ARNS, pkcs11_lib=str(provisioned_token.module), **options), {})
    assert isinstance(settings.role_arn, ARN)
    return open_identity(settings, NoInteraction(), Deadline(30))


def test_several_certificates(provisioned_token):
    """A URI that selects several certificates is refused; each URI of the list selects exactly one."""
    token_uri = f"pkcs11:token={provisioned_token.label}?pin-source=file:{provisioned_token.pin_file}"
    with pytest.raises(AmbiguousMatchError) as caught:
        identity_of(provisioned_token, private_key=token_uri)
    candidates = caught.value.candidates
    assert len(candidates) == 6
    assert "p-256" in caught.value.hint
    serials = set()
    for candidate in candidates:
        pinned = f"{candidate}?pin-source=file:{provisioned_token.pin_file}"
        with identity_of(provisioned_token, private_key=pinned) as identity:
            serials.add(identity.certificate.serial_number)
    assert len(serials) == 6


def test_a_token_wide_uri_with_a_certificate_file(provisioned_token):
    """Where the certificate is known, the one key with its public key is taken out of all that the URI selects."""
    token_uri = f"pkcs11:token={provisioned_token.label}?pin-source=file:{provisioned_token.pin_file}"
    for label in ("rsa-2048", "p-521"):
        certificate = str(provisioned_token.certificate(label))
        with identity_of(provisioned_token, private_key=token_uri, certificate=certificate) as identity:
            assert identity.sign("message")


@pytest.fixture
def second_token(provisioned_token, tmp_path):
    """A token of its own directory, to be changed."""
    return provisioned_token.copy(tmp_path / "second")


def pkcs11_tool(token, *words):
    command = ["pkcs11-tool", "--module", str(token.module), "--login", "--pin", token.user_pin, *words]
    environment = {"PATH": "/usr/bin:/bin", **token.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def test_two_keys_with_one_label(run, second_token):
    """Two keys that match, no certificate to tell them apart by public key: none is used, both are listed."""
    pkcs11_tool(second_token, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "p-256", "--id", "33")
    pkcs11_tool(second_token, "--delete-object", "--type", "cert", "--label", "p-256")
    outcome = run("--private-key", second_token.uri("p-256"), environment=second_token.environment)
    outcome.failed(3, "2 private keys match", "id=%03", "id=%33")


def test_two_keys_with_one_label_and_a_certificate(run, second_token):
    """The same two keys beside their certificate: the public key decides, and the run goes on."""
    pkcs11_tool(second_token, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "p-256", "--id", "33")
    outcome = run("--private-key", second_token.uri("p-256"), environment=second_token.environment)
    outcome.failed(6, "Connection refused")


@pytest.mark.rig("emulator")
def test_public_keys_are_not_needed(second_token):
    """Without any public key object, the one key of the right type signs, and the signature proves it."""
    for label in ("rsa-2048", "p-256"):
        pkcs11_tool(second_token, "--delete-object", "--type", "pubkey", "--label", label)
    with running_emulator(second_token.root) as emulator:
        for label in ("rsa-2048", "p-256"):
            rolekey(
                "credential-process",
                *emulator.arguments,
                *("--pkcs11-lib", str(second_token.module), "--intermediates", str(second_token.intermediate)),
                *("--private-key", second_token.uri(label)),
                environment=second_token.environment,
            ).credentials["AccessKeyId"]


def test_a_token_that_shows_nothing_without_login(run, second_token):
    """Another key's certificate, and no public key to see it by: the signature does not verify, nothing is sent."""
    pkcs11_tool(second_token, "--delete-object", "--type", "pubkey", "--label", "p-256")
    other = str(second_token.certificate("always-auth"))
    arguments = ("--certificate", other, "--private-key", second_token.uri("p-256"))
    run(*arguments, environment=second_token.environment).failed(5, "does not belong")
