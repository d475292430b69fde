"""What a call costs: every row measured in turns, a table on stdout, and all numbers as JSON. scripts/bench starts it.

docs/performance.md says what the rows are.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi

from support.bench_calls import (
    BARE,
    COLD,
    FILE,
    FLOOR,
    HIT,
    HIT_BUNDLED,
    P256,
    SESSION,
    SILENT,
    SLOW_RUNS,
    Batch,
    Row,
    Stage,
    batches,
)
from support.bench_probes import (
    PATIENCE,
    PROCESSES,
    Crowd,
    count_sessions,
    is_valid,
    measure_floor,
    record_request,
    run_crowd,
)
from support.delaying_proxy import DelayingProxy
from support.pkcs11_spy import PKCS11Spy
from support.rigs import find_spy
from support.softhsm import ProvisionedToken

DELAY = 40  # milliseconds of round-trip time that are added
WARM_UP = 1  # run of each round that is not counted
RIGHT, WRONG = "empty cache", "wrong PIN"


def try_once(stage: Stage) -> None:
    """Every command by itself: what it prints is what the others print. The hits are known from here on.

    Args:
        stage: what the calls have in common.

    Raises:
        SystemExit: a command failed, or printed something else.
    """
    for batch in batches(stage):
        environment = stage.environment(batch.runtime)
        for (name, _), words in batch.calls.items():
            done = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=PATIENCE)
            if done.returncode != 0 or not (name in SILENT or is_valid(done.stdout)):
                said = done.stderr.decode(errors="replace")
                raise SystemExit(f"scripts/bench: {name}: no credentials, exit code {done.returncode}\n{said}")


def measure(stage: Stage, batch: Batch) -> dict[Row, list[float]]:
    """Seconds of each run by row.

    Args:
        stage: what the calls have in common.
        batch: the calls.

    Raises:
        SystemExit: a command failed, or a run asked the emulator where it should not have, or the reverse.
    """
    environment = stage.environment(batch.runtime)
    export = stage.scratch / "hyperfine.json"
    line = ["hyperfine", "--shell=none", "--style=none", f"--warmup={WARM_UP}", f"--runs={batch.runs}"]
    line += ["--export-json", str(export)]
    if batch.empty_cache:
        line += ["--prepare", shlex.join(["rm", "-rf", f"{environment['XDG_RUNTIME_DIR']}/rolekey"])]
    line += [shlex.join(words) for words in batch.calls.values()]
    before = count_sessions(stage.requests)
    done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench: {done.stderr.decode(errors='replace')}")
    asked = count_sessions(stage.requests) - before
    expected = (batch.runs + WARM_UP) * len(batch.calls) * batch.sessions
    if asked != expected:
        raise SystemExit(f"scripts/bench: {asked} CreateSessions instead of {expected} ({batch.runtime})")
    times = [result["times"] for result in json.loads(export.read_text())["results"]]
    return dict(zip(batch.calls, times, strict=True))


def measure_all(stage: Stage, rounds: int) -> tuple[dict[Row, list[float]], dict[str, list[Crowd]]]:
    """Every row in turns, so that what else the machine does falls on all of them.

    Args:
        stage: what the calls have in common.
        rounds: how many turns.

    Returns:
        Seconds by row, and the crowds by name.
    """
    times: dict[Row, list[float]] = defaultdict(list)
    crowds: dict[str, list[Crowd]] = defaultdict(list)
    for number in range(1, rounds + 1):
        sys.stderr.write(f"== Round {number} of {rounds}\n")
        for batch in batches(stage):
            for row, seconds in measure(stage, batch).items():
                times[row] += seconds
        request = record_request(stage.rolekey("--no-cache", *stage.key(FILE)), stage.environment("misses"))
        for delay, url in stage.endpoints.items():
            times[FLOOR, delay] += measure_floor(url, stage.ca_bundle, request, SLOW_RUNS + WARM_UP)[WARM_UP:]
        for name in (RIGHT, WRONG):
            crowds[name].append(_crowd(stage, name, f"{name} {number}".replace(" ", "-")))
    return times, crowds


def _crowd(stage: Stage, name: str, runtime: str) -> Crowd:
    module = find_spy()
    assert module is not None, "scripts/system-packages has seen to it"
    environment = stage.environment(runtime)
    directory = stage.scratch / runtime
    pin = stage.token.pin_file
    if name == WRONG:
        pin = directory / "pin"
        pin.touch(mode=0o600)
        pin.write_text("not the PIN")
    key = ["--private-key", stage.token.uri("p-256", with_pin=False), "--pin-source", f"file:{pin}"]
    words = stage.rolekey("--endpoint", stage.endpoints[0], "--pkcs11-lib", str(module), *key)
    return run_crowd(words, environment, PKCS11Spy(module), stage.token.module, directory, stage.requests)


def summarise(times: Mapping[Row, list[float]]) -> list[dict[str, Any]]:
    """One document for each row, in milliseconds.

    Args:
        times: seconds by row.
    """
    medians = {row: statistics.median(values) * 1000 for row, values in times.items()}
    bare = medians[BARE, None]
    goals = {
        (HIT, None): 2.0 * bare,
        (HIT_BUNDLED, None): 2.0 * bare,
        (COLD + P256, 0): 0.6 * medians[SESSION + FILE, 0],
        (COLD + P256, DELAY): 1.9 * 3 * DELAY,
    }
    rows = []
    for (name, delay), values in times.items():
        median, goal = medians[name, delay], goals.get((name, delay))
        rows.append(
            {
                "row": name,
                "added_round_trip_ms": delay,
                "runs": len(values),
                "median_ms": median,
                "stddev_ms": statistics.stdev(values) * 1000,
                "min_ms": min(values) * 1000,
                "p95_ms": statistics.quantiles(values, n=20, method="inclusive")[-1] * 1000,
                "times_bare": median / bare,
                "goal_ms": goal,
                "times_goal": median / goal if goal else None,
                "all_ms": [value * 1000 for value in values],
            }
        )
    return rows


def render(rows: Sequence[Mapping[str, Any]], crowds: Mapping[str, Sequence[Crowd]]) -> str:
    """Both tables in Markdown.

    Args:
        rows: from `summarise`.
        crowds: by name.
    """
    columns = ("median", "stddev", "min", "p95")
    lines = [
        f"| row | added RTT | runs | {' | '.join(f'{column} ms' for column in columns)} | / bare | goal ms | / goal |",
        "|---" + "|---:" * 9 + "|",
    ]
    for row in rows:
        numbers = " | ".join(f"{row[f'{column}_ms']:.1f}" for column in columns)
        delay = "" if row["added_round_trip_ms"] is None else str(row["added_round_trip_ms"])
        goal = f"{row['goal_ms']:.1f} | {row['times_goal']:.2f}" if row["goal_ms"] else "|"
        lines.append(f"| {row['row']} | {delay} | {row['runs']} | {numbers} | {row['times_bare']:.2f} | {goal} |")
    lines += [
        "",
        f"| {PROCESSES} processes at once | median ms | CreateSession | C_SignInit | C_Login | answers | as promised |",
        "|---" + "|---:" * 5 + "|---|",
    ]
    for name, found in crowds.items():
        good = [crowd.spent_one_try() if name == WRONG else crowd.agrees() for crowd in found]
        counts = [
            ", ".join(str(count) for count in sorted(set(values)))
            for values in (
                [crowd.sessions for crowd in found],
                [crowd.signatures for crowd in found],
                [crowd.logins for crowd in found],
                [len(set(crowd.answers) - {b""}) for crowd in found],
            )
        ]
        milliseconds = statistics.median(crowd.seconds for crowd in found) * 1000
        lines.append(f"| {name} | {milliseconds:.0f} | {' | '.join(counts)} | {sum(good)} of {len(good)} times |")
    return "\n".join(lines) + "\n"


def describe(stage: Stage) -> dict[str, Any]:
    """What was measured, and on what."""
    python = str(stage.environments / "newest-pip" / "bin" / "python")
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = {
        name: _output(str(stage.environments / name / "bin" / "python"), "-m", "pip", "list", "--format=freeze").split()
        for name in ("newest-pip", "bundled-pip", "boto3", "session")
    }
    return {
        "commit": _output("git", "describe", "--always", "--dirty"),
        "python": _output(python, "-VV"),
        "hyperfine": _output("hyperfine", "--version"),
        "helper": _output(stage.helper, "version") if stage.helper else None,
        "platform": platform.platform(),
        "cpu": f"{os.cpu_count()} x {cpu[0].partition(': ')[2] if cpu else platform.machine()}",
        "load": os.getloadavg(),
        "packages": packages,
    }


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def set_up(environments: Path) -> Iterator[Stage]:
    """The sandbox's token and emulator, near and far.

    Args:
        environments: where scripts/bench put its environments.
    """
    words = os.environ["SANDBOX_OPTIONS"].split()
    options = dict(zip(words[::2], words[1::2], strict=True))
    near = options.pop("--endpoint")
    token = ProvisionedToken(Path(os.environ["SANDBOX"]))
    with (
        tempfile.TemporaryDirectory() as scratch,
        DelayingProxy(urlsplit(near).port or 443, DELAY / 1000) as proxy,
    ):
        endpoints = {0: near, DELAY: f"https://{proxy.address}"}
        requests, helper = Path(os.environ["SANDBOX_REQUESTS"]), os.environ.get("OFFICIAL_HELPER", "")
        stage = Stage(environments, Path(scratch), token, options, endpoints, requests, helper)
        emulator_ca = (token.directory / "tls" / "ca.pem").read_text()
        stage.ca_bundle.write_text(Path(certifi.where()).read_text(encoding="utf-8") + emulator_ca, encoding="utf-8")
        yield stage


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What a call costs.")
    parser.add_argument("--environments", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=10, help="how often every row has its turn (10)")
    arguments = parser.parse_args()
    with set_up(arguments.environments) as stage:
        description = describe(stage)
        try_once(stage)
        times, crowds = measure_all(stage, arguments.rounds)
    rows = summarise(times)
    now = datetime.now(UTC)
    results = arguments.environments / f"results-{now:%Y%m%dT%H%M%SZ}.json"
    counts = {name: [{**vars(crowd), "answers": len(set(crowd.answers))} for crowd in crowds[name]] for name in crowds}
    results.write_text(json.dumps({"made": f"{now:%Y-%m-%dT%H:%M:%SZ}", **description, "rows": rows, "crowds": counts}))
    sys.stdout.write(f"{render(rows, crowds)}\n{results}\n")


if __name__ == "__main__":
    main()
