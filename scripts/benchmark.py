"""Measure newsreel and what a user would pick instead: `python scripts/benchmark.py [row …]`, or `make bench`.

Both sides of a row work on the same documents and alternate. Figures are kept in benchmark.json beside the page, by
row, so that rows can be measured on different days; the page is written from that file. The rows are in bench/rows.py.
"""

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.contenders import Contender
from bench.environments import PeerError
from bench.page import page
from bench.results import Result, Side, read_results, write_results
from bench.rows import ROWS, Row
from bench.session import PROJECT, MeasurementError, Session
from newsreel.core.errors import USER_MISTAKE
from newsreel.core.storage import write_atomically
from newsreel.core.terminal import print_every_character
from newsreel.runs.environment import git_commit, processor_name

BASELINE = "e32077b"  # before the work on speed
RESULTS_FILE, PAGE_FILE = "benchmark.json", "benchmark.md"  # in the directory of the page
PACKAGES = ("torch", "lightning", "polars")


def main() -> int:
    print_every_character()
    parser = argparse.ArgumentParser(description="Measure newsreel and its peers; write docs/benchmark.md.")
    parser.add_argument("rows", nargs="*", metavar="row", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side")
    parser.add_argument("--limit", type=int, help="number of documents of each class, for a trial: not a measurement")
    parser.add_argument("--baseline", default=BASELINE, help="git revision of the rows that compare with one")
    parser.add_argument("--environments", type=Path, default=PROJECT / ".venv" / "bench", help="folder of the peers'")
    parser.add_argument(
        "--docs", type=Path, help="directory of the page; default: docs, or outputs/benchmark of a trial"
    )
    parser.add_argument("--page", action="store_true", help="only write the page of the results; measure nothing")
    arguments = parser.parse_args()
    if unknown := [row for row in arguments.rows if row not in ROWS]:
        print(f"error: there is no row {unknown[0]}: choose from {', '.join(ROWS)}", file=sys.stderr)
        return USER_MISTAKE
    if arguments.rounds < 1:
        print(f"error: --rounds is {arguments.rounds}: it must be at least 1", file=sys.stderr)
        return USER_MISTAKE
    is_trial = arguments.limit is not None
    docs: Path = arguments.docs or (Path("outputs/benchmark") if is_trial else PROJECT / "docs")
    docs.mkdir(parents=True, exist_ok=True)
    results = read_results(docs / RESULTS_FILE)
    failed = False
    if not arguments.page:
        for result in measure_rows(arguments.rows or list(ROWS), arguments):
            results[result.row] = result
            failed |= not result.ratios
            write(docs, results)
    write(docs, results)
    return 1 if failed else 0


def write(docs: Path, results: Mapping[str, Result]) -> None:
    write_results(docs / RESULTS_FILE, results, list(ROWS))
    write_atomically(docs / PAGE_FILE, page(ROWS, results))


def measure_rows(keys: Sequence[str], arguments: argparse.Namespace) -> Any:
    """Yield the result of each row as soon as it is measured; Ctrl-C ends the last one."""
    with TemporaryDirectory(prefix="newsreel-benchmark-") as folder:
        environments = arguments.environments.resolve()
        session = Session(Path(folder), environments, arguments.limit, arguments.baseline)
        for key in keys:
            try:
                sides = measure(ROWS[key], session, arguments.rounds)
            except KeyboardInterrupt:
                print(f"stopped in {key}; the rows before it are kept", file=sys.stderr)
                return
            yield Result(key, *sides, measured=describe_measurement(key, arguments), limit=arguments.limit)


def measure(row: Row, session: Session, rounds: int) -> tuple[Side, Side]:
    """Both sides of a row, A B A B. A side that fails is left out from then on, with its error."""
    contenders: list[Contender] = [row.ours, row.peer]
    sides = [prepare(contender, session) for contender in contenders]
    for number in range(1, rounds + 1):
        for index, contender in enumerate(contenders):
            if sides[index].error is None:
                sides[index] = measure_once(contender, sides[index], session)
                print(f"{row.key} {number}/{rounds}  {contender.name}: {latest(sides[index], contender)}", flush=True)
    return sides[0], sides[1]


def prepare(contender: Contender, session: Session) -> Side:
    try:
        contender.prepare(session)
    except (PeerError, MeasurementError) as error:
        print(f"{contender.name}: {error}", file=sys.stderr)
        return Side(error=str(error))
    return Side()


def measure_once(contender: Contender, side: Side, session: Session) -> Side:
    """The side with one more measurement, or with the error that kept it from one."""
    try:
        side.add(contender.run(session), contender.figure)
    except MeasurementError as error:
        return Side(error=str(error))
    return side


def latest(side: Side, contender: Contender) -> str:
    if side.error is not None:
        return side.error
    scores = f", score {side.scores[-1]:.4f}" if side.scores else ""
    return f"{contender.figure} {side.values[-1]:.4g}{scores}"


def describe_measurement(key: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The machine, versions and command of a measurement, for its record."""
    options = [f"--rounds {arguments.rounds}"]
    if arguments.limit is not None:
        options.append(f"--limit {arguments.limit}")
    if getattr(ROWS[key].peer, "is_baseline", False):
        options.append(f"--baseline {shlex.quote(arguments.baseline)}")
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "command": f"`python scripts/benchmark.py … {' '.join(options)}`",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        **({"OMP_NUM_THREADS": threads} if threads else {}),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "newsreel": (git_commit() or "unknown")[:7],
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
