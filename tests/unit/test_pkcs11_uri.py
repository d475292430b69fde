import dataclasses
import pickle
import re
import traceback
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rolekey.errors import ConfigurationError
from rolekey.pkcs11_uri import PKCS11URI, redact_pin_value
from rolekey.secret import Secret

# RFC 7512, section 3 (examples), without the line ends inside them, and what each says. One more is in REFUSED.
RFC_7512_EXAMPLES = {
    "pkcs11:": PKCS11URI(),
    "pkcs11:object=my-pubkey;type=public": PKCS11URI(object_label="my-pubkey", object_type="public"),
    "pkcs11:object=my-key;type=private?pin-source=file:/etc/token": PKCS11URI(
        object_label="my-key", object_type="private", pin_source="file:/etc/token"
    ),
    (
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin"
    ): PKCS11URI(
        token="The Software PKCS#11 Softtoken",
        manufacturer="Snake Oil, Inc.",
        model="1.0",
        serial="",
        object_label="my-certificate",
        object_type="cert",
        object_id=bytes.fromhex("69953e5cf4bdec91"),
        pin_source="file:/etc/token_pin",
    ),
    "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11": PKCS11URI(
        object_label="my-sign-key", object_type="private", module_name="mypkcs11"
    ),
    "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1": PKCS11URI(
        object_label="my-sign-key", object_type="private", module_path="/mnt/libmypkcs11.so.1"
    ),
    "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin": PKCS11URI(
        token="Software PKCS#11 softtoken", manufacturer="Snake Oil, Inc.", pin_value=Secret("the-pin")
    ),
    "pkcs11:slot-description=Sun%20Metaslot": PKCS11URI(slot_description="Sun Metaslot"),
    "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23": (
        PKCS11URI(
            library_manufacturer="Snake Oil, Inc.", library_description="Soft Token Library", library_version=(1, 23)
        )
    ),
    "pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06": PKCS11URI(
        token="My token% created by Joe",
        library_version=(3, 0),
        object_id=bytes.fromhex("010203baddcafe040506"),
    ),
    "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert": PKCS11URI(
        token="A name with a substring %;", object_label="my-certificate", object_type="cert"
    ),
    (
        "pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a"
        "?pin-source=file:/etc/token_pin&vendor-bbb=value-b"
    ): PKCS11URI(
        token="my-token",
        object_label="my-certificate",
        object_type="cert",
        unknown_path_attributes=("vendor-aaa",),
        pin_source="file:/etc/token_pin",
    ),
}

ACCEPTED = {
    # RFC 7512, 2.3: the rules of the grammar that the examples do not show.
    "pkcs11:?": PKCS11URI(),
    "pkcs11:token=a+b": PKCS11URI(token="a+b"),
    "pkcs11:token=a=b&c": PKCS11URI(token="a=b&c"),
    "pkcs11:serial=%30%31": PKCS11URI(serial="01"),
    "pkcs11:slot-id=0": PKCS11URI(slot_id=0),
    "pkcs11:slot-id=007": PKCS11URI(slot_id=7),
    "pkcs11:slot-id=" + "0" * 5000 + "7": PKCS11URI(slot_id=7),
    "pkcs11:slot-id=18446744073709551615": PKCS11URI(slot_id=2**64 - 1),
    "pkcs11:type=secret-key": PKCS11URI(object_type="secret-key"),
    "pkcs11:type=data": PKCS11URI(object_type="data"),
    "pkcs11:id=": PKCS11URI(object_id=b""),
    "pkcs11:id=%00%ff": PKCS11URI(object_id=b"\x00\xff"),
    "pkcs11:id=01": PKCS11URI(object_id=b"01"),
    "pkcs11:Token=a": PKCS11URI(unknown_path_attributes=("Token",)),
    "pkcs11:pin-source=file:/p": PKCS11URI(unknown_path_attributes=("pin-source",)),
    "pkcs11:?x=1&x=2&token=a": PKCS11URI(),
    "pkcs11:?pin-source=|/bin/pin?/&module-path=/a": PKCS11URI(pin_source="|/bin/pin?/", module_path="/a"),
    "pkcs11:?pin-value=": PKCS11URI(pin_value=Secret("")),
    "pkcs11:?pin-value=12?34/=%26%25%C3%A4": PKCS11URI(pin_value=Secret("12?34/=&%\u00e4")),
    # The official helper takes what should have been encoded as it is.
    "pkcs11:token=My Token #1;object=Schl\u00fcssel": PKCS11URI(token="My Token #1", object_label="Schl\u00fcssel"),
    "pkcs11:?pin-value=12 3;4": PKCS11URI(pin_value=Secret("12 3;4")),
    # PKCS#11 v2.40: the width of the fields, in bytes.
    "pkcs11:serial=0123456789abcdef": PKCS11URI(serial="0123456789abcdef"),
    "pkcs11:token=" + "\u00e4" * 16: PKCS11URI(token="\u00e4" * 16),
    "pkcs11:token=" + "a\u0308" * 16: PKCS11URI(token="a\u0308" * 16),  # 48 bytes here, 32 in NFC
}

