import copy
import dataclasses
import hmac
import pickle
import traceback

import pytest

from rolekey.secret import Secret

CANARY = "canary-4711"


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(CANARY)),
        str(Secret(CANARY)),
        f"{Secret(CANARY)}",
        f"{Secret(CANARY)!r}",
        f"{Secret(CANARY):>40}",
        "{:s}".format(Secret(CANARY)),  # noqa: UP032  the other way to __format__
        "%s" % Secret(CANARY),  # noqa: UP031  the other way to __str__
    ],
)
def test_shown_as_a_mask(shown):
    """Whatever way a secret is turned into text, three asterisks come out, whose number says nothing."""
    assert shown == "***"


def test_not_shown_by_what_holds_it():
    """The repr of a container or dataclass around a secret does not show it."""

    @dataclasses.dataclass
    class Holder:
        pin: Secret

    assert CANARY not in repr([Secret(CANARY), {"pin": Secret(CANARY)}, Holder(Secret(CANARY))])


def test_revealed_on_request():
    """reveal() gives back the very text, not a normalised one."""
    assert Secret("Passwo\u0308rt \0 ").reveal() == "Passwo\u0308rt \0 "


@pytest.mark.parametrize("text", ["", "1234", "pässwort", "\udcff"])
def test_equal_by_text(text):
    """Secrets are equal if their texts are, text beyond ASCII and undecodable arguments included."""
    assert Secret(text) == Secret(text)
    assert Secret(text) != Secret(text + "x")


def test_not_equal_to_its_text():
    """A secret is not equal to a plain text, so that a comparison with one cannot replace reveal()."""
    assert Secret("1234") != "1234"


def test_compared_in_constant_time(monkeypatch):
    """The comparison is hmac.compare_digest's."""
    seen = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: seen.append((a, b)) or True)
    assert Secret("a") == Secret("b")
    assert seen == [(b"a", b"b")]


def test_hash_says_nothing():
    """The hash is the same for every secret."""
    assert hash(Secret("a")) == hash(Secret("b"))


@pytest.mark.parametrize(
    "take_out",
    [
        *(lambda secret, protocol=protocol: pickle.dumps(secret, protocol) for protocol in range(6)),
        lambda secret: pickle.dumps({"settings": [secret]}),
        copy.copy,
        copy.deepcopy,
        lambda secret: secret.__reduce__(),
        lambda secret: secret.__reduce_ex__(2),
        lambda secret: secret.__getstate__(),
    ],
)
def test_neither_pickled_nor_copied(take_out):
    """Pickling, copying and everything below them fail, name the way out, and do not show the secret."""
    with pytest.raises(TypeError, match=r"source.*file.*environment") as caught:
        take_out(Secret(CANARY))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_no_dictionary_to_dump():
    """A secret has no __dict__, which serialisers and debuggers print."""
    assert not hasattr(Secret(CANARY), "__dict__")
