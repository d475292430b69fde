"""Named sections and variables: what counts before what, what a section may hold, and whose file is believed."""

import dataclasses
import os
from pathlib import Path

import pytest

from rolekey.cached_answer import ENVIRONMENT
from rolekey.config import Settings, resolve_settings
from rolekey.configuration_file import configuration_path, is_identity_name
from rolekey.configured_options import KEYS, NOT_KEPT
from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pin_source import PinSource
from rolekey.secret import Secret
from support.canaries import canary

ID = "11111111-2222-3333-4444-555555555555"
SECTION = {
    "trust-anchor-arn": f"arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/{ID}",
    "profile-arn": f"arn:aws:rolesanywhere:eu-west-1:123456789012:profile/{ID}",
    "role-arn": "arn:aws:iam::123456789012:role/web",
    "certificate": "/c.pem",
}
PIN = canary("pin")


@pytest.fixture
def resolve(tmp_path):
    """Settings of a section with changes, below options and above variables."""
    path = tmp_path / "config.toml"

    def resolve(section=None, variables=None, name="prod", **options) -> Settings:
        values = SECTION | (section or {})
        lines = [f"{key} = {value!r}" for key, value in values.items() if value is not None]
        path.write_text("# ours\n[prod]\n" + "\n".join(lines).replace("True", "true").replace("False", "false") + "\n")
        environment = {"ROLEKEY_CONFIG": str(path), "HOME": str(tmp_path)} | (variables or {})
        return resolve_settings(Options(**options), environment, name)

    return resolve


@pytest.fixture
def refused(resolve):
    """The error of a section."""

    def refused(*args, **more) -> ConfigurationError:
        with pytest.raises(ConfigurationError) as caught:
            resolve(*args, **more)
        assert caught.value.hint
        return caught.value

    return refused


# A key, what it is written as, and what Settings say then; option, section and variable have different values.
VALUES = [
    ("role-arn", [f"arn:aws:iam::123456789012:role/{name}" for name in ("o", "s", "v")], lambda s: str(s.role_arn)),
    ("session-duration", [900, 1000, 1100], lambda s: s.session_duration),
    ("timeout", [1.5, 2, 3], lambda s: s.timeout),
    ("role-session-name", ["one", "two", "three"], lambda s: s.role_session_name),
    ("endpoint", ["https://o", "https://s", "https://v"], lambda s: str(s.endpoint)),
    ("certificate", ["/o", "/s", "/v"], lambda s: str(s.certificate)),
    ("private-key", ["/o", "/s", "/v"], lambda s: str(s.private_key)),
    ("intermediates", ["/o", "/s", "/v"], lambda s: str(s.intermediates)),
    ("pkcs11-lib", ["/o", "/s", "/v"], lambda s: s.pkcs11_module),
    ("pkcs11-init-args", ["o", "s", "v"], lambda s: s.pkcs11_init_args),
    ("pin-source", ["file:/o", "file:/s", "file:/v"], lambda s: f"file:{s.pin_source.name}"),
    ("tpm-tcti", ["o", "s", "v"], lambda s: s.tpm.tcti),
    (
        "tpm-parent-password-source",
        ["file:/o", "file:/s", "file:/v"],
        lambda s: f"file:{s.tpm.parent_password_source.name}",
    ),
    ("pin-file-group-readable", [True, False, True], lambda s: s.pin_file_group_readable),
    ("require-non-exportable", [True, False, True], lambda s: s.require_non_exportable),
    ("no-tpm-key-password", [True, False, True], lambda s: s.tpm.no_key_password),
    ("use-fips-endpoint", [True, False, True], lambda s: "fips" in s.endpoint.host),
    ("use-dualstack-endpoint", [True, False, True], lambda s: s.endpoint.host.endswith("api.aws")),
]


