"""When credentials are refreshed, and how long a refresh that failed is waited with.

The two windows are botocore's: in the first a refresh is tried, in the second one must succeed. No clock is read here
and no number drawn: all are arguments.
"""

# Before the end of a life: the first window and the second one, in seconds; at most these shares of a short life.
REFRESH_SECONDS = 900
MANDATORY_SECONDS = 600
_REFRESH_SHARE = 2
_MANDATORY_SHARE = 4
# Refreshes of many machines that started together are spread over this part of the first window.
_SPREAD = 0.1
# Between two attempts, whatever happens.
SHORTEST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


def refresh_window(life: float) -> float:
    """How long before they expire credentials are refreshed.

    Args:
        life: seconds for which they were good when they were obtained.

    Returns:
        Seconds: 15 minutes, at most half of the life.
    """
    return min(REFRESH_SECONDS, max(0.0, life) / _REFRESH_SHARE)


def mandatory_window(life: float) -> float:
    """How long before they expire credentials must have been refreshed.

    Args:
        life: as for refresh_window().

    Returns:
        Seconds: 10 minutes, at most a quarter of the life.
    """
    return min(MANDATORY_SECONDS, max(0.0, life) / _MANDATORY_SHARE)


def seconds_to_refresh(life: float, chance: float) -> float:
    """How long credentials that were just obtained are kept before new ones are asked for.

    Args:
        life: as for refresh_window().
        chance: a random number from 0 to 1, which spreads the refreshes of many machines.

    Returns:
        Seconds until a moment in the first tenth of the refresh window; never less than SHORTEST_PAUSE.
    """
    window = refresh_window(life)
    return max(SHORTEST_PAUSE, life - window + chance * window * _SPREAD)


def seconds_to_retry(failures: int, chance: float) -> float:
    """How long to wait after a failure.

    Args:
        failures: how many there were without a success in between, this one included.
        chance: as for seconds_to_refresh().

    Returns:
        Seconds: from SHORTEST_PAUSE, doubled with each failure, to LONGEST_PAUSE; of each up to a third is chance.
    """
    longest = LONGEST_PAUSE / 1.5
    doubled = SHORTEST_PAUSE * 2.0 ** min(failures - 1, 16)
    return min(doubled, longest) * (1 + chance / 2)
