"""The answer that is known: which command line it belongs to, when it still holds, and which files are believed."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rolekey import cached_answer
from rolekey.cached_answer import (
    ALIAS_FIELDS,
    COMMAND,
    ENTRY_FIELDS,
    ENVIRONMENT,
    SECRET_OPTIONS,
    alias_key,
    alias_name,
    cache_directory,
    find_answer,
    is_fresh,
    is_private_directory,
    pack,
    read_file,
    seconds_left,
    stamps,
    stamps_hold,
    times,
    unpack,
)
from rolekey.cli.flag_table import SECRET_FLAGS
from rolekey.config import CA_BUNDLE_VARIABLES, resolve_settings
from rolekey.options import Options
from support.canaries import canary, found_in

NOON = 1_800_000_000
PIN = canary("pin")
URI = "pkcs11:token=t;object=o"

# --- where ---


@pytest.mark.parametrize(
    ("system", "environment", "directory"),
    [
        ("linux", {"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/rolekey"),
        ("linux", {"XDG_RUNTIME_DIR": "run"}, None),
        ("linux", {"XDG_RUNTIME_DIR": ""}, f"/dev/shm/rolekey-{os.geteuid()}"),
        ("linux", {"HOME": "/home/me"}, f"/dev/shm/rolekey-{os.geteuid()}"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/rolekey"),
        ("darwin", {"HOME": "me"}, None),
        ("darwin", {}, None),
        ("win32", {"LOCALAPPDATA": "C:\\Users\\me\\AppData\\Local"}, "C:\\Users\\me\\AppData\\Local\\rolekey-cache"),
        ("win32", {}, None),
    ],
)
def test_directory(system, environment, directory, monkeypatch):
    """The runtime directory, else a tmpfs, else the user's cache directory; where there is none, there is no cache."""
    monkeypatch.setattr(sys, "platform", system)
    assert cache_directory(environment) == directory


@pytest.mark.parametrize("mode", [0o700, 0o500, 0o600])
def test_private_directory(mode, tmp_path):
    """A directory that only its owner can look into is one to be trusted."""
    tmp_path.chmod(mode)
    assert is_private_directory(str(tmp_path))
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770, 0o777, 0o701, 0o710, 0o720, 0o1777])
def test_open_directory(mode, tmp_path):
    """One that others can look into, or enter, or write to, is none."""
    tmp_path.chmod(mode)
    assert not is_private_directory(str(tmp_path))


@pytest.mark.parametrize("kind", ["missing", "file", "link", "fifo"])
def test_no_directory(kind, tmp_path):
    """Nor is a file, a symbolic link to a good directory, or what is not there."""
    path = tmp_path / "place"
    (tmp_path / "good").mkdir(mode=0o700)
    make = {"file": path.touch, "link": lambda: path.symlink_to(tmp_path / "good"), "fifo": lambda: os.mkfifo(path)}
    make.get(kind, lambda: None)()
    assert not is_private_directory(str(path))


@pytest.mark.rig("root")
def test_foreign_directory(tmp_path):
    """Nor is somebody else's."""
    os.chown(tmp_path, 1, 1)
    assert not is_private_directory(str(tmp_path))


# --- which command line ---


def key(*words: str, environment: Mapping[str, str] | None = None) -> bytes | None:
    """What a credential-process with these words depends on."""
    return alias_key([COMMAND, *words], environment or {})


def test_secret_options_are_the_commands():
    """Every option of the command whose value is a secret is known here."""
    assert set(SECRET_OPTIONS) == set(SECRET_FLAGS)


@pytest.mark.parametrize("words", [[], ["version"], ["cache", "list"], ["--help"], ["credential-proces"], [""]])
def test_other_commands(words):
    """No other command has an answer that is known."""
    assert alias_key(words, {}) is None


@pytest.mark.parametrize(
    "word", ["--no-cache", "--no-cache=true", "--no-cache=false", "--debug", "--debug=false", "--help", "-h"]
)
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_never_from_the_cache(word, place):
    """--no-cache, --debug and --help, wherever they stand and whatever they say, are for the command itself."""
    words = ["--region", "eu-west-1", "--role-arn=r", "--reuse-pin"]
    assert key(*words) is not None
    assert key(*words[:place], word, *words[place:]) is None