REFUSED = {
    # The scheme.
    "": "pkcs11:",
    "token=a": "pkcs11:",
    "PKCS11:token=a": "pkcs11:",
    " pkcs11:token=a": "pkcs11:",
    # The parts.
    "pkcs11:;": "empty attribute in its path, at position 1",
    "pkcs11:token=a;": "empty attribute in its path, at position 2",
    "pkcs11:token=a;;object=b": "empty attribute in its path, at position 2",
    "pkcs11:?pin-value=1&": "empty attribute in its query, at position 2",
    "pkcs11:token": "not name=value",
    "pkcs11:=a": "not name=value",
    "pkcs11://token=a": "not name=value",
    "pkcs11:tok%65n=a": "not name=value",
    "pkcs11:token =a": "not name=value",
    "pkcs11:token=a?pin-value": "not name=value",
    # More than once.
    "pkcs11:token=a;token=a": "token twice",
    "pkcs11:id=%01;id=%02": "id twice",
    "pkcs11:x=1;x=2": "x twice",
    "pkcs11:?pin-value=1&pin-value=1": "pin-value twice",
    "pkcs11:?module-path=/a&module-path=/b": "module-path twice",
    "pkcs11:?pin-value=1&pin-source=file:/a": "both pin-source and pin-value",
    # The encoding.
    "pkcs11:token=%zz": "without two hexadecimal digits in token",
    "pkcs11:token=100%": "without two hexadecimal digits in token",
    "pkcs11:id=%1": "without two hexadecimal digits in id",
    "pkcs11:x=%1": "without two hexadecimal digits in the attribute at position 1 of the path",
    "pkcs11:token=%ff": "token that is not UTF-8",
    "pkcs11:?pin-value=%ff": "pin-value that is not UTF-8",
    "pkcs11:token=a%00": "control character in token",
    "pkcs11:token=a\n": "control character in token",
    "pkcs11:object=%C2%85": "control character in object",
    "pkcs11:id=\t": "control character in id",
    "pkcs11:id=\udcff": "control character in id",
    "pkcs11:?pin-value=1%00": "control character in pin-value",
    "pkcs11:?pin-source=file:/a%0a": "control character in pin-source",
    # The values.
    "pkcs11:token=" + "a" * 33: "token longer than the 32 bytes",
    "pkcs11:token=" + "\u00e4" * 17: "token longer than the 32 bytes",
    # An example of RFC 7512, section 3, whose label has 34 bytes; what PKCS#11 cannot hold, the RFC has refused.
    "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert": (
        "token longer than the 32 bytes"
    ),
    "pkcs11:manufacturer=" + "a" * 33: "manufacturer longer than the 32 bytes",
    "pkcs11:serial=" + "a" * 17: "serial longer than the 16 bytes",
    "pkcs11:model=" + "a" * 17: "model longer than the 16 bytes",
    "pkcs11:library-manufacturer=" + "a" * 33: "library-manufacturer longer than the 32 bytes",
    "pkcs11:library-description=" + "a" * 33: "library-description longer than the 32 bytes",
    "pkcs11:slot-description=" + "a" * 65: "slot-description longer than the 64 bytes",
    "pkcs11:slot-manufacturer=" + "a" * 33: "slot-manufacturer longer than the 32 bytes",
    "pkcs11:slot-id=": "slot-id that is not a number",
    "pkcs11:slot-id=abc": "slot-id that is not a number",
    "pkcs11:slot-id=-1": "slot-id that is not a number",
    "pkcs11:slot-id=1_0": "slot-id that is not a number",
    "pkcs11:slot-id=\u0661": "slot-id that is not a number",
    "pkcs11:slot-id=18446744073709551616": "slot-id that is not a number",
    "pkcs11:slot-id=" + "9" * 5000: "slot-id that is not a number",
    "pkcs11:library-version=": "library-version that is not a number",
    "pkcs11:library-version=3.": "library-version that is not a number",
    "pkcs11:library-version=.3": "library-version that is not a number",
    "pkcs11:library-version=1.2.3": "library-version that is not a number",
    "pkcs11:library-version=256": "library-version that is not a number",
    "pkcs11:type=": "type that is not an object type",
    "pkcs11:type=Private": "type that is not an object type",
    "pkcs11:type=certificate": "type that is not an object type",
    "pkcs11:?module-path=": "module-path that is not absolute",
    "pkcs11:?module-path=lib/softhsm2.so": "module-path that is not absolute",
    "pkcs11:?module-name=": "module-name that is not a bare name",
    "pkcs11:?module-name=../evil": "module-name that is not a bare name",
    "pkcs11:?pin-source=": "empty pin-source",
}

