"""Options for a certificate store: what they become on Windows, and that they are refused everywhere else."""

from pathlib import Path

import pytest

from rolekey import key_settings
from rolekey.cache_question import question_of
from rolekey.cert_selector import CertificateSelector
from rolekey.cli.configure import options_of_command
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS
from rolekey.config import resolve_settings
from rolekey.configured_options import KEYS, configured_options, with_absolute_paths
from rolekey.errors import ConfigurationError
from rolekey.fetcher import without_questions
from rolekey.options import STORE_OPTIONS, Options
from rolekey.pin_source import PinSource
from rolekey.store_reference import StoreReference

ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
SELECTOR = "Key=x509Subject,Value=CN=a"
SELECTED = CertificateSelector(subject="CN=a")
EVERYTHING = CertificateSelector()


@pytest.fixture
def stores(monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(key_settings, "check_has_stores", lambda _option: None)


@pytest.fixture
def section(tmp_path):
    """Writes a section; returns the environment that leads to it."""

    def section(*lines, **variables):
        path = tmp_path / "config.toml"
        path.write_text("\n".join(["[prod]", *lines]) + "\n")
        return {"ROLEKEY_CONFIG": str(path), "HOME": str(tmp_path)} | variables

    return section


def resolve(environment=None, **options):
    """The settings of options, over the section prod where there is an environment."""
    return resolve_settings(Options(**ARNS, **options), environment or {}, "prod" if environment else None)


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"cert_selector": SELECTOR}, StoreReference(SELECTED, "MY", False)),
        ({"cert_selector": ""}, StoreReference(EVERYTHING, "MY", False)),
        ({"cert_selector": "", "system_store_name": ""}, StoreReference(EVERYTHING, "MY", False)),
        ({"system_store_name": "my"}, StoreReference(EVERYTHING, "MY", False)),
        ({"system_store_name": "ROOT"}, StoreReference(EVERYTHING, "Root", False)),
        ({"system_store_name": "trust"}, StoreReference(EVERYTHING, "Trust", False)),
        ({"system_store_name": "Ca"}, StoreReference(EVERYTHING, "CA", False)),
        ({"system_store_name": "Our own"}, StoreReference(EVERYTHING, "Our own", False)),
        ({"use_latest_expiring_certificate": True}, StoreReference(EVERYTHING, "MY", True)),
        ({"cert_selector": "file:///a/b.json"}, StoreReference(Path("/a/b.json"), "MY", False)),
        ({"cert_selector": "file://C:/b.json"}, StoreReference(Path("C:/b.json"), "MY", False)),
    ],
)
@pytest.mark.usefixtures("stores")
def test_references(options, reference):
    """Each of the three options names the store, and with it certificate and key."""
    settings = resolve(**options)
    assert (settings.store, settings.certificate, settings.private_key) == (reference,) * 3


@pytest.mark.parametrize(
    "options",
    [
        {"cert_selector": SELECTOR},
        {"cert_selector": ""},
        {"cert_selector": "nonsense"},
        {"system_store_name": "MY"},
        {"use_latest_expiring_certificate": True},
        {"use_latest_expiring_certificate": True, "certificate": "/c"},
        {"cert_selector": "", "private_key": "/k"},
    ],
)
def test_not_here(options):
    """Where rolekey reads no certificate stores, the option is refused before anything else of it is looked at."""
    with pytest.raises(ConfigurationError, match=r"^--[a-z-]+ selects from a certificate store, and rolekey") as caught:
        resolve(**options)
    assert "--certificate and --private-key" in caught.value.hint


@pytest.mark.parametrize("key", [name.replace("_", "-") for name in STORE_OPTIONS])
def test_not_here_from_elsewhere(section, key):
    """In a section and in a variable it is refused, too, and called what it is called there."""
    values = {"cert-selector": "''", "system-store-name": "'MY'", "use-latest-expiring-certificate": "true"}
    environment = section(f"{key} = {values[key]}")
    with pytest.raises(ConfigurationError, match=rf"^{key} in \[prod\] of .* selects from a certificate store"):
        resolve(environment)
    variable = f"ROLEKEY_{key.upper().replace('-', '_')}"
    with pytest.raises(ConfigurationError, match=f"^{variable} selects from a certificate store"):
        resolve(section(**{variable: "true" if KEYS[key] == "boolean" else "MY"}))