@pytest.mark.parametrize("option", SECRET_OPTIONS)
def test_secrets_do_not_count(option):
    """The value of a secret option is in neither key nor name; that there is one, is."""
    keys = {key("--region", "x", option, value) for value in ("one", "two", "--region", "")}
    keys |= {key("--region", "x", f"{option}={value}") for value in ("one", "a=b", "")}
    (only,) = keys
    assert only != key("--region", "x")
    assert only is not None
    assert b"one" not in only


def test_a_secret_that_looks_like_an_option():
    """The word after a secret option is its value, whatever it looks like; the one after that counts."""
    assert key("--pkcs8-password", "--debug", "--region", "x") == key("--pkcs8-password=y", "--region", "x")
    assert key("--pkcs8-password", "--pkcs8-password", "x") != key("--pkcs8-password", "--pkcs8-password", "y")


def test_what_counts(tmp_path, monkeypatch):
    """Every word, their order, the working directory, the user and each variable of the list count; no other does."""
    keys = {key("a", "b"), key("b", "a"), key("ab"), key("a", "b", ""), key("a", "", "b"), key("a"), key()}
    for name in ENVIRONMENT:
        keys |= {key("a", environment={name: value}) for value in ("", "one", "two")}
    assert key("a", environment={"OTHER": "x", "HTTPS_PROXY": "y", "HSM_PIN": "z"}) in keys
    number = len(keys)
    assert number == 7 + 3 * len(ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    keys |= {key("a")}
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    keys |= {key("a")}
    assert len(keys) == number + 2
    assert None not in keys


def test_no_working_directory(tmp_path, monkeypatch):
    """In a directory that is gone there is no answer that is known."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert key() is None


class Recorded(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        super().__init__(values or {})
        self.asked: set[str] = set()

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        """As the dictionary's."""
        self.asked.add(name)
        return super().get(name, default)


def test_every_variable_of_the_settings_counts():
    """What the settings are made from, besides the proxy, is part of the key."""
    environment = Recorded()
    arn = "arn:aws:rolesanywhere:us-east-1:000000000000:"
    names = {"trust_anchor_arn": f"{arn}trust-anchor/a", "profile_arn": f"{arn}profile/p"}
    resolve_settings(
        Options(**names, role_arn="arn:aws:iam::000000000000:role/r", private_key="k", certificate="c"), environment
    )
    proxies = {name for name in environment.asked if name.lower().endswith("_proxy")}
    assert len(environment.asked - proxies) > 5
    assert environment.asked - proxies <= set(ENVIRONMENT)
    assert set(CA_BUNDLE_VARIABLES) <= set(ENVIRONMENT)


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12).filter(
    lambda word: (
        word.partition("=")[0] not in (*SECRET_OPTIONS, "--no-cache", "--debug", "--help", "-h")
        and "pkcs11:" not in word
        and "pin" not in word.lower()
    )
)
WORDS = st.lists(WORD | st.sampled_from(["", "=", "--region", "/", str(Path.cwd()), str(os.geteuid()), "HOME=x"]))
VARIABLES = st.dictionaries(st.sampled_from(ENVIRONMENT), WORD.filter(lambda word: "@" not in word))


@given(WORDS, VARIABLES, WORDS, VARIABLES)
def test_different_questions_have_different_keys(words, variables, other_words, other_variables):
    """No two command lines, in no two environments, have one key."""
    same = (words, variables) == (other_words, other_variables)
    assert (key(*words, environment=variables) == key(*other_words, environment=other_variables)) is same


# --- PINs ---


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        (f"{URI}?pin-value={PIN}", f"{URI}?"),
        (f"{URI}?pin-value={PIN}?", f"{URI}?"),
        (f"{URI}?pin-value={PIN}=a", f"{URI}?"),
        (f"--private-key={URI}?pin-value={PIN}&module-path=/x", f"--private-key={URI}?&module-path=/x"),
        (f"{URI}?module-name=a&pin-value={PIN}", f"{URI}?module-name=a&"),
        (f"{URI}?pin-source=file:/a&module-name=b", None),
        (URI, None),
        ("file?name", None),
        ("/a/pinned?b&c", None),
    ],
)
def test_pin_is_cut_out(word, shown):
    """A PIN is cut out of the URI; everything else stays."""
    found = key("--private-key", word)
    assert found is not None
    assert f"\0{shown or word}\0".encode() in found
    assert not found_in(found)


