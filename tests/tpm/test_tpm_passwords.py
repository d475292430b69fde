"""Passwords of TPM keys: where they come from, that a wrong one is counted once, and that none is overheard."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rolekey.errors import (
    ConfigurationError,
    PinIncorrectError,
    PinLockedError,
    PinNotUsableError,
    PinRequiredError,
    RolekeyError,
    TokenOperationError,
    UnsupportedKeyError,
)
from rolekey.secret import Secret
from support.canaries import found_in
from support.contract_child import ARNS
from support.pki import make_root
from support.process import rolekey
from support.service import ScriptedService, answer
from support.tpm_identity import identity_of, password_file
from support.tpm_keys import SIGNING, TPMKeys
from support.tpm_proxy import CREATE_PRIMARY, SIGN, START_AUTH_SESSION, proxy_of
from support.tss2_files import EMPTY_AUTH, TRUE

HANDLE = 0x81010001
PASSWORD, WRONG = "right", "wrong"


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


@pytest.fixture(autouse=True)
def no_lockout(tpm):
    """Every test finds no wrong password counted, and three that lock."""
    tpm.reset_lockout()
    yield
    tpm.reset_lockout()


@pytest.fixture(scope="module")
def locked_file(keys):
    """A key file with a password."""
    return keys.by_openssl("EC", "group:P-256", password=PASSWORD)


@pytest.fixture(scope="module")
def kept(keys):
    """The same in the TPM."""
    return keys.by_tools(password=PASSWORD, handle=HANDLE)


@pytest.fixture(scope="module")
def run(swtpm):
    """The command with a key, as far as a service that refuses: exit code 7 says that the TPM has signed."""
    arns = [word for name, arn in ARNS.items() for word in (f"--{name.replace('_', '-')}", arn)]
    with ScriptedService((answer(403, b'{"message": "no"}'),)) as service:

        def run(made, *more, environment=None):
            words = [*arns, "--endpoint", service.url, "--tpm-tcti", swtpm.tcti]
            words += ["--certificate", str(made.certificate), "--private-key", made.private_key, *more]
            return rolekey("credential-process", *words, environment=environment)

        yield run


SIGNED = 7


WAYS = {
    "file": lambda directory: (["--pin-source", password_file(directory, WRONG)], {}),
    "env": lambda _: (["--pin-source", "env:TPM_PASSWORD"], {"TPM_PASSWORD": WRONG}),
    "option": lambda _: (["--tpm-key-password", WRONG], {}),
    "none": lambda _: (["--no-tpm-key-password"], {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("origin", ["file", "handle"])
def test_a_wrong_password_counts_once(tpm, locked_file, kept, way, origin, run):
    """Ten runs with a wrong password raise the TPM's counter by exactly one, whatever the password comes from."""
    words, environment = WAYS[way](tpm.directory)
    outcomes = [run(kept if origin == "handle" else locked_file, *words, environment=environment) for _ in range(10)]
    assert tpm.lockout_counter() == 1
    outcomes[0].failed(4, "TPM_RC_AUTH_FAIL (0x98e)", "the TPM has counted that")
    for outcome in outcomes[1:]:
        outcome.failed(4, "tried again" if way == "none" else "it is not sent again", "rolekey pin forget")


def test_ten_at_once_count_once(tpm, locked_file, run):
    """Ten processes at once with a wrong password raise it by exactly one, too."""
    source = password_file(tpm.directory, WRONG)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda _: run(locked_file, "--pin-source", source), range(10)))
    assert {outcome.code for outcome in outcomes} == {4}
    assert tpm.lockout_counter() == 1


def test_a_corrected_password_is_sent(tpm, locked_file, run):
    """The record is of the source as it was: when the file is corrected, the next run signs."""
    source = password_file(tpm.directory, "corrected")
    run(locked_file, "--pin-source", source).failed(4)
    (tpm.directory / "password-corrected").write_text(PASSWORD)
    assert run(locked_file, "--pin-source", source).code == SIGNED


def test_forgetting(kept, run):
    """`rolekey pin forget`, as the error writes it, lets the source be sent once more."""
    run(kept, "--tpm-key-password", WRONG).failed(4)
    outcome = run(kept, "--tpm-key-password", PASSWORD)
    uri = outcome.stderr.rpartition("forget '")[2].partition("'")[0]
    assert rolekey("pin", "forget", uri).stdout == "forgotten: 1\n"
    assert run(kept, "--tpm-key-password", PASSWORD).code == SIGNED


def test_a_file_that_is_wrong_about_its_password(tpm, keys, locked_file, run):
    """A file that says that a key has no password, where it has one, costs one try in ten runs."""
    made = keys.by_tools(password=PASSWORD, fields={EMPTY_AUTH: TRUE})
    for _ in range(10):
        run(made).failed(4, "password")
    assert tpm.lockout_counter() == 1
    assert run(locked_file, "--tpm-key-password", PASSWORD).code == SIGNED


