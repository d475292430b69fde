"""What an answer is the answer to: all that decides whose credentials they are, and no secret."""

import os

import pytest

from rolekey.cache_question import question_of
from rolekey.cached_answer import COMMAND, ENVIRONMENT, TOKEN_ENVIRONMENT, alias_key, stamps, stamps_hold
from rolekey.config import resolve_settings
from rolekey.options import Options
from rolekey.secret import Secret
from support.canaries import canary, found_in, shown_by

ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
PIN, PASSPHRASE = canary("pin"), canary("passphrase")
TOKEN = {"private_key": "pkcs11:token=t;object=o", "certificate": None}


@pytest.fixture
def ask(tmp_path):
    """The question of options, beside a certificate and a key in files."""
    for name in ("certificate", "key"):
        (tmp_path / name).write_text(name)

    def ask(environment=None, words=(COMMAND,), **options):
        files = {"certificate": str(tmp_path / "certificate"), "private_key": str(tmp_path / "key")}
        variables = environment or {}
        return question_of(resolve_settings(Options(**(ARNS | files | options)), variables), words, variables)

    return ask


def test_same(ask):
    """The same settings are the same question, whatever the command line is."""
    one, other = ask(), ask(words=(COMMAND, "--region", "us-east-1"))
    assert one.name == other.name
    assert one.alias != other.alias
    assert one.name.isalnum()


DECISIVE = [
    {"trust_anchor_arn": f"{ARNS['trust_anchor_arn']}2"},
    {"profile_arn": f"{ARNS['profile_arn']}2"},
    {"role_arn": f"{ARNS['role_arn']}2"},
    {"session_duration": 900},
    {"role_session_name": "build"},
    {"endpoint": "https://other.test"},
    {"use_fips_endpoint": True},
    {"use_dualstack_endpoint": True},
    {"verify_tls": False},
    {"require_non_exportable": True},
    TOKEN | {"require_non_exportable": True},
    {"certificate": "pkcs11:object=c"},
    {"private_key": "pkcs11:object=c"},
    TOKEN,
    TOKEN | {"private_key": "pkcs11:token=t;object=o;serial=1"},
    TOKEN | {"private_key": "pkcs11:token=t;object=o?module-name=a"},
    TOKEN | {"private_key": "pkcs11:token=t;object=o?module-path=/a"},
    TOKEN | {"pkcs11_lib": "/a.so"},
    TOKEN | {"pkcs11_init_args": "a"},
    {"private_key": None, "certificate": "pkcs11:token=t;object=o"},
    {"environment": {"AWS_CA_BUNDLE": "/"}},
    {"environment": {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}},
    *(TOKEN | {"environment": {name: "/x"}} for name in TOKEN_ENVIRONMENT),
]


def test_what_decides(ask):
    """ARNs, region, endpoint, duration, session name, certificate, key, module, CA: each makes another question."""
    names = [ask().name, *(ask(**more).name for more in DECISIVE)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "options",
    [
        {"pkcs8_password": Secret(PASSPHRASE)},
        {"timeout": 10.0},
        {"intermediates": "/nowhere"},
        {"environment": {"HOME": "/other", "SOFTHSM2_CONF": "/x", "HTTPS_PROXY": f"http://u:{PIN}@x", "OTHER": "x"}},
    ],
)
def test_what_does_not_decide(options, ask):
    """A passphrase, the time allowed, a proxy, and variables of tokens beside a key in a file do not."""
    assert ask(**options).name == ask().name


@pytest.mark.parametrize(
    "options",
    [
        {"private_key": f"pkcs11:token=t;object=o?pin-value={PIN}"},
        {"private_key": "pkcs11:token=t;object=o?pin-source=file:/a"},
        {"pin_source": "file:/a"},
        {"pin_source": "env:HSM_PIN"},
        {"use_last_try": True},
    ],
)
def test_pins_do_not_decide(options, ask):
    """Nor does a PIN, or where it comes from: whoever can ask the cache can ask the key."""
    assert ask(**(TOKEN | options)).name == ask(**TOKEN).name


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_content_decides(name, ask, tmp_path):
    """A certificate or key with another content makes another question; under another time, the same."""
    before = ask()
    os.utime(tmp_path / name, (1, 1))
    assert ask().name == before.name
    (tmp_path / name).write_text("other")
    assert ask().name != before.name


def test_relative_paths(ask, tmp_path, monkeypatch):
    """A relative path is the file that it leads to from here."""
    bundle = {"environment": {"AWS_CA_BUNDLE": "bundle"}}
    names = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        (tmp_path / name / "bundle").touch()
        names |= {ask(**bundle).name}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["certificate", "key"])
@pytest.mark.parametrize("kind", ["missing", "FIFO", "directory", "device"])
def test_what_is_read_only_once(name, kind, ask, tmp_path):
    """What is no regular file, and may read otherwise the next time, is no question; no pipe is opened."""
    path = tmp_path / name
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    assert ask() is None


def test_files_that_are_read(ask, tmp_path):
    """The stamps are those of certificate, key, intermediates, CA bundle, module and PIN file."""
    expected = [str(tmp_path / "certificate"), str(tmp_path / "key")]
    assert ask().stamps == stamps(expected)
    more = {"intermediates": "/i", "environment": {"AWS_CA_BUNDLE": "/"}}
    assert ask(**more).stamps == stamps([*expected, "/i", "/"])
    uri = "pkcs11:token=t?module-path=/m&pin-source=file:/p"
    found = ask(private_key=uri, certificate=None, pkcs11_lib="/l.so").stamps
    assert set(found.split(b"\0")) == set(stamps(["/m", "/l.so", "/p"]).split(b"\0"))
    assert stamps(["/q"]) in ask(private_key=uri, certificate=None, pin_source="file:/q").stamps
    assert stamps(["/p"]) not in ask(private_key=uri, certificate=None, pin_source="file:/q").stamps
    assert b"/p" not in ask(**(TOKEN | {"private_key": "pkcs11:token=t?pin-source=p"})).stamps


def test_stamps_are_from_before(ask, tmp_path):
    """A file that changes after it was looked at is not as it was: its answer is not taken for the new one's."""
    question = ask()
    assert stamps_hold(question.stamps)
    (tmp_path / "certificate").write_text("other")
    assert not stamps_hold(question.stamps)


def test_alias(ask):
    """The command line is the one of the process, with the variables that matter."""
    environment = {"HOME": "/h", "OTHER": "x"}
    question = ask(words=(COMMAND, "--region", "x"), environment=environment)
    assert question.alias == alias_key((COMMAND, "--region", "x"), environment)
    assert ask(words=("other",)).alias is None
    assert set(TOKEN_ENVIRONMENT) < set(ENVIRONMENT)


def test_no_secret(ask):
    """Nothing that is written or shown of a question holds a PIN, a passphrase or a proxy's password."""
    question = ask(
        private_key=f"pkcs11:token=t;object=o?pin-value={PIN}",
        certificate=f"pkcs11:token=t;object=c?pin-value={PIN}",
        pkcs8_password=Secret(PASSPHRASE),
        words=(COMMAND, "--private-key", f"pkcs11:token=t;object=o?pin-value={PIN}", "--pkcs8-password", PASSPHRASE),
        environment={"HTTPS_PROXY": f"http://u:{PASSPHRASE}@x"},
    )
    assert question.alias is not None
    for way, shown in shown_by(question):
        assert not found_in(shown), way
    assert question.description["private_key"] == "pkcs11:token=t;object=o"
