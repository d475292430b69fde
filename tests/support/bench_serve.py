"""What the local endpoints give: wrk against a server with one made-up identity. scripts/bench-serve starts it."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from support.fake_source import TOKEN
from support.process import running_program

CONNECTIONS = (32, 1000)
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Run:
    """What wrk saw, and what it cost the server.

    Args:
        requests: how many were answered.
        rate: requests a second.
        p50, p99: milliseconds.
        errors: connections that failed or timed out, and answers that were not 200.
        microseconds: of processor time for a request.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    errors: int
    microseconds: float


def parse(output: str, processor_seconds: float) -> Run:
    """What wrk printed.

    Args:
        output: of wrk --latency.
        processor_seconds: what the server used meanwhile.
    """
    latency = {
        share: float(number) * _UNITS[unit]
        for share, number, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    }
    requests = int(_number(r"(\d+) requests in", output))
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = sum(map(int, sockets.groups())) if sockets else 0
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Run(
        requests=requests,
        rate=_number(r"Requests/sec:\s+([\d.]+)", output),
        p50=latency["50"],
        p99=latency["99"],
        errors=errors + (int(bad[1]) if bad else 0),
        microseconds=processor_seconds * 1e6 / max(1, requests),
    )


def _number(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    if found is None:
        raise SystemExit(f"scripts/bench-serve: wrk said something else\n{output}")
    return float(found[1])


@contextmanager
def _server() -> Iterator[tuple[int, str]]:
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "support.fake_source", "--token-file", str(Path(directory) / "token")]
        with running_program(words, stdout=subprocess.PIPE) as process:
            yield process.pid, f"http://127.0.0.1:{int(process.stdout.readline())}"


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _wrk(pid: int, url: str, header: str, connections: int, seconds: int) -> Run:
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", header, url]
    before = _processor_seconds(pid)
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return parse(output, _processor_seconds(pid) - before)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench-serve", description="What the local endpoints give.")
    parser.add_argument("seconds", type=int, nargs="?", default=10, help="seconds of each run (10)")
    seconds = parser.parse_args().seconds
    rows = ["| endpoint | connections | requests/s | p50 ms | p99 ms | errors | CPU us | resident MB |"]
    rows.append("|---" + "|---:" * 7 + "|")
    with _server() as (pid, url):
        rows.append(f"| none asked yet | 0 | | | | | | {_megabytes(pid):.1f} |")
        with urlopen(Request(f"{url}/latest/api/token", method="PUT")) as answer:
            token = answer.read().decode()
        endpoints = {
            "/latest/meta-data/iam/security-credentials/reader": f"X-aws-ec2-metadata-token: {token}",
            "/creds/prod": f"Authorization: {TOKEN}",
        }
        for connections in CONNECTIONS:
            for path, header in endpoints.items():
                run = _wrk(pid, url + path, header, connections, seconds)
                numbers = f"{run.rate:.0f} | {run.p50:.2f} | {run.p99:.2f} | {run.errors} | {run.microseconds:.1f}"
                rows.append(f"| {path} | {connections} | {numbers} | {_megabytes(pid):.1f} |")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