@pytest.mark.usefixtures("stores")
def test_nothing_is_asked_of_a_store_that_nobody_names():
    """Without any of the options no certificate store is searched; switched off, --use-latest says nothing."""
    for options in ({}, {"use_latest_expiring_certificate": False}, {"system_store_name": ""}):
        with pytest.raises(ConfigurationError, match="neither --certificate nor --private-key"):
            resolve(**options)
    settings = resolve(certificate="/c", use_latest_expiring_certificate=True)
    assert settings.store is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cert_selector": "", "certificate": "/c"}, "--cert-selector and --certificate exclude"),
        ({"system_store_name": "MY", "private_key": "/k"}, "--system-store-name and --private-key exclude"),
        ({"use_latest_expiring_certificate": True, "private_key": "/k"}, "expiring-certificate and --private-key"),
        ({"cert_selector": "Key=x509Serial,Value=0x1"}, "^--cert-selector: the serial number"),
        ({"system_store_name": r"\\server\MY"}, "^--system-store-name is not one of a store of this computer"),
        ({"system_store_name": "M\0Y"}, "^--system-store-name is not one"),
        ({"cert_selector": "", "pin_source": "env:PIN"}, "^--pin-source is for a key in a token or a TPM"),
    ],
)
@pytest.mark.usefixtures("stores")
def test_refused(options, says):
    """Contradictions, and what cannot be read, are refused before a store is opened."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        resolve(**options)
    assert caught.value.hint


# --- from several places ---


@pytest.mark.usefixtures("stores")
def test_an_option_names_another_key(section):
    """Where the key is comes from one place: an option in place of a section's store, and the other way round."""
    in_section = section('cert-selector = ""', 'system-store-name = "CA"', "use-latest-expiring-certificate = true")
    assert resolve(in_section).store == StoreReference(EVERYTHING, "CA", True)
    assert resolve(in_section, private_key="/k").private_key == Path("/k")
    assert resolve(in_section, cert_selector=SELECTOR).store == StoreReference(SELECTED, "CA", True)
    assert resolve(in_section, use_latest_expiring_certificate=False).store == StoreReference(EVERYTHING, "CA", False)
    in_files = section('certificate = "/c"', 'private-key = "/k"')
    assert resolve(in_files, cert_selector="").store == StoreReference(EVERYTHING, "MY", False)
    assert resolve(in_files, system_store_name="MY").store == StoreReference(EVERYTHING, "MY", False)
    with pytest.raises(ConfigurationError, match=r"and private-key in \[prod\] .* exclude each other"):
        resolve(in_files, use_latest_expiring_certificate=True)


def test_an_empty_selector_counts(section):
    """A selector that is empty is one, and not left to the section."""
    environment = section(f'cert-selector = "{SELECTOR}"')
    assert configured_options(Options(cert_selector=""), environment, "prod").cert_selector == ""
    assert configured_options(Options(), environment, "prod").cert_selector == SELECTOR


@pytest.mark.usefixtures("stores")
def test_paths(section, tmp_path):
    """A selector's file begins at the configuration file's directory, and is kept with its whole path."""
    environment = section('cert-selector = "file://selectors/a.json"')
    assert resolve(environment).store.selector == tmp_path / "selectors" / "a.json"
    kept = with_absolute_paths({"cert-selector": "file://a.json", "system-store-name": "a.json"})
    assert kept == {"cert-selector": f"file://{Path.cwd()}/a.json", "system-store-name": "a.json"}
    assert with_absolute_paths({"cert-selector": SELECTOR}) == {"cert-selector": SELECTOR}


@pytest.mark.parametrize("selector", ["", SELECTOR])
def test_configure_keeps_them(selector):
    """The three options become keys of a section, an empty selector among them."""
    values = {flag.parameter: None for flag in (*HELPER_FLAGS, *OWN_FLAGS)}
    given = {"cert_selector": selector, "system_store_name": "CA", "use_latest_expiring_certificate": True}
    kept = options_of_command(values | given)
    assert kept == {name.replace("_", "-"): value for name, value in given.items()}


# --- the cache, and who is asked ---


@pytest.mark.usefixtures("stores")
def test_questions(tmp_path):
    """Whatever selects another certificate is another question; the same selector, written otherwise, is the same."""
    path = tmp_path / "a.json"
    path.write_text("[]")

    def name(**options):
        return question_of(resolve(**options), ("credential-process",), {}).name

    others = [
        {"cert_selector": ""},
        {"cert_selector": SELECTOR},
        {"cert_selector": "Key=x509Issuer,Value=CN=a"},
        {"cert_selector": "Key=x509Serial,Value=1"},
        {"cert_selector": f"{SELECTOR} Key=x509Serial,Value=1"},
        {"cert_selector": "", "system_store_name": "CA"},
        {"cert_selector": "", "use_latest_expiring_certificate": True},
        {"cert_selector": f"file://{path}"},
        {"cert_selector": "", "require_non_exportable": True},
        {"certificate": str(path), "private_key": str(path)},
    ]
    names = [name(**options) for options in others]
    assert len(set(names)) == len(names)
    assert name(system_store_name="my") == names[0]
    assert name(cert_selector=f"\tKey=x509Serial,Value=001 {SELECTOR} ") == names[4]
    path.write_text('[{"Key": "x509Subject", "Value": "CN=a"}]')
    assert name(cert_selector=f"file://{path}") != names[7]


@pytest.mark.usefixtures("stores")
def test_a_selector_file_is_stamped(tmp_path):
    """An answer is not found again after the selector's file has changed; without the file there is no question."""
    path = tmp_path / "a.json"
    path.write_text("[]")
    options = {"cert_selector": f"file://{path}"}
    assert str(path).encode() in question_of(resolve(**options), ("credential-process",), {}).stamps
    path.unlink()
    assert question_of(resolve(**options), ("credential-process",), {}) is None


@pytest.mark.usefixtures("stores")
def test_a_program_in_which_nobody_is_asked():
    """There no provider asks in a window; what is said of other keys stays as it is."""
    settings = resolve(cert_selector="")
    assert without_questions(settings).pin_source == PinSource("none")
    assert without_questions(settings).store == settings.store
    others = resolve(certificate="/c", private_key="/k")
    assert without_questions(others) is others
