"""What scripts/bench-serve makes of what wrk prints."""

import pytest

from support.bench_serve import Run, parse

OUTPUT = """Running 5s test @ http://127.0.0.1:9911/creds/prod
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.17ms    2.38ms  31.44ms   94.01%
    Req/Sec    45.02k    11.35k   68.02k    66.00%
  Latency Distribution
     50%  650.00us
     75%    0.93ms
     90%    1.80ms
     99%   12.31ms
  200000 requests in 5.00s, 260.00MB read
Requests/sec:  40000.50
Transfer/sec:     52.00MB
"""


def test_numbers():
    """Rate, latency in milliseconds whatever wrk's unit, and the processor's time for a request."""
    assert parse(OUTPUT, 2.0) == Run(requests=200000, rate=40000.5, p50=0.65, p99=12.31, errors=0, microseconds=10.0)


def test_errors():
    """Every kind of error counts."""
    more = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec"
    )
    assert parse(OUTPUT.replace("Requests/sec", more), 2.0).errors == 54321


def test_something_else():
    """What is no result is no row."""
    with pytest.raises(SystemExit):
        parse("unable to connect", 1.0)