@pytest.mark.parametrize(("key", "values", "of"), VALUES, ids=[row[0] for row in VALUES])
def test_order(resolve, key, values, of):
    """An option counts before the section, the section before the variable, the variable before the default."""
    option, section, variable = values
    parameter = key.replace("-", "_")
    variables = {f"ROLEKEY_{parameter.upper()}": str(variable).lower() if variable is True else str(variable)}
    assert of(resolve({key: section}, variables, **{parameter: option})) == option
    assert of(resolve({key: section}, variables)) == section
    assert of(resolve({key: None}, variables)) == variable


def test_every_key_is_tried():
    """No key is without its row above, but for those that have one value only; each key is an option."""
    elsewhere = {"cert-selector", "system-store-name", "use-latest-expiring-certificate"}  # test_store_reference.py
    assert {row[0] for row in VALUES} | elsewhere | {"trust-anchor-arn", "profile-arn", "region"} == set(KEYS)
    fields = {field.name for field in dataclasses.fields(Options)} - {"origins", "config_file", "verify_tls"}
    assert {key.replace("-", "_") for key in (*KEYS, *NOT_KEPT)} - {"no_verify_ssl"} == fields


def test_variables_are_part_of_the_question():
    """The fast path knows every variable that counts here."""
    names = {f"ROLEKEY_{key.upper().replace('-', '_')}" for key in KEYS} | {"ROLEKEY_CONFIG"}
    assert {name for name in ENVIRONMENT if name.startswith("ROLEKEY_")} == names


def test_variables_alone(resolve):
    """The variables serve without a name, and the file is not looked at."""
    variables = {f"ROLEKEY_{key.replace('-', '_').upper()}": value for key, value in SECTION.items()}
    settings = resolve_settings(Options(), variables | {"ROLEKEY_CONFIG": "/nowhere"})
    assert settings.config_file is None
    assert settings == dataclasses.replace(resolve(), config_file=None)


def test_the_file_is_noted(resolve, tmp_path):
    """The settings say which file they are from: a cached answer holds as long as it is as it was."""
    assert resolve().config_file == tmp_path / "config.toml"


# --- what opens the key, and where it is, come from one place ---

URI = "pkcs11:token=t;object=o"


@pytest.mark.parametrize("opener", ["pin-source=file:/p", f"pin-value={PIN}"])
def test_pin_of_a_uri(resolve, opener):
    """A PIN, or its source, in an option's URI is not overruled by a section or a variable."""
    settings = resolve(
        {"pin-source": "file:/s"}, {"ROLEKEY_PIN_SOURCE": "file:/v"}, private_key=Secret(f"{URI}?{opener}")
    )
    assert settings.pin_source is None


def test_source_above_a_uri(resolve):
    """A source that is an option counts before the one in the section's URI."""
    settings = resolve({"private-key": f"{URI}?pin-source=file:/s"}, pin_source="file:/o")
    assert settings.pin_source == PinSource("file", "/o")


@pytest.mark.parametrize(
    "options", [{"tpm_key_password": Secret(PIN)}, {"no_tpm_key_password": True}, {"pkcs8_password": Secret(PIN)}]
)
def test_password_above_a_source(resolve, options):
    """With a password on the command line no source from below is used."""
    settings = resolve({"pin-source": "file:/s", "no-tpm-key-password": False}, **options)
    assert settings.pin_source is None


def test_source_beside_a_key(resolve):
    """A key that says nothing of its PIN takes the variable's source."""
    assert resolve({"private-key": URI}, {"ROLEKEY_PIN_SOURCE": "env:P"}).pin_source == PinSource("env", "P")


@pytest.mark.parametrize("attribute", ["module-path=/m", "module-name=m"])
def test_module_of_a_uri(resolve, attribute):
    """A module that a section's URI names is not overruled by a variable, but by an option."""
    section, variables = {"private-key": f"{URI}?{attribute}"}, {"ROLEKEY_PKCS11_LIB": "/v"}
    assert resolve(section, variables).pkcs11_module is None
    assert resolve(section, variables, pkcs11_lib="/o").pkcs11_module == "/o"


# --- paths ---


