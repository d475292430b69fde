"""What users of Windows give rolekey, well or badly: paths, line ends, encodings; each error is a line and a hint."""

import json
import re
import shutil

import pytest

# What has no place in a message on Windows.
_FOREIGN = re.compile(r"chmod|/dev|/proc|Traceback|internal error", re.IGNORECASE)


@pytest.fixture
def place(key_options, tmp_path):
    """A directory with a space and an umlaut in its name, in which certificate and key lie as leaf.pem and leaf.key."""
    directory = tmp_path / "Schlüssel und Zertifikate"
    directory.mkdir()
    for source, name in ((key_options[1], "leaf.pem"), (key_options[3], "leaf.key")):
        shutil.copy(source, directory / name)
    return directory


def check_refusal(words, outcome, code):
    """The error of a command line that ended with one, and a hint; nothing in them is another system's."""
    ended, output, errors = outcome
    assert (ended, output) == (code, ""), (words, outcome)
    assert not _FOREIGN.search(errors), (words, errors)
    found = re.fullmatch("rolekey: error: (.+)\nrolekey: hint: (.+)\n", errors)
    assert found, (words, errors)
    return found[1]


def convert(path, change):
    path.write_bytes(change(path.read_bytes()))


# The directory in backslashes, from the root, comes in at the mark.
FORMS = {
    "spaces and umlauts": "Z:{}\\",
    "relative to the directory": "",
    "a long path": "\\\\?\\Z:{}\\",
    "a UNC path": "\\\\?\\unix{}\\",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_path(form, windows, emulator, place):
    """Certificate and key are found under every form of path that Windows has."""
    start = form.format(str(place).replace("/", "\\"))
    key = ("--certificate", start + "leaf.pem", "--private-key", start + "leaf.key")
    done = windows.run("rolekey", "credential-process", *emulator.arguments, *key, directory=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(done.stdout)["AccessKeyId"]] == emulator.granted


ENCODINGS = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "a UTF-8 byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16, as PowerShell's > writes it": lambda data: data.replace(b"\n", b"\r\n").decode().encode("utf-16"),
    "UTF-16 of the other order": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
def test_an_encoding(encoding, windows, emulator, place):
    """PEM files are read in whatever encoding the shells and editors of Windows write text."""
    for name in ("leaf.pem", "leaf.key"):
        convert(place / name, encoding)
    key = ("--certificate", place / "leaf.pem", "--private-key", place / "leaf.key")
    done = windows.run("rolekey", "credential-process", *emulator.arguments, *key)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(done.stdout)["AccessKeyId"]] == emulator.granted


TOKEN = ("--private-key", "pkcs11:token=x")
FAULTS = (
    (["--certificate", r"C:\no\leaf.pem"], 5, r"cannot read the certificate C:\no\leaf.pem: No such file"),
    (["--certificate", r"\\no-server\share\leaf.pem"], 5, r"cannot read the certificate \\no-server\share\leaf.pem"),
    (["--private-key", r"C:\no\leaf.key"], 3, r"cannot read the private key file C:\no\leaf.key: No such file"),
    (["--private-key", r"C:\windows"], 3, r"cannot read the private key file C:\windows: Is a directory"),
    (["--private-key", "C:leaf.key"], 2, "--private-key is a Windows path without a directory after its drive"),
    (["--certificate", "D:leaf.pem"], 2, "--certificate is a Windows path without a directory after its drive"),
    (["--private-key", "handle:0x81000001"], 2, "the key is in a TPM"),
    (["--private-key", "pkcs11:token=x", "--pkcs11-lib", r"C:\no.dll"], 3, r"C:\no.dll"),
    (["--certificate", "'leaf.pem'"], 2, "--certificate is in single quotes"),
    (["--certificate", r"C:\windows"], 5, r"cannot read the certificate C:\windows: Is a directory"),
    (["--pin-source", "file:C:pin", *TOKEN], 2, "--pin-source is a Windows path without a directory after its drive"),
    (["--pkcs11-lib", r"\\.\pipe\x", "--private-key", "pkcs11:token=x"], 3, r"\\.\pipe\x"),
    (["--endpoint", "http://127.0.0.1:9"], 6, "127.0.0.1"),
    (["--nonsense"], 2, "No such option '--nonsense'"),
    # Neither variables nor ~ nor patterns are put into a value.
    (
        ["--private-key", "pkcs11:object=%TEMP%"],
        2,
        "the PKCS#11 URI has a '%' without two hexadecimal digits in object",
    ),
    (["--private-key", "~/leaf.key"], 3, r"cannot read the private key file ~\leaf.key: No such file"),
    (["--private-key", r"C:\windows\*.ini"], 3, r"cannot read the private key file C:\windows\*.ini: "),
)


def test_a_fault(windows, emulator, windows_key, tmp_path):
    """What is wrong is said in an error and a hint, with the exit code that it has everywhere."""
    lines = [["credential-process", *emulator.arguments, *windows_key, *words] for words, _, _ in FAULTS]
    for (words, code, text), outcome in zip(FAULTS, windows.run_lines(lines, tmp_path / "lines"), strict=True):
        error = check_refusal(words, outcome, code)
        assert text in error, (words, error)


COMMANDS = (
    (["update", "--once", "--role-arn", "x"], 2),
    (["serve", "--port", "99999"], 2),
    (["login"], 2),
    (["configure"], 2),
    (["configure", "web", "--from-aws-config", "nowhere"], 2),
    (["key", "list", "--pkcs11-lib", r"C:\no.dll"], 3),
    (["key", "csr", r"C:\no.key", "--subject", "CN=x", "--out", "-"], 3),
    (["key", "inspect", r"C:\no.key"], 3),
    (["emulator", "--ca", r"C:\no.pem"], 2),
    (["sign-string", "--certificate", r"C:\no.pem"], 5),
    (["read-certificate-data", "--certificate", r"C:\no.pem"], 5),
    (["trust-policy"], 2),
    (["exec", "--", "x"], 2),
    (["exec", "x"], 2),
)


def test_a_command(windows, tmp_path):
    """Each command ends in its own error with the exit code that it has everywhere, in a line and a hint."""
    outcomes = windows.run_lines([words for words, _ in COMMANDS], tmp_path / "lines")
    for (words, code), outcome in zip(COMMANDS, outcomes, strict=True):
        check_refusal(words, outcome, code)


def test_doctor_of_nobody(windows, tmp_path):
    """Doctor says of a name that no identity has what is wrong, and what of Windows would help."""
    ((code, output, errors),) = windows.run_lines([["doctor", "nobody"]], tmp_path / "lines")
    assert (code, errors) == (1, "")
    assert "no identity is named 'nobody'" in output
    assert not _FOREIGN.search(output)
