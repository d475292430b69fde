"""What the tests of the virtual card share: the card as each of the two modules shows it."""

import pytest

from support.card_rig import CardRig, find_opensc, find_ykcs11
from support.rig_token import RigToken

_FIND = {"opensc": find_opensc, "ykcs11": find_ykcs11}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.rig(name)) for name in _FIND])
def token(virtual_card: CardRig, request: pytest.FixtureRequest) -> RigToken:
    """The card as one of the modules shows it; a test that asks for it runs with each."""
    module = _FIND[request.param]()
    assert module is not None, "the rig's probe has seen it"
    return virtual_card.token(module)