@pytest.mark.parametrize(
    ("written", "meant"), [("c.pem", "{}/c.pem"), ("sub/c.pem", "{}/sub/c.pem"), ("~/c.pem", "{}/c.pem"), ("/c", "/c")]
)
def test_paths_begin_at_the_file(resolve, tmp_path, monkeypatch, written, meant):
    """A path in a section begins at its file's directory, and ~ is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = meant.format(tmp_path)
    assert str(resolve({"certificate": written}).certificate) == expected
    assert resolve({"pin-source": f"file:{written}"}).pin_source == PinSource("file", expected)


@pytest.mark.parametrize("written", ["pkcs11:object=x", "handle:0x81000001"])
def test_no_paths(resolve, written):
    """URIs and handles are no paths, and neither is a module's bare name."""
    settings = resolve({"private-key": written, "pkcs11-lib": "opensc-pkcs11.so"})
    assert not isinstance(settings.private_key, Path)
    assert settings.pkcs11_module == "opensc-pkcs11.so"


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"ROLEKEY_CONFIG": "/a/b.toml", "HOME": "/h"}, "/a/b.toml"),
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/rolekey/config.toml"),
        ({"XDG_CONFIG_HOME": "x"}, "/h/.config/rolekey/config.toml"),
        ({}, "/h/.config/rolekey/config.toml"),
    ],
)
def test_where_the_file_is(monkeypatch, environment, path):
    """ROLEKEY_CONFIG names the file, else it is in the user's configuration directory."""
    monkeypatch.setenv("HOME", "/h")
    assert configuration_path(environment) == Path(path)


# --- mistakes ---


def test_unknown_identity(refused, tmp_path):
    """A name that is not there is an error that lists those that are."""
    error = refused(name="web")
    assert error.message == f"no identity is named 'web' in {tmp_path}/config.toml"
    assert error.hint == "it has prod; `rolekey configure web` adds one"