CANARY = "Canary4711"
CANARY_ESCAPED = "".join(f"%{octet:02x}" for octet in CANARY.encode())
CANARY_URIS = [
    # Well-formed.
    f"pkcs11:token=a?pin-value={CANARY}",
    f"pkcs11:token=a?pin-value={CANARY_ESCAPED}",
    f"pkcs11:token=a?pin-value=pin-value={CANARY}",
    f"pkcs11:?pin-value=?{CANARY}&module-path=/a",
    f"pkcs11:?Pin-Value={CANARY}",
    f"pkcs11:?pin_value={CANARY}",
    # A PIN that is malformed, or beside something that is.
    f"pkcs11:token=a?pin-value={CANARY}%zz",
    f"pkcs11:token=a?pin-value=%{CANARY}",
    f"pkcs11:token=a?pin-value={CANARY}%ff",
    f"pkcs11:token=a?pin-value={CANARY}%00",
    f"pkcs11:token=a?pin-value={CANARY}\n",
    f"pkcs11:token=a?pin-value={CANARY}\udcff",
    f"pkcs11:token=a?pin-value={CANARY}&",
    f"pkcs11:token=a?pin-value={CANARY}&pin-value={CANARY}",
    f"pkcs11:token=a?pin-value=1&pin-value={CANARY}",
    f"pkcs11:token=a?pin-value={CANARY}&pin-source=file:/a",
    f"pkcs11:token=%zz?pin-value={CANARY}",
    f"pkcs11:token=a;token=a?pin-value={CANARY}",
    f"pkcs11:token=a;?pin-value={CANARY}",
    f"pkcs11:slot-id=x?pin-value={CANARY}",
    f"pkcs11:token=a?module-path=a&pin-value={CANARY}",
    f"PKCS11:token=a?pin-value={CANARY}",
    f"token=a?pin-value={CANARY}",
    # A PIN with a separator in it.
    f"pkcs11:token=a?pin-value=1&{CANARY}",
    f"pkcs11:token=a?pin-value=1&{CANARY}=2",
    f"pkcs11:token=a?pin-value=1&{CANARY}=%zz",
    f"pkcs11:token=a?pin-value=1;{CANARY}",
    f"pkcs11:token=a?pin-value=1#{CANARY}",
    # A PIN in the path.
    f"pkcs11:token=a;pin-value={CANARY}",
    f"pkcs11:pin-value={CANARY};token=a",
    f"pkcs11:token=a;pin-value={CANARY};pin-value={CANARY}",
    f"pkcs11:token=a;pin-value={CANARY}%zz",
    f"pkcs11:token=a;pin-value={CANARY}%00",
    f"pkcs11:token=a;pin-value=1;{CANARY}",
    f"pkcs11:token=a;pin-value=1;{CANARY}=2",
    f"pkcs11:token=a;pin-value=1;{CANARY}=2;{CANARY}=3",
    f"pkcs11:token=a;pin-value=1;{CANARY}=%zz",
    f"pkcs11:token=a;pin-value=1?{CANARY}",
    # The wrong separator before it, or a "?" twice.
    f"pkcs11:token=a&pin-value={CANARY}",
    f"pkcs11:token=a pin-value={CANARY}",
    f"pkcs11:token=a,PIN-VALUE = {CANARY}",
    f"pkcs11:serial=a&pin-value={CANARY}",
    f"pkcs11:id=%01&pin-value={CANARY}",
    f"pkcs11:type=private&pin-value={CANARY}",
    f"pkcs11:slot-id=1&pin-value={CANARY}",
    f"pkcs11:x=1&pin-value={CANARY}",
    f"pkcs11:token=a?module-path=/a?pin-value={CANARY}",
    f"pkcs11:token=a?module-path=/a;pin-value={CANARY}",
    f"pkcs11:token=a?module-name=a?pin-value={CANARY}",
    f"pkcs11:token=a?pin-source=file:/a?pin-value={CANARY}",
    f"pkcs11:token=a?pin-source=file:/a%3Fpin-value%3D{CANARY}",
    f"pkcs11:token=a?pin-source=pkcs11:%253Fpin%252Dvalue%253D{CANARY}",
    f"pkcs11:token=a??pin-value={CANARY}",
    f"pkcs11:token=a?x?pin-value={CANARY}",
    f"pkcs11:token=a?x=?pin-value={CANARY}",
    # A name that is not quite one.
    f"pkcs11:token=a? pin-value={CANARY}",
    f"pkcs11:token=a?pin-value%3D{CANARY}",
    f"pkcs11:token=a?pin-value:{CANARY}",
    f"pkcs11:token=a?pin-value{CANARY}",
    f"pkcs11:token=a;pin-value:{CANARY}",
    f"pkcs11:pin-value{CANARY}",
    f"pkcs11:{CANARY}?pin-value={CANARY}",
]