def test_without_a_place_for_the_record(tpm, keys, locked_file, monkeypatch):
    """Where nothing can be noted a key without a password signs, one with a password is not tried, and none twice."""
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "nowhere")
    with identity_of(tpm, keys.by_openssl("EC", "group:P-256")) as identity:
        identity.sign("text")
    with (
        identity_of(tpm, locked_file, tpm_key_password=Secret(PASSWORD)) as identity,
        pytest.raises(PinNotUsableError, match="no record of refused PINs can be kept"),
    ):
        identity.sign("text")
    with identity_of(tpm, locked_file, no_tpm_key_password=True) as identity:
        for _ in range(3):
            with pytest.raises(PinIncorrectError):
                identity.sign("text")
    assert tpm.lockout_counter() == 1


def test_keys_that_do_not_count(tpm, keys, run):
    """A wrong password for a key with noDA is told apart from one that counts, and is not counted."""
    made = keys.by_tools(password=PASSWORD, attributes=f"{SIGNING}|noda")
    outcome = run(made, "--tpm-key-password", WRONG)
    outcome.failed(4, "TPM_RC_BAD_AUTH (0x9a2)", "the TPM does not count that")
    assert tpm.lockout_counter() == 0


def test_lockout_says_when_it_ends(tpm, locked_file, keys, run):
    """A locked TPM is told with the time until it takes a password, before one is sent and when it refuses a key."""
    tpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries", "1", "--recovery-time", "4321")
    try:
        run(locked_file, "--tpm-key-password", WRONG, "--use-last-try").failed(4, "counted")
        outcome = run(locked_file, "--pin-source", password_file(tpm.directory, PASSWORD))
        outcome.failed(4, "the TPM is locked after 1 wrong passwords", "4321 seconds (72 minutes)")
        run(keys.by_openssl("EC", "group:P-256")).failed(4, "TPM_RC_LOCKOUT (0x921)", "4321 seconds")
    finally:
        tpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries", "3", "--recovery-time", "1000")


def test_the_last_try_is_kept(tpm, locked_file, run):
    """Where one more wrong password would lock the TPM, none is sent, unless --use-last-try says so."""
    for number in range(2):
        run(locked_file, "--pin-source", password_file(tpm.directory, f"wrong-{number}")).failed(4, "counted")
    right = password_file(tpm.directory, PASSWORD)
    run(locked_file, "--pin-source", right).failed(4, "would lock the TPM", "--use-last-try")
    assert run(locked_file, "--pin-source", right, "--use-last-try").code == SIGNED
    assert tpm.lockout_counter() == 2


@pytest.mark.parametrize("origin", ["file", "handle"])
def test_nobody_to_ask(locked_file, kept, origin, run):
    """Without a source and without a terminal the error names both ways out."""
    outcome = run(kept if origin == "handle" else locked_file)
    outcome.failed(4, "there is none to be had", "--pin-source", "--no-tpm-key-password")


class Person:
    """Answers a question."""

    def __init__(self, answer):
        self.answer, self.questions = answer, []

    def ask(self, question, _opens):
        self.questions.append(question)
        return Secret(self.answer)

    def remind(self, text):
        """Not expected."""
        raise AssertionError(text)


def test_a_person_is_asked(tpm, locked_file):
    """The question names the key and the role, and the answer opens the key for all signatures."""
    person = Person(PASSWORD)
    with identity_of(tpm, locked_file, interaction=person) as identity:
        identity.sign("first")
        identity.sign("second")
    assert person.questions == [f"Password of the TPM key {locked_file.private_key} for role r: "]


def test_a_person_errs_once(tpm, locked_file):
    """A wrong answer is sent once by a process, however often it tries to sign."""
    with identity_of(tpm, locked_file, interaction=Person(WRONG)) as identity:
        for _ in range(3):
            with pytest.raises(PinIncorrectError):
                identity.sign("text")
    assert tpm.lockout_counter() == 1
    person = Person(PASSWORD)
    identity_of(tpm, locked_file, interaction=person).close()
    assert "(few tries are left)" in person.questions[0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tpm_key_password": Secret("a\nb")}, PinNotUsableError),
        ({"tpm_key_password": Secret("x" * 33)}, PinNotUsableError),
        ({"pin_source": "none"}, PinRequiredError),
        ({"pin_source": "env:NO_SUCH_VARIABLE"}, PinRequiredError),
        ({"tpm_key_password": Secret("")}, PinRequiredError),
    ],
)
def test_what_cannot_be_a_password(tpm, locked_file, options, error):
    """What cannot be a password, or is none, is not sent."""
    with pytest.raises(error):
        identity_of(tpm, locked_file, **options)
    assert tpm.lockout_counter() == 0


def test_a_password_for_a_key_without_one(tpm, keys):
    """A password for a file that says that it has none is refused; --pin-source is not even read."""
    made = keys.by_openssl("EC", "group:P-256")
    with pytest.raises(UnsupportedKeyError, match="emptyAuth"):
        identity_of(tpm, made, tpm_key_password=Secret(PASSWORD))
    with identity_of(tpm, made, pin_source="file:/no/such/file") as identity:
        identity.sign("text")