@pytest.mark.parametrize(
    "word",
    [
        f"{URI}?PIN-VALUE={PIN}",
        f"{URI}?pin%2Dvalue={PIN}",
        f"{URI}?pin%2dvalue={PIN}",
        f"{URI}?pin_value={PIN}",
        f"{URI}?Pin-Value={PIN}",
        f"{URI}?pin-valu={PIN}",
        f"{URI}?pin-source=file:/x&pin={PIN}",
        f"{URI}?{PIN}",
        f"{URI}?pin-value=a&{PIN}",
        f"{URI}?pin-value=a&b={PIN}",
        f"{URI}?pin-source=file:/x;pin-value={PIN}",
        f"{URI};pin-value={PIN}",
        f"{URI};pin_value={PIN}",
        f"pin-value={PIN}",
        f"file?pin-value={PIN}",
        f"PKCS11:token=t?pin-value={PIN}",
    ],
)
def test_pin_that_may_be_anywhere(word):
    """A command line that may hold a PIN in another spelling or place has no key, and so is written nowhere."""
    assert key("--private-key", word) is None
    assert key(f"--private-key={word}") is None


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(["pin-value", "PIN-VALUE", "pin_value", "pin%2Dvalue", "pin-valeu", "x-pin", "pin-source"]),
    st.text("&?;=%#pin-value", max_size=6),
)
@example("", "pin-source", "&pin-value=")
@example("?", "pin-value", "?")
def test_no_pin_gets_into_a_key(before, name, after):
    """Whatever stands around it, no PIN that a pin-value may hold gets into a key."""
    found = key("--certificate", f"{URI}{before}?{name}={after}pin-value={PIN}")
    assert found is None or not found_in(found)


def test_password_in_an_endpoint():
    """An endpoint's variable with user information, which --endpoint may overrule, is written nowhere."""
    assert key(environment={"AWS_ENDPOINT_URL_ROLESANYWHERE": f"https://me:{PIN}@host"}) is None


# --- the format ---


@given(st.lists(st.binary(max_size=40)))
def test_packed(fields):
    """What was packed is unpacked, and a file with another number of fields is none."""
    assert unpack(pack(*fields), len(fields)) == fields
    assert unpack(pack(*fields), len(fields) + 1) is None


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """A content that is not the one given."""
    kind = draw(st.sampled_from(["flip", "cut", "extend", "drop", "insert", "other", "double", "zeros"]))
    at = draw(st.integers(0, len(content) - 1))
    some = draw(st.binary(min_size=1, max_size=64))
    changed = {
        "flip": lambda: content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :],
        "cut": lambda: content[:at],
        "extend": lambda: content + some,
        "drop": lambda: content[:at] + content[at + len(some) :],
        "insert": lambda: content[:at] + some + content[at:],
        "other": lambda: some,
        "double": lambda: content * 2,
        "zeros": lambda: content[:at] + bytes(len(content) - at),
    }[kind]()
    return changed if changed != content else b""


PACKED = pack(b"%d %d" % (NOON, NOON + 3600), b"answer\n", b"{}", b"name")


@given(mutations(PACKED))
def test_changed_in_any_way(content):
    """A file that was cut, extended or changed anywhere is none."""
    assert unpack(content, ENTRY_FIELDS) is None


@pytest.mark.parametrize("lengths", [b"-1", b"+1", b" 0x1", b"1_0", b"a", b"\xb2", b"9" * 5000, b"1 2", b""])
def test_lengths_that_are_none(lengths):
    """Nor is a file with the right checksum and lengths that are no numbers or not its own."""
    body = lengths + b"\nx"
    assert unpack(b"rolekey-cache-1 %08x " % crc32(body) + body, 1) is None
    assert unpack(b"rolekey-cache-1 %08x " % crc32(b"1\nx") + b"1\nx", 1) == [b"x"]


@pytest.mark.parametrize("content", [None, b"", b"rolekey-cache-1", b"rolekey-cache-2" + PACKED[15:], b"\n" * 100])
def test_no_file(content):
    """Nor is nothing, a beginning, or the file of another version."""
    assert unpack(content, ENTRY_FIELDS) is None


# --- how long ---