TOKEN = {
    "token": "demo",
    "manufacturer": "SoftHSM project",
    "serial": "8a2f6b3c",
    "model": "SoftHSM v2",
    "slot_id": 0,
    "slot_description": "SoftHSM slot ID 0x0",
    "slot_manufacturer": "SoftHSM project",
    "library_manufacturer": "SoftHSM",
    "library_description": "Implementation of PKCS11",
    "library_version": (2, 6),
}


def parses(text: str) -> PKCS11URI | ConfigurationError:
    try:
        return PKCS11URI.parse(text)
    except ConfigurationError as error:
        return error


@pytest.mark.parametrize(("text", "expected"), [*RFC_7512_EXAMPLES.items(), *ACCEPTED.items()])
def test_parsed(text, expected):
    """The examples of RFC 7512, and its rules that they do not show, are read as it says."""
    assert PKCS11URI.parse(text) == expected


@pytest.mark.parametrize(("text", "problem"), REFUSED.items())
def test_refused(text, problem):
    """A URI that no token can match is refused with a message that names the attribute, and with a remedy."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)) as caught:
        PKCS11URI.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", [*RFC_7512_EXAMPLES, *ACCEPTED])
def test_written_and_read_again(text):
    """A written URI says the same as the one that was read, but for the PIN."""
    uri = PKCS11URI.parse(text)
    assert PKCS11URI.parse(str(uri)) == dataclasses.replace(uri, pin_value=None)


def test_canonical_form():
    """Attributes come in one order, escapes in upper case, the id fully escaped, the PIN not at all."""
    text = "pkcs11:id=a%ab;x=1;object=k%2f'1';token=\u00e4 b?module-path=/a b&pin-value=1234"
    assert str(PKCS11URI.parse(text)) == ("pkcs11:token=%C3%A4%20b;object=k%2F%271%27;id=%61%AB;x=?module-path=/a%20b")


def test_selector():
    """The selector is the canonical form without a query."""
    uri = PKCS11URI.parse("pkcs11:token=a;object=b?pin-source=file:/p&module-path=/m&pin-value-x=1")
    assert uri.selector() == "pkcs11:token=a;object=b"
    assert PKCS11URI(pin_source="file:/p").selector() == "pkcs11:"


def field_text(limit: int | None = None) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=limit).filter(
        lambda text: limit is None or len(text.encode()) <= limit
    )


@st.composite
def uris(draw: st.DrawFn) -> PKCS11URI:
    number = st.integers(min_value=0, max_value=255)
    limits = {
        "token": 32,
        "manufacturer": 32,
        "serial": 16,
        "model": 16,
        "library_manufacturer": 32,
        "library_description": 32,
        "slot_description": 64,
        "slot_manufacturer": 32,
    }
    optional = {name: field_text(limit) for name, limit in limits.items()} | {
        "object_label": field_text(),
        "library_version": st.tuples(number, number),
        "slot_id": st.integers(min_value=0, max_value=2**64 - 1),
        "object_id": st.binary(),
        "object_type": st.sampled_from(["public", "private", "cert", "secret-key", "data"]),
        "unknown_path_attributes": st.lists(st.from_regex(r"\Ax-[A-Za-z0-9_-]+\Z"), unique=True).map(tuple),
        "pin_source": field_text().filter(bool),
        "module_name": field_text().filter(lambda text: text and "/" not in text),
        "module_path": field_text().map("/".__add__),
    }
    return PKCS11URI(**draw(st.fixed_dictionaries({}, optional=optional)))


@given(uris())
def test_round_trip(uri):
    """Whatever values a URI has, its text is printable ASCII and parses back to them."""
    text = str(uri)
    assert re.fullmatch(r"[!-~]+", text)
    assert PKCS11URI.parse(text) == uri


FRAGMENTS = (
    "pkcs11:",
    "token=",
    "id=",
    "slot-id=",
    "library-version=",
    "type=cert",
    "x=",
    ";",
    "?",
    "&",
    "=",
    "%",
    "%4",
)
FRAGMENTS += ("pin-value=", "pin-source=file:/", "module-path=/", "module-name=", "%00", "%C3", "1", ".", "+", "\ud800")


@given(st.text() | st.text().map("pkcs11:".__add__) | st.lists(st.sampled_from(FRAGMENTS)).map("".join))
@example("pkcs11:slot-id=" + "0" * 5000)
def test_nothing_but_configuration_error(text):
    """Any text at all is either a URI that can be written and read again, or a ConfigurationError."""
    uri = parses(text)
    if isinstance(uri, PKCS11URI):
        assert PKCS11URI.parse(str(uri)) == dataclasses.replace(uri, pin_value=None)


@pytest.mark.parametrize("text", CANARY_URIS)
def test_pin_is_never_shown(text):
    """No message, hint, repr, traceback or written form has the PIN, wherever in the URI it was put."""
    outcome = parses(text)
    if isinstance(outcome, PKCS11URI):
        shown = [repr(outcome), str(outcome), outcome.selector(), repr(outcome.object_id)]
    else:
        shown = [str(outcome), repr(outcome), repr(vars(outcome)), *traceback.format_exception(outcome)]
        assert outcome.__cause__ is None
        assert outcome.__context__ is None  # a decoder's error would hold what it could not decode
    for form in (CANARY, CANARY_ESCAPED):
        assert form.lower() not in "".join(shown).lower()


def test_pin_is_kept():
    """The PIN of the query is there for who asks for it, decoded and not normalised."""
    uri = PKCS11URI.parse("pkcs11:token=a?pin-value=a%CC%88+1")
    assert uri.pin_value is not None
    assert uri.pin_value.reveal() == "a\u0308+1"


def test_path_pin_value_is_only_a_name():
    """A pin-value in the path is an unknown attribute: its name is kept, and the URI matches nothing."""
    uri = PKCS11URI.parse(f"pkcs11:token=demo;pin-value={CANARY};object=k")
    assert uri == PKCS11URI(token="demo", object_label="k", unknown_path_attributes=("pin-value",))
    assert not uri.matches(**TOKEN)


def test_pickled_without_pin_only():
    """A URI can be pickled, one with a PIN in it cannot."""
    uri = PKCS11URI.parse("pkcs11:token=a;id=%01?pin-source=file:/p")
    assert pickle.loads(pickle.dumps(uri)) == uri
    with pytest.raises(TypeError, match="source"):
        pickle.dumps(dataclasses.replace(uri, pin_source=None, pin_value=Secret(CANARY)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:", True),
        ("pkcs11:token=demo", True),
        ("pkcs11:token=demo%20%20", True),
        ("pkcs11:token=%20demo", False),
        ("pkcs11:token=Demo", False),
        ("pkcs11:token=dem", False),
        ("pkcs11:token=", False),
        ("pkcs11:serial=8a2f6b3c;model=SoftHSM%20v2", True),
        ("pkcs11:serial=8a2f6b3c;model=SoftHSM%20v3", False),
        ("pkcs11:manufacturer=SoftHSM%20project;slot-manufacturer=SoftHSM%20project", True),
        ("pkcs11:manufacturer=SoftHSM", False),
        ("pkcs11:slot-manufacturer=SoftHSM", False),
        ("pkcs11:slot-id=0", True),
        ("pkcs11:slot-id=1", False),
        ("pkcs11:slot-description=SoftHSM%20slot%20ID%200x0", True),
        ("pkcs11:slot-description=Other", False),
        ("pkcs11:library-manufacturer=SoftHSM;library-description=Implementation%20of%20PKCS11", True),
        ("pkcs11:library-manufacturer=Other", False),
        ("pkcs11:library-description=Other", False),
        ("pkcs11:library-version=2.6", True),
        ("pkcs11:library-version=2", False),
        ("pkcs11:object=any;id=%01;type=private?module-path=/m&x=1", True),
        ("pkcs11:token=demo;x-vendor=1", False),
        ("pkcs11:x-vendor=", False),
    ],
)
def test_matches(text, expected):
    """Every attribute of token, slot and module has to agree, an unknown one never does, the others do not count."""
    assert PKCS11URI.parse(text).matches(**TOKEN) is expected


def test_empty_matches_only_empty():
    """An empty value is not an absent one: it matches an empty field and no other."""
    assert PKCS11URI.parse("pkcs11:serial=").matches(**TOKEN | {"serial": ""})
    assert not PKCS11URI.parse("pkcs11:serial=").matches(**TOKEN)


@pytest.mark.parametrize("composed", ["NFC", "NFD"])
@pytest.mark.parametrize("found", ["NFC", "NFD"])
def test_text_is_compared_in_nfc(composed, found):
    """A label matches however its accents are composed, in the URI and in the token (RFC 7512, section 5)."""
    uri = PKCS11URI(token=unicodedata.normalize(composed, "Schlüssel"))
    assert PKCS11URI.parse(str(uri)).matches(**TOKEN | {"token": unicodedata.normalize(found, "Schlüssel")})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("pkcs11:token=a", "pkcs11:token=a"),
        ("pkcs11:token=a?pin-value=1234", "pkcs11:token=a?pin-value=***"),
        ("?pin-value=1234&module-path=/m", "?pin-value=***&module-path=/m"),
        ("?PIN-Value=1234&x=1", "?PIN-Value=***"),
        ("?pin-value=1&pin-value=2", "?pin-value=***&pin-value=***"),
        ("?pin-value=12 3'4;5?6\n7", "?pin-value=***"),
        ("?pin-value = 1234", "?pin-value =***"),
        ("?pin%2Dvalue%3D1234", "?pin%2Dvalue%3D***"),
        ("pin-value=", "pin-value=***"),
        ("--private-key 'pkcs11:?pin-value=1234' --x", "--private-key 'pkcs11:?pin-value=***"),
    ],
)
def test_redacted(text, expected):
    """The value of every pin-value is replaced up to the next query attribute or the end, and nothing else is."""
    assert redact_pin_value(text) == expected


@pytest.mark.parametrize("text", [text for text in CANARY_URIS if re.search(r"pin-value ?=", text, re.IGNORECASE)])
def test_redacted_has_no_pin(text):
    """Of every malformed URI that has a pin-value= before its PIN, the redacted text has no PIN."""
    text = text.removeprefix(f"pkcs11:{CANARY}")
    redacted = redact_pin_value(text)
    assert CANARY not in redacted
    assert redact_pin_value(redacted) == redacted
