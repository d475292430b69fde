"""The answer that is already known: the bytes that ``rolekey credential-process`` printed, while they still hold.

Imported before anything else in every process, it may import nothing that costs time; cache.py, which writes what is
read here, may. Two kinds of file lie in the user's cache directory:

``NAME.entry``
    A time when credentials were obtained, one when they expire, the very bytes of stdout, and the entry's name: under
    another one it is none.
``NAME.alias``
    For one command line: the name of its entry, the command line with all that bears on it, and the stamps of every
    file that was read for it. As long as all of them are as they were, so is the answer.

Nothing in a file or in its name lets a PIN or passphrase be guessed. A file that is not whole, not ours, open to
others or no regular file is as good as none.
"""

import os
import sys
import time
from binascii import crc32

TYPE_CHECKING = False  # importing typing for it would cost half of the time that there is
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMMAND = "credential-process"
SECRET_OPTIONS = ("--pkcs8-password", "--tpm-key-password")
# What makes the same URI name another token.
TOKEN_ENVIRONMENT = (
    *("HOME", "XDG_CONFIG_HOME", "PKCS11_MODULE_PATH", "PKCS11SPY", "SOFTHSM2_CONF", "OPENSC_CONF", "OPENSC_DRIVER"),
    *("P11_KIT_SERVER_ADDRESS", "NSS_LIB_PARAMS", "PCSCLITE_CSOCK_NAME", "ChrystokiConfigurationPath", "NFAST_HOME"),
    *("CS_PKCS11_R3_CFG", "CLOUDHSM_PKCS11_CONFIG", "TPM2_PKCS11_STORE", "TPM2_PKCS11_TCTI", "TPM2TOOLS_TCTI"),
    "TPM_DEVICE",
)
# And what makes the same command line name another region, endpoint or CA.
ENVIRONMENT = (
    *TOKEN_ENVIRONMENT,
    *("AWS_ENDPOINT_URL_ROLESANYWHERE", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT"),
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    *("ROLEKEY_CERT_SELECTOR", "ROLEKEY_SYSTEM_STORE_NAME", "ROLEKEY_USE_LATEST_EXPIRING_CERTIFICATE"),
    *("ROLEKEY_CONFIG", "ROLEKEY_TRUST_ANCHOR_ARN", "ROLEKEY_PROFILE_ARN", "ROLEKEY_ROLE_ARN", "ROLEKEY_CERTIFICATE"),
    *("ROLEKEY_PRIVATE_KEY", "ROLEKEY_INTERMEDIATES", "ROLEKEY_SESSION_DURATION", "ROLEKEY_ROLE_SESSION_NAME"),
    *("ROLEKEY_REGION", "ROLEKEY_ENDPOINT", "ROLEKEY_PKCS11_LIB", "ROLEKEY_PIN_SOURCE"),
    *("ROLEKEY_PIN_FILE_GROUP_READABLE", "ROLEKEY_PKCS11_INIT_ARGS", "ROLEKEY_TPM_TCTI", "ROLEKEY_TIMEOUT"),
    *("ROLEKEY_REQUIRE_NON_EXPORTABLE", "ROLEKEY_USE_DUALSTACK_ENDPOINT"),
    *("ROLEKEY_NO_TPM_KEY_PASSWORD", "ROLEKEY_TPM_PARENT_PASSWORD_SOURCE", "ROLEKEY_USE_FIPS_ENDPOINT"),
)
_URLS = ("AWS_ENDPOINT_URL_ROLESANYWHERE", "ROLEKEY_ENDPOINT")
REFRESH_SECONDS = 900
ALIAS_FIELDS, ENTRY_FIELDS = 3, 4
_MAGIC = b"rolekey-cache-1"
_MAX_SIZE, _MAX_DIGITS = 1 << 20, 12
# The attributes of a URI's query that hold no PIN.
_QUERY = ("pin-source=", "module-name=", "module-path=")
_ODD_SPELLINGS = ("pin-value", "pin_value", "pin%2dvalue")


def find_answer(words: "Sequence[str]", environment: "Mapping[str, str]") -> bytes | None:
    """The answer to a command line, if it is known and still good.

    Args:
        words: the command line without the program's name.
        environment: the process's.

    Returns:
        What is to be printed, or None.
    """
    directory = cache_directory(environment)
    question = alias_key(words, environment)
    if directory is None or question is None or not is_private_directory(directory):
        return None
    alias = unpack(read_file(f"{directory}/{alias_name(question)}"), ALIAS_FIELDS)
    if alias is None or alias[1] != question or not alias[0].isalnum():
        return None
    entry = unpack(read_file(f"{directory}/{alias[0].decode()}.entry"), ENTRY_FIELDS)
    if entry is None or entry[3] != alias[0] or not is_fresh(entry[0], time.time()):
        return None
    return entry[1] if stamps_hold(alias[2]) else None


def cache_directory(environment: "Mapping[str, str]") -> str | None:
    """Where this user's cache is, whether or not it is there; None where there is no place for one.

    Args:
        environment: the process's.
    """
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/rolekey" if os.path.isabs(runtime) else None
    if sys.platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return f"{local}\\rolekey-cache" if local else None
    if sys.platform == "darwin":
        home = environment.get("HOME", "")
        return f"{home}/Library/Caches/rolekey" if os.path.isabs(home) else None
    return f"/dev/shm/rolekey-{os.geteuid()}"  # noqa: S108 - a tmpfs; is_private_directory() looks whose it is


def alias_key(words: "Sequence[str]", environment: "Mapping[str, str]") -> bytes | None:
    """Everything that the answer to a command line depends on, but the content of files.

    Args:
        words: the command line without the program's name.
        environment: the process's.

    Returns:
        The command line less the values of secret options and PINs, the working directory, the user and the variables
        that matter; None where an answer must not be taken from the cache, or a PIN cannot be told from the rest.
    """
    if not words or words[0] != COMMAND:
        return None
    kept, variables = _kept_words(words), _kept_variables(environment)
    if kept is None or variables is None:
        return None
    try:
        where = os.getcwd()
    except OSError:
        return None
    user = str(os.geteuid()) if hasattr(os, "geteuid") else ""
    return os.fsencode("\0".join([*kept, "", where, user, *variables]))


def _kept_words(words: "Sequence[str]") -> list[str] | None:
    kept = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in ("--no-cache", "--debug", "--help", "-h"):
            return None
        elif name in SECRET_OPTIONS:
            kept.append(name)
            skip = not equals
        else:
            shown = _without_pin(word)
            if shown is None:
                return None
            kept.append(shown)
    return kept


def _kept_variables(environment: "Mapping[str, str]") -> list[str] | None:
    kept = []
    for name in ENVIRONMENT:
        if (value := environment.get(name)) is not None:
            shown = _without_pin(f"{name}={value}")
            # A password, in a URL that --endpoint may overrule.
            if shown is None or (name in _URLS and "@" in value):
                return None
            kept.append(shown)
    return kept


def _without_pin(word: str) -> str | None:
    """A word without its PIN; None where what of it is the PIN is for the parser to say."""
    path, mark, query = word.partition("?")
    shown = word
    if mark and "pkcs11:" in path:
        kept = ["" if attribute.startswith("pin-value=") else attribute for attribute in query.split("&")]
        if not all(attribute.startswith(_QUERY) for attribute in kept if attribute):
            return None
        shown = f"{path}?{'&'.join(kept)}"
    return None if any(spelling in shown.lower() for spelling in _ODD_SPELLINGS) else shown


def alias_name(question: bytes) -> str:
    """The name of the file for a command line. It need not be the only one of its name: the file holds the whole.

    Args:
        question: from alias_key().
    """
    return f"{crc32(question):08x}{len(question):04x}.alias"


def is_private_directory(path: str) -> bool:
    """Whether a path is a directory of ours that nobody else can look into.

    Args:
        path: the directory; a symbolic link is none.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_mode & 0o170000 == 0o040000 and _is_ours(path, status)


def read_file(path: str) -> bytes | None:
    """The content of a regular file of ours that nobody else can read; None of any other.

    Args:
        path: the file; a symbolic link is not followed.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o170000 != 0o100000 or not _is_ours(descriptor, status) or status.st_size > _MAX_SIZE:
            return None
        return os.read(descriptor, _MAX_SIZE)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _is_ours(target: "int | str", status: os.stat_result) -> bool:
    if sys.platform == "win32":
        from rolekey.access_list import is_private  # noqa: PLC0415 - only Windows needs more than a status

        return is_private(target)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def pack(*fields: bytes) -> bytes:
    """The content of a file.

    Args:
        fields: what it holds.

    Returns:
        A line with a checksum and the fields' lengths, and the fields.
    """
    body = b" ".join(b"%d" % len(field) for field in fields) + b"\n" + b"".join(fields)
    return b"%s %08x %s" % (_MAGIC, crc32(body), body)


def unpack(data: bytes | None, count: int) -> list[bytes] | None:
    """The fields of a file, or None where it is not whole.

    Args:
        data: the content.
        count: how many fields there must be.
    """
    if not data or not data.startswith(_MAGIC):
        return None
    header = len(_MAGIC) + 10
    body = data[header:]
    if data[:header] != b"%s %08x " % (_MAGIC, crc32(body)):
        return None
    lengths, _, rest = body.partition(b"\n")
    fields = []
    for length in lengths.split():
        if not length.isdigit() or len(length) > _MAX_DIGITS:
            return None
        fields.append(rest[: int(length)])
        rest = rest[int(length) :]
    return fields if len(fields) == count and not rest else None


def times(field: bytes) -> tuple[int, int] | None:
    """When credentials were obtained and when they expire, in seconds since 1970; None where it cannot be read.

    Args:
        field: the first of an entry.
    """
    words = field.split()
    if len(words) != 2 or not all(word.isdigit() and len(word) <= _MAX_DIGITS for word in words):
        return None
    return int(words[0]), int(words[1])


def seconds_left(field: bytes, now: float) -> float:
    """How long the credentials of an entry live; 0.0 where they are none to be trusted.

    Args:
        field: the first of an entry.
        now: seconds since 1970.
    """
    found = times(field)
    if found is None or found[0] > now:  # obtained in the future: the clock has been set, and the rest means nothing
        return 0.0
    return max(0.0, found[1] - now)


def is_fresh(field: bytes, now: float) -> bool:
    """Whether credentials are used without asking for new ones: half of their life or a quarter of an hour is left.

    Args:
        field: the first of an entry.
        now: seconds since 1970.
    """
    return bool(seconds_left(field, now)) and now < fresh_until(field)


def fresh_until(field: bytes) -> float:
    """When new credentials are asked for although those of an entry, whose first field it is, still live."""
    obtained, expires = times(field) or (0, 0)
    return expires - min(REFRESH_SECONDS, (expires - obtained) / 2)


def stamps(paths: "Iterable[str]") -> bytes:
    """What tells whether files are as they were.

    Args:
        paths: the files; absolute, or relative to the working directory.

    Returns:
        For each file a line with its device, inode, size, times and path; a path that leads nowhere has zeros.
    """
    return b"\0".join(_stamp(path) for path in paths)


def stamps_hold(recorded: bytes) -> bool:
    """Whether every file is as it was.

    Args:
        recorded: from stamps().
    """
    return all(_stamp(os.fsdecode(line.split(b" ", 5)[-1])) == line for line in recorded.split(b"\0") if line)


def _stamp(path: str) -> bytes:
    try:
        s = os.stat(path)
    except OSError:
        return b"0 0 0 0 0 " + os.fsencode(path)
    return b"%d %d %d %d %d %s" % (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, os.fsencode(path))
