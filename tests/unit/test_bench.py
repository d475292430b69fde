"""What scripts/bench makes of its numbers."""

import dataclasses
import json

import pytest

from support.bench import DELAY, RIGHT, WRONG, render, summarise
from support.bench_calls import BARE, COLD, FILE, HIT, P256, SESSION
from support.bench_probes import Crowd, is_valid

TIMES = {
    (BARE, None): [0.010, 0.009, 0.030],
    (HIT, None): [0.025, 0.024, 0.026],
    (COLD + P256, 0): [0.050, 0.040, 0.060],
    (COLD + P256, DELAY): [0.114, 0.114, 0.200],
    (SESSION + FILE, 0): [0.200, 0.200, 0.200],
}
DOCUMENT = {
    "Version": 1,
    "AccessKeyId": "ASIAEXAMPLE",
    "SecretAccessKey": "example",
    "SessionToken": "example",
    "Expiration": "2999-01-01T00:00:00Z",
}
ANSWER = json.dumps(DOCUMENT).encode()
AGREED = Crowd(seconds=1.5, codes=[0] * 20, answers=[ANSWER] * 20, sessions=1, signatures=1, logins=1)
REFUSED = Crowd(seconds=0.5, codes=[4] * 20, answers=[b""] * 20, sessions=0, signatures=0, logins=1)


def test_ratios():
    """Medians are set against the bare interpreter's, and against the goals.

    These are twice bare, 1.9 times three round trips, and 0.6 times the other library.
    """
    rows = {(row["row"], row["added_round_trip_ms"]): row for row in summarise(TIMES)}
    assert rows[HIT, None]["times_bare"] == pytest.approx(2.5)
    assert {row: found["goal_ms"] for row, found in rows.items() if found["goal_ms"]} == {
        (HIT, None): pytest.approx(20),
        (COLD + P256, 0): pytest.approx(120),
        (COLD + P256, DELAY): pytest.approx(228),
    }
    assert rows[HIT, None]["times_goal"] == pytest.approx(1.25)
    assert rows[COLD + P256, DELAY]["times_goal"] == pytest.approx(0.5)
    assert rows[BARE, None]["min_ms"] == pytest.approx(9)
    assert rows[BARE, None]["p95_ms"] == pytest.approx(28)


def test_tables():
    """Every row has as many columns as its table's head, and a crowd says how often it was as promised."""
    bad = dataclasses.replace(AGREED, sessions=2)
    rows, crowds = render(summarise(TIMES), {RIGHT: [AGREED, bad], WRONG: [REFUSED]}).strip().split("\n\n")
    for table in (rows, crowds):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| hit |  | 3 | 25.0 | 1.0 | 24.0 | 25.9 | 2.50 | 20.0 | 1.25 |" in rows
    assert f"| {RIGHT} | 1500 | 1, 2 | 1 | 1 | 1 | 1 of 2 times |" in crowds
    assert f"| {WRONG} | 500 | 0 | 0 | 1 | 0 | 1 of 1 times |" in crowds


@pytest.mark.parametrize(
    "difference",
    [
        {"sessions": 2},
        {"sessions": 0},
        {"signatures": 2},
        {"codes": [0] * 19 + [7]},
        {"answers": [ANSWER] * 19 + [b""]},
        {"answers": [b"{}"] * 20},
    ],
)
def test_what_is_no_agreement(difference):
    """One CreateSession, one signature, twenty times the same valid answer: less or more is not as promised."""
    assert AGREED.agrees()
    assert not dataclasses.replace(AGREED, **difference).agrees()


@pytest.mark.parametrize("difference", [{"logins": 2}, {"logins": 0}, {"sessions": 1}, {"codes": [4] * 19 + [0]}])
def test_what_is_more_than_one_try(difference):
    """One login, all refused: anything else is not as promised."""
    assert REFUSED.spent_one_try()
    assert not dataclasses.replace(REFUSED, **difference).spent_one_try()


@pytest.mark.parametrize(
    "difference", [{"Version": 2}, {"SessionToken": ""}, {"Expiration": "2001-01-01T00:00:00Z"}, {"AccessKeyId": None}]
)
def test_invalid_answers(difference):
    """Incomplete and expired documents, and what is no document, are no answers."""
    assert is_valid(ANSWER)
    assert not is_valid(json.dumps(DOCUMENT | difference).encode())
    assert not is_valid(b"")
