"""When to refresh and when to try again: the windows of botocore and of the cache, and pauses within their limits."""

import pytest
from botocore.credentials import RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from rolekey import cached_answer, schedule
from rolekey.schedule import mandatory_window, refresh_window, seconds_to_refresh, seconds_to_retry

CHANCES = st.floats(0, 1)
LIVES = st.floats(900, 43200)


def test_windows_are_those_of_the_others():
    """boto3, which refreshes in its own process, and the cache of credential-process refresh at the same time."""
    assert schedule.REFRESH_SECONDS == RefreshableCredentials._advisory_refresh_timeout == cached_answer.REFRESH_SECONDS
    assert RefreshableCredentials._mandatory_refresh_timeout == schedule.MANDATORY_SECONDS


@pytest.mark.parametrize(
    ("life", "refresh", "mandatory"),
    [
        (43200, 900, 600),
        (3600, 900, 600),
        (2400, 900, 600),
        (1800, 900, 450),
        (900, 450, 225),
        (10, 5, 2.5),
        (0, 0, 0),
        (-5, 0, 0),
    ],
)
def test_windows(life, refresh, mandatory):
    """A quarter of an hour and ten minutes; of a short life half and a quarter."""
    assert (refresh_window(life), mandatory_window(life)) == (refresh, mandatory)


@pytest.mark.parametrize(("life", "first", "last"), [(3600, 2700, 2790), (900, 450, 495), (20, 10, 11)])
def test_refresh(life, first, last):
    """A refresh comes when the first window has begun, spread over a tenth of it."""
    assert (seconds_to_refresh(life, 0), seconds_to_refresh(life, 1)) == (first, last)


@given(LIVES, CHANCES)
def test_refresh_is_in_time(life, chance):
    """For every life that the service grants, the refresh comes in the first window and before the second."""
    left = life - seconds_to_refresh(life, chance)
    assert mandatory_window(life) < left <= refresh_window(life) + 1e-6


@given(st.floats(-1e9, 9.9), CHANCES)
def test_no_hot_loop(life, chance):
    """Credentials that are as good as expired, or a clock that is wrong, make no loop without a pause."""
    assert seconds_to_refresh(life, chance) >= schedule.SHORTEST_PAUSE


def test_pauses_double():
    """The pauses after failures start at five seconds and double."""
    assert [seconds_to_retry(number, 0) for number in range(1, 9)] == [5, 10, 20, 40, 80, 160, 200, 200]
    assert [seconds_to_retry(number, 1) for number in (1, 2, 7)] == [7.5, 15, 300]


@given(st.integers(1, 10**6), CHANCES)
def test_pauses_have_limits(failures, chance):
    """No pause is shorter than five seconds or longer than five minutes, however long a failure lasts."""
    assert schedule.SHORTEST_PAUSE <= seconds_to_retry(failures, chance) <= schedule.LONGEST_PAUSE
