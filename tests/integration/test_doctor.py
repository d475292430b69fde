"""`rolekey doctor`: what it says of set-ups that work, how it says it, and that it changes and spends nothing."""

import json

import pytest

from support.pki import to_pem
from support.process import rolekey

pytestmark = pytest.mark.rig("emulator")


def test_healthy_key_in_a_file(running, key_options, state_home, runtime_directory):
    """A set-up that works has nothing that failed, and exit code 0; nothing is asked for, and no file is made."""
    done = rolekey("doctor", *running.arguments, *key_options)
    assert done.code == 0, done.stdout
    assert done.stderr == ""
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    assert running.granted == []
    assert not [*state_home.iterdir(), *runtime_directory.iterdir()]


def test_json(running, key_options):
    """--json is one array of objects with the same four texts, whatever happens."""
    for more, code in ((key_options, 0), (["--certificate", "/nowhere"], 1)):
        done = rolekey("doctor", "--json", *running.arguments, *more)
        findings = json.loads(done.stdout)
        assert done.code == code
        assert done.stderr == ""
        assert {tuple(finding) for finding in findings} == {("check", "status", "message", "remedy")}
        assert {finding["status"] for finding in findings} <= {"ok", "warning", "failed", "skipped"}
        assert any(finding["status"] == "failed" for finding in findings) == bool(code)


def test_a_wrong_option():
    """A command line that cannot be understood is a usage error, as everywhere."""
    rolekey("doctor", "--nonsense").failed(2, "--nonsense")


def test_a_chain_in_any_order(root, running, tmp_path):
    """The order of the intermediates, and a root among them, do no harm: what is sent is sorted, and leads there."""
    upper = root.issue_authority(common_name="Upper")
    lower = upper.issue_authority(common_name="Lower")
    certificate, key = lower.issue(common_name="machine").write(tmp_path, "leaf")
    (tmp_path / "chain.pem").write_bytes(to_pem([root.certificate, upper.certificate, lower.certificate]))
    (tmp_path / "root.pem").write_bytes(root.pem)
    done = rolekey(
        *("doctor", *running.arguments, "--certificate", str(certificate), "--private-key", str(key)),
        *("--intermediates", str(tmp_path / "chain.pem"), "--trust-anchor", str(tmp_path / "root.pem")),
    )
    assert done.code == 0, done.stdout
    assert "ok       chain: CN=machine <- CN=Lower <- CN=Upper, up to the issuer CN=Test root" in done.stdout
    assert "ok       trust anchor: the certificate leads to CN=Test root" in done.stdout


def test_sign(running, key_options):
    """--sign signs once and asks once; without it nothing is signed."""
    before = len(running.granted)
    done = rolekey("doctor", "--sign", *running.arguments, *key_options)
    assert done.code == 0, done.stdout
    assert "ok       signature: one signature, and credentials for " in done.stdout
    assert len(running.granted) == before + 1


@pytest.fixture
def aws_config(tmp_path):
    """Writes the SDKs' config file; the variable that names it."""

    def write(text):
        (tmp_path / "aws-config").write_text(text, encoding="utf-8")
        return {"AWS_CONFIG_FILE": str(tmp_path / "aws-config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}

    return write


def test_a_profile_of_the_sdks(running, key_options, aws_config):
    """--profile alone takes the options of its credential_process, and says whose they are; others add to them."""
    line = " ".join(["/bin/true credential-process", *running.arguments, *key_options])
    environment = aws_config(f"[profile web]\ncredential_process = {line} --session-duration 901\n")
    done = rolekey("doctor", "--profile", "web", environment=environment)
    assert done.code == 0, done.stdout
    assert "ok       AWS profile: the credential_process of the profile web starts /bin/true" in done.stdout
    assert "then the credential_process of the profile web (7)" in done.stdout
    assert "session of 901 s" in done.stdout
    done = rolekey("doctor", "--profile", "web", "--session-duration", "902", environment=environment)
    assert "session of 902 s" in done.stdout


def test_an_error_in_the_line_of_a_profile(running, key_options, aws_config):
    """What is wrong with an option of a credential_process is said to be there; the line itself is not quoted."""
    line = " ".join(["/bin/true credential-process", *running.arguments, *key_options, "--region eu-west-9"])
    done = rolekey("doctor", "--profile", "web", environment=aws_config(f"[profile web]\ncredential_process={line}\n"))
    assert done.code == 1
    assert "failed   ARNs: --region in the credential_process of the profile web is eu-west-9" in done.stdout


def test_a_named_identity(running, key_options, aws_config, tmp_path):
    """NAME is a section of the configuration file, and the profile of that name is looked at, too."""
    pairs = [*running.arguments, *key_options]
    section = "".join(f'{name[2:]} = "{value}"\n' for name, value in zip(pairs[::2], pairs[1::2], strict=True))
    (tmp_path / "config.toml").write_text(f"[web]\n{section}", encoding="utf-8")
    environment = aws_config("[profile web]\ncredential_process = /no/rolekey credential-process web\n")
    done = rolekey("doctor", "web", environment=environment | {"ROLEKEY_CONFIG": str(tmp_path / "config.toml")})
    assert done.code == 1
    assert f"then [web] of {tmp_path / 'config.toml'} (6)" in done.stdout
    assert "failed   AWS profile: the credential_process of the profile web starts /no/rolekey" in done.stdout
    assert "ok       clock: " in done.stdout


def test_nothing_is_given():
    """Without anything, doctor says what is missing, and what it could therefore not look at."""
    done = rolekey("doctor")
    assert done.code == 1
    assert "failed   ARNs: --trust-anchor-arn is missing" in done.stdout
    assert "failed   key and certificate: neither --certificate nor --private-key is given" in done.stdout
    assert "skipped  clock: " in done.stdout