def test_no_file(tmp_path):
    """Without a file the error says where it would be, and what makes one."""
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigurationError, match=f"there is none in {path}") as caught:
        resolve_settings(Options(), {"ROLEKEY_CONFIG": str(path)}, "prod")
    assert "rolekey configure prod" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[prod\n", r"at line 1, column \d+"),
        ('[prod]\ncertificate = "C:\\Users"\n', r"at line 2, column \d+"),
        ('[prod]\ncertificate = "C:\\certs"\n', r"at line 2, column \d+"),
        ("[prod]\n[prod]\n", r"at line 2, column \d+"),
        ("[prod]\na = \n", r"at line 2, column \d+"),
    ],
)
def test_no_toml(tmp_path, text, where):
    """An error in the TOML names its line and column; backslashes are what the hint speaks of."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"config.toml is not TOML: .*{where}") as caught:
        resolve_settings(Options(), {"ROLEKEY_CONFIG": str(path)}, "prod")
    assert "backslash" in caught.value.hint


@pytest.mark.parametrize(
    ("section", "message", "hint"),
    [
        ({"role_arn": "x"}, "role_arn in [prod] of {} is no key", "did you mean role-arn?"),
        ({"zzz": 1}, "zzz in [prod] of {} is no key", "the keys are trust-anchor-arn"),
        ({"pkcs8-password": PIN}, "pkcs8-password in [prod] of {} has no place in a file", "--pkcs8-password"),
        ({"tpm-key-password": PIN}, "tpm-key-password in [prod] of {} has no place in a file", "--tpm-key-password"),
        ({"no-verify-ssl": True}, "no-verify-ssl in [prod] of {} has no place in a file", "--no-verify-ssl"),
        ({"use-last-try": True}, "use-last-try in [prod] of {} has no place in a file", "--use-last-try"),
        ({"role-arn": 5}, "role-arn in [prod] of {} is not a text in quotes", "correct"),
        ({"session-duration": "900"}, "session-duration in [prod] of {} is not a whole number", "correct"),
        ({"session-duration": True}, "session-duration in [prod] of {} is not a whole number", "correct"),
        ({"session-duration": 900.0}, "session-duration in [prod] of {} is not a whole number", "correct"),
        ({"timeout": "5"}, "timeout in [prod] of {} is not a number", "correct"),
        ({"use-fips-endpoint": 1}, "use-fips-endpoint in [prod] of {} is not true or false", "correct"),
        ({"private-key": f"{URI}?pin-value={PIN}"}, "private-key in [prod] of {} holds a PIN", "pin-source=file:"),
        ({"role-arn": "web"}, "role-arn in [prod] of {} is not an ARN", "ARN"),
        ({"session-duration": 1}, "session-duration in [prod] of {} is 1 seconds", "900"),
        ({"region": "us-east-1"}, "region in [prod] of {} is us-east-1 and the trust anchor is in", "leave out"),
        ({"pin-source": "x"}, "pin-source in [prod] of {} names no source of a PIN", "file:PATH"),
    ],
)
def test_wrong_values(refused, tmp_path, section, message, hint):
    """A wrong key or value is named with its section and file, without the PIN in it."""
    error = refused(section)
    assert error.message.startswith(message.format(tmp_path / "config.toml"))
    assert hint in error.hint
    assert PIN not in error.message + error.hint


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ROLEKEY_SESSION_DURATION", PIN, "ROLEKEY_SESSION_DURATION is not a whole number"),
        ("ROLEKEY_TIMEOUT", PIN, "ROLEKEY_TIMEOUT is not a number"),
        ("ROLEKEY_USE_FIPS_ENDPOINT", PIN, "ROLEKEY_USE_FIPS_ENDPOINT is not true or false"),
        ("ROLEKEY_REGION", "us-east-1", "ROLEKEY_REGION is us-east-1 and the trust anchor is in eu-west-1"),
    ],
)
def test_wrong_variables(refused, variable, value, message):
    """A wrong variable is called by its name, and its value is not quoted where it cannot be read."""
    error = refused(variables={variable: value})
    assert error.message == message
    assert error.__context__ is None or PIN not in repr(error.__context__)


def test_other_sections_do_not_matter(resolve, tmp_path):
    """A mistake in another section hinders nobody."""
    resolve()
    path = tmp_path / "config.toml"
    path.write_text(path.read_text() + "[other]\nnonsense = 1\n")
    environment = {"ROLEKEY_CONFIG": str(path)}
    assert resolve_settings(Options(), environment, "prod").region == "eu-west-1"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *((name, True) for name in ("a", "prod", "Prod-2_x", "9", "a" * 64)),
        *((name, False) for name in ("", "-a", "_a", "a.b", "a b", "a" * 65, "\u00e9", "true", "False", "1", "0", "t")),
    ],
)
def test_names(name, is_one):
    """A name is made of letters, digits, _ and -; what pflag takes for a boolean's value is none."""
    assert is_identity_name(name) is is_one


# --- whose file it is ---


def test_a_file_that_all_can_write(refused, tmp_path, resolve):
    """A file that every user can write is not believed: it names code to load."""
    resolve()
    (tmp_path / "config.toml").chmod(0o646)
    assert "can be written by every user" in refused().message


@pytest.mark.rig("root")
def test_a_file_of_somebody_else(refused, tmp_path, resolve):
    """A file of another user is not believed."""
    resolve()
    os.chown(tmp_path / "config.toml", 12345, -1)
    assert "belongs to another user" in refused().message


@pytest.mark.parametrize("kind", ["directory", "pipe", "large", "latin-1"])
def test_no_file_of_ours(tmp_path, kind):
    """A directory, a pipe, a huge file and one that is not UTF-8 are refused, and not waited for."""
    path = tmp_path / "config.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"#" * (2 << 20) if kind == "large" else b"# \xe9\n")
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings(Options(), {"ROLEKEY_CONFIG": str(path)}, "prod")
    assert str(path) in caught.value.message
