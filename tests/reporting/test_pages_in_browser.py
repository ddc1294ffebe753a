"""The pages in a real browser: the policy refuses nothing of theirs, and the colours follow the system."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.shared_runs import SharedRuns
from helpers.tested_runs import mistaken, write_tested_run
from newsreel.reporting.comparison import Comparison
from newsreel.reporting.summary_page import write_summary_page
from newsreel.runs.records import find_runs
from readme_figure import BROWSERS

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
TARGETS = [row % 2 for row in range(60)]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")]


def rendered(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """The document after its script has run, and what the browser logged."""
    process = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--enable-logging=stderr", *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout, "\n".join(line for line in process.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("scheme", [0, 1])  # Blink's numbers: dark, light
def test_the_script_runs_under_the_policy_and_knows_the_colours(
    tmp_path: Path, shared_runs: SharedRuns, scheme: int
) -> None:
    for name in ("bow", "lstm"):
        write_tested_run(tmp_path / "runs" / name, f"model={name}", mistaken(TARGETS, [1]), TARGETS)
    write_summary_page(Comparison(find_runs([tmp_path / "runs"])), tmp_path, "Sweep")
    report = shared_runs.run("model=bow", "evaluation.figures=true") / "report.html"
    for page in (tmp_path / "summary.html", report):
        dom, console = rendered(page, tmp_path / "profile", f"--blink-settings=preferredColorScheme={scheme}")
        assert console == ""
        assert re.search(r"<th[^>]*><button type=\"button\">test accuracy|<button type=\"button\">label", dom)
        toggle = re.search(r'<button type="button" id="theme">(.*?)</button>', dom)
        assert toggle is not None
        assert toggle[1] == ("Dark colours" if scheme else "Light colours")
