"""docs/doctor.md: what `rolekey doctor` says of broken set-ups, each made here; this run says the same."""

import json
import re
import tempfile
from contextlib import ExitStack

import pytest

from support.broken_setups import BROKEN, Bench
from support.emulator import running_emulator
from support.page_table import PageTable
from support.pki import make_root
from support.process import rolekey

TABLE = PageTable("doctor.md", "broken", ("check", "what doctor says"))
pytestmark = pytest.mark.rig("emulator", "softhsm", "shim", "virtual-card", "opensc", "swtpm", "openssl", "namespace")


@pytest.fixture(scope="module")
def diagnose(provisioned_token, pkcs11_shim, pcscd, swtpm, tmp_path_factory):
    """Makes a set-up, once in this run, and returns the exit code and the findings of `rolekey doctor`."""
    known = {}
    root = make_root()
    certificate, _ = root.write(tmp_path_factory.mktemp("ca"), "root")
    with running_emulator(certificate) as emulator:

        def diagnose(setup):
            if setup.name not in known:
                with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="setup-") as name:
                    directory = tmp_path_factory.mktemp("setup")
                    bench = Bench(directory, root, emulator, provisioned_token, pkcs11_shim, pcscd, swtpm, stack)
                    run = setup.make(bench)
                    own = {"XDG_RUNTIME_DIR": name, "XDG_STATE_HOME": f"{directory}"}
                    done = rolekey(
                        "doctor", "--json", *run.words, environment={**own, **run.environment}, before=run.before
                    )
                    assert done.stderr == ""
                    assert "canary" not in done.stdout
                    known[setup.name] = (done.code, json.loads(done.stdout), str(directory))
            return known[setup.name]

        yield diagnose


@pytest.mark.parametrize("setup", BROKEN, ids=lambda setup: setup.name)
def test_the_cause_is_named(diagnose, setup):
    """The line of one check names the cause and the remedy, and nothing else is said to have failed."""
    code, findings, _ = diagnose(setup)
    told = [finding for finding in findings if finding["status"] in ("failed", "warning")]
    mine = [finding for finding in told if finding["check"] == setup.check]
    assert [finding["status"] for finding in mine] == [setup.status], told
    assert setup.says in mine[0]["message"]
    assert mine[0]["remedy"]
    others = [(finding["check"], finding["status"]) for finding in told if finding not in mine]
    assert others == [(check, "warning") for check in setup.beside]
    assert code == (1 if setup.status == "failed" else 0)


def test_the_table_of_the_page(diagnose, request):
    """Every line of the page's table is what happened in this run; there are at least 25."""
    assert len(BROKEN) >= 25
    rows = {}
    for setup in BROKEN:
        _, findings, directory = diagnose(setup)
        told = next(
            finding for finding in findings if (finding["check"], finding["status"]) == (setup.check, setup.status)
        )
        said = f"{told['message']} *{told['remedy']}*"
        rows[setup.name] = {"check": f"{told['check']}: {told['status']}", "what doctor says": settled(said, directory)}
    TABLE.check(rows, write=request.config.getoption("--write-module-table"))


def settled(text, directory):
    """A line without what is another one in each run."""
    text = text.replace(directory, "DIRECTORY")
    for pattern, word in (
        (r"/tmp/\S*?/(?=[\w.-]+)", ""),
        (r"/dev/pts/\d+", "/dev/tpmrm0"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z| UTC)", "DATE"),
        (r"(?<=has no address: ).*?(?= \*)", "REASON"),
        (r"(?<=to the group )\w+", "GROUP"),
        (r"127\.0\.0\.1:\d+", "HOST:PORT"),
        (r"\b\d+ s (?=ahead|behind)", "3600 s "),
        (r"serial([ =])[0-9a-f]{16}", r"serial\1SERIAL"),
        (r"request id [0-9a-f-]+", "request id ID"),
        (r"/usr/lib\S*/", ""),
        (r"(x86-64|AArch64) \(64 bit\)", "x86-64 (64 bit)"),
        (r"\|", "\\\\|"),
    ):
        text = re.sub(pattern, word, text)
    return text
