"""No token is locked by a wrong PIN in a file: counted by tokens that lock after three tries.

Nothing answers at the endpoint: a run that was logged in and has signed ends with exit code 6, "Connection refused".
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.card_rig import find_opensc, find_ykcs11
from support.opencryptoki_rig import tries_spent
from support.process import finish, rolekey, start
from support.rig_token import RigToken

TRIES = 3
WRONG = "7654321"
ROLES = ("arn:aws:iam::000000000000:role/first", "arn:aws:iam::000000000000:role/second")


@dataclass(frozen=True)
class Subject:
    """A token, and how many wrong PINs it has counted since the last right one."""

    token: RigToken
    tries_spent: Callable[[], int]

    def words(self, pin_file, role, *more):
        return (
            *("credential-process", "--endpoint", "http://127.0.0.1:1", "--role-arn", role),
            *("--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a"),
            *("--profile-arn", "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p"),
            *("--pkcs11-lib", str(self.token.module), "--private-key", self.token.uri("rsa-2048", with_pin=False)),
            *("--certificate", str(self.token.certificate("rsa-2048")), "--pin-source", f"file:{pin_file}", *more),
            *("--no-cache", "--timeout", "50"),  # ten that wait for one another would meet in the cache
        )

    def run(self, pin_file, *more, role=ROLES[0], environment=None):
        variables = {**self.token.environment, **(environment or {})}
        return rolekey(*self.words(pin_file, role, *more), environment=variables, before=self.token.wrapper)

    def start(self, pin_file, role):
        words = self.words(pin_file, role)
        return start(*words, environment=self.token.environment, before=self.token.wrapper)


@pytest.fixture(
    params=[
        pytest.param("opensc", marks=pytest.mark.rig("virtual-card", "opensc")),
        pytest.param("ykcs11", marks=pytest.mark.rig("virtual-card", "ykcs11")),
        pytest.param("opencryptoki", marks=pytest.mark.rig("opencryptoki")),
    ]
)
def subject(request):
    """A token of each kind that counts, with nothing counted yet."""
    if request.param == "opencryptoki":
        token = request.getfixturevalue("opencryptoki_token")
        found = Subject(token, lambda: tries_spent(token))
    else:
        rig = request.getfixturevalue("virtual_card")
        module = {"opensc": find_opensc, "ykcs11": find_ykcs11}[request.param]()
        assert module is not None, "the rig's probe has seen it"
        found = Subject(rig.token(module), lambda: TRIES - rig.card.tries_left)
    assert found.tries_spent() == 0
    return found


@pytest.fixture
def new_pin_file(tmp_path):
    """Makes files for a PIN that nobody else may read, each with a wrong one in it."""

    def make(name):
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(WRONG)
        return path

    return make


def test_ten_runs_in_a_row(subject, new_pin_file, tmp_path):
    """Ten runs for two roles, in which the runtime directory is lost, spend one try; the corrected file works at once.

    A wrong PIN in another file is another try. All runs share the record of the test.
    """
    pin_file, runtime = new_pin_file("pin"), tmp_path / "runtime"
    runtime.mkdir()

    def run(role):
        return subject.run(pin_file, role=role, environment={"XDG_RUNTIME_DIR": str(runtime)})

    run(ROLES[0]).failed(4, "CKR_PIN_INCORRECT", str(pin_file))
    for number in range(1, 10):
        run(ROLES[number % 2]).failed(4, f"the file {pin_file} was refused", "not sent again")
        if number == 5:
            shutil.rmtree(runtime)
    assert subject.tries_spent() == 1
    assert rolekey("pin", "list").stdout.count("refused") == 1
    pin_file.write_text(subject.token.user_pin)
    for role in ROLES:
        run(role).failed(6, "Connection refused")
    assert subject.tries_spent() == 0
    assert rolekey("pin", "list").stdout == ""
    subject.run(new_pin_file("another")).failed(4, "CKR_PIN_INCORRECT")
    assert subject.tries_spent() == 1


def test_ten_runs_at_once(subject, new_pin_file):
    """Ten that start at once, for two roles, spend one try; a wrong PIN in another file is the second."""
    pin_file = new_pin_file("pin")
    processes = [subject.start(pin_file, ROLES[number % 2]) for number in range(10)]
    outcomes = [finish(process, timeout=120) for process in processes]
    for outcome in outcomes:
        outcome.failed(4)
    assert sum("CKR_PIN_INCORRECT" in outcome.stderr for outcome in outcomes) == 1
    assert subject.tries_spent() == 1
    subject.run(new_pin_file("another")).failed(4, "CKR_PIN_INCORRECT")
    assert subject.tries_spent() == 2


def test_last_try(subject, new_pin_file):
    """Whatever wrong PINs there are, in files of their own and again and again, one try is left for a person.

    The right PIN needs --use-last-try then, and gives all tries back.
    """
    files = [new_pin_file(str(number)) for number in range(4)]
    for count, file in enumerate(files[: TRIES - 1], 1):
        subject.run(file).failed(4, "CKR_PIN_INCORRECT")
        assert subject.tries_spent() == count
    for file in files:
        subject.run(file).failed(4, "one try of the PIN", "is left, and it is not spent", "--use-last-try")
    assert subject.tries_spent() == TRIES - 1
    files[0].write_text(subject.token.user_pin)
    subject.run(files[0], "--use-last-try").failed(6, "Connection refused")
    assert subject.tries_spent() == 0
