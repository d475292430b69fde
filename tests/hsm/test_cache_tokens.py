"""Twenty processes at once and one token: one of them uses it, counted by pkcs11-spy over all of them."""

import pytest

from support.emulator import running_emulator
from support.namespaces import as_user, words_for
from support.pkcs11_spy import PKCS11Calls
from support.process import finish, rolekey, start

pytestmark = pytest.mark.rig("softhsm", "pkcs11-spy", "emulator")
NUMBER = 20


@pytest.fixture
def emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as running:
        yield running


class Crowd:
    """Processes that start at once, each in a directory of its own and with a log of its own."""

    def __init__(self, spy, token, emulator, directory) -> None:
        self._spy, self._token, self._directory = spy, token, directory
        self.words = (
            *("credential-process", *emulator.arguments, "--timeout", "50", "--pkcs11-lib", str(spy.module)),
            *("--intermediates", str(token.intermediate)),
            *("--private-key", token.uri("p-256", with_pin=False), "--pin-source"),
        )
        self._logs = []

    def options(self):
        """Of one process."""
        place = self._directory / str(len(self._logs))
        place.mkdir()
        self._logs.append(place / "spy.log")
        return {"directory": place, "environment": self._spy.environment(self._token.module, self._logs[-1])}

    def run(self, source, number=NUMBER):
        """Their outcomes."""
        processes = [start(*self.words, source, **self.options()) for _ in range(number)]
        return [finish(process, 120) for process in processes]

    def count(self, name):
        """How often a function was called, over all logs."""
        return sum(PKCS11Calls.read(log).count[name] for log in self._logs)


@pytest.fixture
def crowd(pkcs11_spy, provisioned_token, emulator, tmp_path):
    return Crowd(pkcs11_spy, provisioned_token, emulator, tmp_path)


def test_empty_cache(crowd, provisioned_token, emulator):
    """On an empty cache they get the same credentials for one CreateSession, one login and one signature."""
    outcomes = crowd.run(f"file:{provisioned_token.pin_file}")
    assert {outcome.credentials["AccessKeyId"] for outcome in outcomes} == set(emulator.granted)
    assert len({outcome.stdout for outcome in outcomes}) == 1
    assert [request["status"] for request in emulator.requests] == [201]
    assert (crowd.count("C_SignInit"), crowd.count("C_Login")) == (1, 1)


def test_wrong_pin(crowd, provisioned_token, emulator, tmp_path):
    """With a wrong PIN they spend one try, and each fails; the corrected PIN is sent once for all of them."""
    pin_file = tmp_path / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text("hunter2-canary")
    for outcome in crowd.run(f"file:{pin_file}"):
        outcome.failed(4, "PIN", str(pin_file))
        assert "hunter2" not in outcome.stderr
    assert (crowd.count("C_Login"), crowd.count("C_SignInit"), emulator.requests) == (1, 0, [])
    pin_file.write_text(provisioned_token.user_pin)
    outcomes = crowd.run(f"file:{pin_file}", 5)
    assert {outcome.credentials["AccessKeyId"] for outcome in outcomes} == set(emulator.granted)
    assert (crowd.count("C_Login"), crowd.count("C_SignInit"), len(emulator.requests)) == (2, 1, 1)


def test_known_answer(crowd, provisioned_token, emulator):
    """Where the answer is known, no module is loaded and no PIN is read: the file with it is not even needed."""
    pin = f"file:{provisioned_token.pin_file}"
    options = crowd.options()
    first = rolekey(*crowd.words, pin, **options)
    calls = crowd.count("C_Initialize")
    again = [rolekey(*crowd.words, pin, **options), rolekey(*crowd.words, "env:NOT_SET", **options)]
    assert first.credentials["AccessKeyId"] in emulator.granted
    assert [outcome.stdout for outcome in again] == [first.stdout] * 2
    assert (calls, crowd.count("C_Initialize"), len(emulator.requests)) == (1, 1, 1)


HOMELESS = {"HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"}
MACHINES = {
    "no home": 'mount -t tmpfs tmpfs /dev/shm; "$@" && "$@"',
    "an unknown user": "mount -t tmpfs -o mode=1777 tmpfs /dev/shm; "
    f'exec {" ".join(as_user(54321))} sh -e -c \'"$@" && "$@"\' sh "$@"',
    "a read-only root": 'mount --bind / /; mount -o remount,bind,ro /; mount -t tmpfs tmpfs /dev/shm; "$@" && "$@"',
}


@pytest.mark.rig("namespace")
@pytest.mark.parametrize("script", MACHINES.values(), ids=MACHINES)
def test_machine_that_lacks_something(script, crowd, provisioned_token, emulator):
    """Without HOME, as an unknown user and on a read-only root a PIN from a file gives credentials, which are kept."""
    options = crowd.options()
    process = start(
        *crowd.words, f"file:{provisioned_token.pin_file}", before=words_for(script), without=HOMELESS, **options
    )
    outcome = finish(process, 120)
    assert (outcome.code, outcome.stderr) == (0, "")
    first, second = outcome.stdout.splitlines()
    assert first == second
    assert len(emulator.requests) == 1


@pytest.mark.rig("namespace")
def test_wrong_pin_on_a_machine_without_a_home(crowd, tmp_path):
    """A wrong PIN is one try there, too."""
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text("hunter2-canary")
    script = 'mount -t tmpfs tmpfs /dev/shm; "$@" 2>/dev/null || "$@"'
    process = start(*crowd.words, f"file:{tmp_path}/pin", before=words_for(script), without=HOMELESS, **crowd.options())
    finish(process, 120).failed(4, "was refused by token")
    assert crowd.count("C_Login") == 1
