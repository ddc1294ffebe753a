"""Compare runs in a table: `python scripts/compare.py outputs/sweeps/… outputs/imdb`."""

import argparse
import os
import sys
from pathlib import Path

from newsreel.core.errors import USER_MISTAKE, UserError, explain
from newsreel.core.terminal import print_every_character
from newsreel.reporting.comparison import Comparison
from newsreel.reporting.summary_page import PAGE_FILE, write_summary_page
from newsreel.runs.records import find_runs


def main() -> int:
    print_every_character()
    parser = argparse.ArgumentParser(description="Print a table of all runs in these folders, the best first.")
    parser.add_argument("folders", nargs="+", type=Path, help="directories of runs or sweeps, or folders of them")
    parser.add_argument("--output", type=Path, help="folder for summary.html, .md, .csv and .png (default: none)")
    arguments = parser.parse_args()
    try:
        comparison = Comparison(find_runs(arguments.folders))
        if not comparison.runs:
            raise UserError(f"there is no run in {' '.join(map(str, arguments.folders))}")
        print(comparison.text())
        if arguments.output is not None:
            title = f"Runs in {', '.join(map(str, arguments.folders))}"
            comparison.write(arguments.output, title)
            write_summary_page(comparison, arguments.output, title)
            print()
            for name in ("summary.md", PAGE_FILE):
                print(os.path.relpath(arguments.output / name))
    except (UserError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return USER_MISTAKE
    return 0


if __name__ == "__main__":
    sys.exit(main())