def test_a_parent_for_a_handle(tpm, kept):
    """A handle has no use for a parent's password."""
    with pytest.raises(ConfigurationError, match="names a handle"):
        identity_of(tpm, kept, tpm_parent_password_source="file:/x", tpm_key_password=Secret(PASSWORD))


def test_a_wrong_password_of_a_parent(tpm, keys, run):
    """A parent's wrong password is named as such, sent once in ten runs, and not held against the key's own."""
    parent = keys.storage_key(0x81000002, "parent")
    made = keys.by_tools(parent=parent, parent_password="parent", password=PASSWORD)
    own = ["--pin-source", password_file(tpm.directory, PASSWORD)]
    wrong = password_file(tpm.directory, WRONG)
    for number in range(10):
        outcome = run(made, *own, "--tpm-parent-password-source", wrong)
        outcome.failed(4, "load the TPM key" if number == 0 else "the parent of the TPM key")
    right = password_file(tpm.directory, "parent")
    assert run(made, *own, "--tpm-parent-password-source", right).code == SIGNED
    assert tpm.lockout_counter() == 0


def test_a_parent_that_has_a_password(tpm, keys, run):
    """Where a parent has a password and none is given, the error names the option."""
    tpm.run("tpm2_changeauth", "--object-context", "owner", "owner")
    try:
        made = keys.by_tools(parent_password="owner")
        for _ in range(2):
            run(made).failed(4, "the parent of the TPM key", "TPM_RC_BAD_AUTH", "--tpm-parent-password-source")
        source = password_file(tpm.directory, "owner")
        assert run(made, "--tpm-parent-password-source", source).code == SIGNED
    finally:
        tpm.run("tpm2_changeauth", "--object-context", "owner", "--object-auth", "owner")


def test_a_parent_that_counts(tpm, keys, run):
    """Where a parent counts wrong passwords, ten runs without its password cost one try, and with it the key signs.

    None of this is held against the key, which has no password.
    """
    parent = keys.storage_key(0x81000005, "parent", counted=True)
    made = keys.by_tools(parent=parent, parent_password="parent")
    for number in range(10):
        run(made).failed(4, "the TPM has counted that" if number == 0 else "which is not tried again", "parent")
    assert tpm.lockout_counter() == 1
    right = password_file(tpm.directory, "parent")
    assert run(made, "--tpm-parent-password-source", right).code == SIGNED
    wrong = password_file(tpm.directory, WRONG)
    for _ in range(3):
        run(made, "--tpm-parent-password-source", wrong, "--use-last-try").failed(4)
    assert tpm.lockout_counter() == 2


@pytest.mark.parametrize("answer", ["right", "wrong"])
def test_no_password_is_overheard(tpm, keys, tmp_path, answer):
    """Whoever listens between rolekey and the TPM hears no password, of the key or of its parent."""
    own, parents = "kAnAr1e-key-kAnAr1e", "kAnAr1e-parent"
    parent = keys.storage_key(0x81000003 if answer == "right" else 0x81000004, parents)
    made = keys.by_tools(parent=parent, parent_password=parents, password=own)
    with proxy_of(tpm, tmp_path) as proxy:
        identity = identity_of(
            tpm,
            made,
            tpm_tcti=str(proxy.path),
            tpm_key_password=Secret(own if answer == "right" else "kAnAr1e-wrong-kAnAr1e"),
            tpm_parent_password_source=password_file(tmp_path, parents),
        )
        try:
            identity.sign("text")
        except RolekeyError:
            assert answer == "wrong"
        assert proxy.commands[SIGN]
        assert len(proxy.overheard) > 1000
        assert not found_in(proxy.overheard)


def test_a_changed_key_for_the_salt(tpm, locked_file, tmp_path):
    """Where the key that is to salt the session is not the one that the TPM names, no password is used."""

    def change(command, ask):
        response = bytearray(ask(command))
        point = response.index(bytes.fromhex("0010 0003 0010 0020")) + 8
        other = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        response[point : point + 32], response[point + 34 : point + 66] = other.x.to_bytes(32), other.y.to_bytes(32)
        return bytes(response)

    with proxy_of(tpm, tmp_path) as proxy:
        proxy.script(CREATE_PRIMARY, change)
        with (
            identity_of(tpm, locked_file, tpm_tcti=str(proxy.path), tpm_key_password=Secret(PASSWORD)) as identity,
            pytest.raises(TokenOperationError),
        ):
            identity.sign("text")
        assert (proxy.commands[START_AUTH_SESSION], proxy.commands[SIGN]) == (0, 0)
    tpm.flush()


def test_a_locked_tpm_asks_nobody(tpm, locked_file, run):
    """Nobody is asked for a password that the TPM would not take."""
    tpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries", "1", "--recovery-time", "100")
    try:
        run(locked_file, "--tpm-key-password", WRONG, "--use-last-try").failed(4)
        person = Person(PASSWORD)
        with pytest.raises(PinLockedError):
            identity_of(tpm, locked_file, interaction=person)
        assert person.questions == []
    finally:
        tpm.run("tpm2_dictionarylockout", "--setup-parameters", "--max-tries", "3", "--recovery-time", "1000")