@pytest.mark.parametrize(
    ("life", "left", "fresh"),
    [
        (3600, 3600, True),
        (3600, 901, True),
        (3600, 900, False),
        (43200, 901, True),
        (43200, 900, False),
        (1800, 901, True),
        (1800, 900, False),
        (900, 451, True),
        (900, 450, False),
        (60, 31, True),
        (60, 30, False),
        (3600, 0, False),
        (3600, -5, False),
    ],
)
def test_fresh(life, left, fresh):
    """Credentials are used while a quarter of an hour is left, or half of a life that is shorter than half an hour."""
    field = b"%d %d" % (NOON, NOON + life)
    assert is_fresh(field, NOON + life - left) is fresh
    assert seconds_left(field, NOON + life - left) == max(0, left)


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"1",
        b"1 2 3",
        b"a b",
        b"-1 %d" % (NOON + 9999),
        b"1.5 %d" % (NOON + 9999),
        b"%d %d" % (NOON + 1, NOON + 3600),
        b"%d %d" % (NOON + 86400, NOON + 90000),
        b"0 " + b"9" * 5000,
        b"0 " + b"9" * 13,
        b"\xb2 \xb2",
    ],
)
def test_times_that_are_none(field):
    """What was obtained in the future, or at no time at all, is not used."""
    assert not is_fresh(field, NOON)
    assert seconds_left(field, NOON) == 0
    assert times(b"12 34") == (12, 34)


# --- files ---


@pytest.fixture
def private(tmp_path):
    """A file that is only its owner's."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


def test_file(private):
    """A private file's content is read."""
    assert read_file(str(private)) == b"content"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o610])
def test_file_of_others(mode, private):
    """A file that others may read or write is not."""
    private.chmod(mode)
    assert read_file(str(private)) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "missing", "large", "device"])
def test_no_regular_file(kind, private, tmp_path):
    """Nor is a link to a private one, a FIFO (without waiting for a writer), a directory, a device, or a huge file."""
    path = tmp_path / kind
    if kind == "link":
        path.symlink_to(private)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate((1 << 20) + 1)
        path.chmod(0o600)
    elif kind == "device":
        path = path.parent / "../../../../../../../../dev/null"
    assert read_file(str(path)) is None


@pytest.mark.rig("root")
def test_foreign_file(private):
    """Nor is somebody else's."""
    os.chown(private, 1, 1)
    assert read_file(str(private)) is None


