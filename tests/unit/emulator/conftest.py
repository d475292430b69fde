"""Fixtures for the emulator's tests."""

import pytest

from support.emulator_caller import Caller, make_caller


@pytest.fixture
def caller() -> Caller:
    """A machine whose certificate the trust anchor's root issued; everything about it is right."""
    return make_caller()