CHANGES = {
    "content": lambda path: path.write_bytes(b"other"),
    "the same content": lambda path: path.write_bytes(path.read_bytes()),
    "times": lambda path: os.utime(path, ns=(1, 1)),
    "mode": lambda path: path.chmod(0o400),
    "gone": lambda path: path.unlink(),
    "replaced": lambda path: path.with_suffix(".new").replace(path),
    "became a directory": lambda path: (path.unlink(), path.mkdir()),
    "moved away": lambda path: path.rename(path.with_suffix(".old")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_file(change, private, tmp_path):
    """A file that was changed, touched, replaced or removed is not as it was."""
    other = tmp_path / "file.new"
    other.write_bytes(b"content")
    before = stamps([str(other), str(private)])
    assert stamps_hold(before)
    change(private)
    assert not stamps_hold(before)


def test_file_that_appears(tmp_path):
    """A file that was not there is as it was until it appears; nothing at all is always as it was."""
    before = stamps([str(tmp_path / "later")])
    assert stamps_hold(before)
    (tmp_path / "later").touch()
    assert not stamps_hold(before)
    assert stamps_hold(stamps([]))


@pytest.mark.parametrize("name", ["a b", "\n", "é", os.fsdecode(b"\xff"), "0 0 0 0 0 x"])
def test_odd_names(name, tmp_path):
    """A file may have any name."""
    (tmp_path / name).touch()
    before = stamps([str(tmp_path / name)])
    assert stamps_hold(before)
    (tmp_path / name).write_text("x")
    assert not stamps_hold(before)


@pytest.mark.parametrize("recorded", [b"x", b"1 2 3", b" ", b"1 2 3 4 5", b"\xff\xfe"])
def test_stamps_that_are_none(recorded):
    """What is no stamp holds for nothing."""
    assert not stamps_hold(recorded)


# --- all together ---

ANSWER = b'{"Version":1}\n'
LINE = [COMMAND, "--region", "x"]


class Kept:
    """A directory with the answer to `LINE`."""

    def __init__(self, runtime, file) -> None:
        self.environment = {"XDG_RUNTIME_DIR": str(runtime)}
        self.directory = runtime / "rolekey"
        self.directory.mkdir(mode=0o700)
        self.question = alias_key(LINE, self.environment) or b""
        self.alias, self.entry = self.directory / alias_name(self.question), self.directory / "cafe.entry"
        self.stamps = stamps([str(file)])
        self.write()

    def write(self, name: bytes = b"cafe", question: bytes | None = None, inside: bytes = b"cafe") -> None:
        """Both files."""
        when = b"%d %d" % (NOON, NOON + 3600)
        self.put(self.entry, pack(when, ANSWER, b"{}", inside))
        self.put(self.alias, pack(name, self.question if question is None else question, self.stamps))

    @staticmethod
    def put(path, content: bytes) -> None:
        """One file, which only its owner may read."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)

    def find(self) -> bytes | None:
        """The answer."""
        return find_answer(LINE, self.environment)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Kept:
    """One for all examples of a property."""
    runtime = tmp_path_factory.mktemp("runtime")
    (runtime / "read").touch()
    return Kept(runtime, runtime / "read")


@pytest.fixture
def kept(tmp_path) -> Kept:
    """One for a test that changes it."""
    (tmp_path / "read").touch()
    return Kept(tmp_path, tmp_path / "read")


@pytest.fixture(autouse=True)
def _noon(monkeypatch):
    """It is five minutes past noon."""
    monkeypatch.setattr(cached_answer.time, "time", lambda: NOON + 300.0)


def test_known_answer(kept):
    """The bytes are found for their command line, and for no other."""
    assert kept.find() == ANSWER
    assert find_answer([*LINE, "--region", "x"], kept.environment) is None
    assert find_answer(LINE, kept.environment | {"HOME": "/other"}) is None
    assert find_answer([*LINE, "--no-cache"], kept.environment) is None


def test_read_file_that_changed(kept, tmp_path):
    """They are not when a file has changed that was read for them."""
    (tmp_path / "read").write_text("x")
    assert kept.find() is None


def test_too_old(kept, monkeypatch):
    """Nor when they live for a quarter of an hour only; nor before they were obtained."""
    for now in (NOON + 2700, NOON + 3600, NOON + 100_000, NOON - 1):
        monkeypatch.setattr(cached_answer.time, "time", lambda now=now: float(now))
        assert kept.find() is None
    monkeypatch.setattr(cached_answer.time, "time", lambda: NOON + 2699.5)
    assert kept.find() == ANSWER


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.write(question=kept.question + b"x"),
        lambda kept: kept.write(name=b"beef"),
        lambda kept: kept.write(inside=b"beef"),
        lambda kept: kept.write(name=b"../rolekey/cafe", inside=b"../rolekey/cafe"),
        lambda kept: kept.write(name=b"", inside=b""),
        lambda kept: kept.write(name=b"caf\xc3\xa9", inside=b"caf\xc3\xa9"),
        lambda kept: kept.alias.unlink(),
        lambda kept: kept.entry.unlink(),
        lambda kept: kept.put(kept.entry, kept.alias.read_bytes()),
        lambda kept: kept.put(kept.alias, kept.entry.read_bytes()),
        lambda kept: kept.entry.chmod(0o644),
        lambda kept: kept.alias.chmod(0o644),
        lambda kept: kept.directory.chmod(0o755),
    ],
)
def test_not_these_files(change, kept):
    """Nor where alias or entry are another's, under another's name, gone, or open to others."""
    change(kept)
    assert kept.find() is None


def test_swapped_entries(kept):
    """An entry that was put in another's place is not taken for it."""
    other = kept.directory / "beef.entry"
    kept.put(other, pack(b"%d %d" % (NOON, NOON + 3600), b"another role's", b"{}", b"beef"))
    other.replace(kept.entry)
    assert kept.find() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), which=st.sampled_from(["entry", "alias"]))
def test_mutated_files(data, which, shared):
    """Whatever becomes of entry or alias, the answer is the right one or none."""
    shared.write()
    assert shared.find() == ANSWER
    path = getattr(shared, which)
    shared.put(path, data.draw(mutations(path.read_bytes())))
    assert shared.find() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), which=st.sampled_from(["entry", "alias"]))
def test_well_formed_files_of_anything(data, which, shared):
    """So it is with a file that is whole and holds anything."""
    shared.write()
    number = {"entry": ENTRY_FIELDS, "alias": ALIAS_FIELDS}[which]
    right = st.sampled_from([shared.question, shared.stamps, b"cafe", b"%d %d" % (NOON, NOON + 3600), b"{}"])
    fields = data.draw(st.lists(right | st.binary(max_size=30), min_size=number, max_size=number))
    shared.put(getattr(shared, which), pack(*fields))
    answer = shared.find()
    if which == "entry":
        whole = times(fields[0]) == (NOON, NOON + 3600) and fields[3] == b"cafe"
        assert answer == (fields[1] if whole else None)
    else:
        holds = stamps_hold(fields[2])
        assert answer == (ANSWER if (fields[0], fields[1], holds) == (b"cafe", shared.question, True) else None)
