"""Run the lecture's set-ups and compare their scores with the published ones: `python scripts/lecture.py`.

Each file in configs/experiment/lecture is trained once per seed, in its own process, unless it has already been trained
with the same settings. The table has one row per file, with means and standard deviations over the seeds.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from newsreel.core.errors import USER_MISTAKE, explain
from newsreel.core.markdown import format_mean_std, markdown_table
from newsreel.core.storage import write_atomically
from newsreel.core.terminal import print_every_character
from newsreel.runs.records import IGNORED_SECTIONS

PROJECT = Path(__file__).resolve().parents[1]
SETUPS = PROJECT / "configs" / "experiment" / "lecture"
TUNED = "_tuned"
SECTIONS_WITHOUT_EFFECT = (*IGNORED_SECTIONS, "resume", "trainer")  # on scores
HEAD = """# The lecture's set-ups

Made by `python scripts/lecture.py`, which trains what is missing and writes this file. A row without `_tuned` is
faithful to a published set-up (vocabulary, length, sizes, optimiser, epochs; see its file under
`configs/experiment/lecture/`), the row after it is the same family of models with this project's settings. Figures are
accuracies of the epoch with the best validation accuracy, as the published validation figures are: mean ± standard
deviation over the seeds. All but the newswires validate on 5,000 of the 25,000 training reviews, which are drawn at
random where the notebooks took the last ones. Epochs are timed with their validation. A dash: not run yet.
"""


@dataclass(frozen=True)
class Row:
    """A set-up with its runs."""

    name: str
    config: dict[str, Any]
    runs: list[dict[str, Any]]  # content of metrics.json, one per seed

    def cells(self) -> list[str]:
        published = self.config["published"]
        cells = [f"`{self.name}`"]
        for split, key in (("val", "val_accuracy"), ("test", "test_accuracy")):
            cells.append("" if published[key] is None else f"{published[key]:.4f}")
            scores = [run[f"{split}/accuracy"] for run in self.runs]
            deviation = stdev(scores) if len(scores) > 1 else None
            cells.append(format_mean_std(mean(scores), deviation) if scores else "–")
        if not self.runs:
            return [*cells, "", "", ""]
        seconds = mean(run["time/fit_s"] / run["train/epochs"] for run in self.runs)
        parameters = f"{self.runs[0]['model/parameters']:,}"
        return [*cells, f"{seconds:.1f}", parameters, f"`python train.py experiment=lecture/{self.name}`"]


def setups(patterns: Sequence[str]) -> list[str]:
    """The names that match one of the patterns, or all names; each faithful set-up before its tuned version."""
    names = sorted((file.stem for file in SETUPS.glob("*.yaml")), key=lambda name: (name.removesuffix(TUNED), name))
    return [name for name in names if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


def settings(experiment: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a file in configs/experiment. Raises Hydra's exceptions."""
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", *overrides])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def run_folder(output: Path, name: str, config: dict[str, Any], seed: int) -> Path:
    """The directory of a run. It depends on the settings that affect scores, not on paths or hardware."""
    relevant = {key: value for key, value in config.items() if key not in SECTIONS_WITHOUT_EFFECT}
    relevant["data"] = {key: value for key, value in config["data"].items() if key not in ("source", "path")}
    relevant["evaluation"] = {key: value for key, value in config["evaluation"].items() if key != "figures"}
    return output / name / sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8] / f"seed{seed}"


def train(experiment: str, seed: int, folder: Path, overrides: Sequence[str]) -> bool:
    """Train a file in configs/experiment in a run directory, unless it is finished; returns whether it has results."""
    if (folder / "metrics.json").exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    return call_train([f"experiment={experiment}", f"seed={seed}", *overrides], folder)


def call_train(arguments: Sequence[str], folder: Path) -> bool:
    """Run train.py in its own process, in a run directory; returns whether it succeeded."""
    print("python train.py", shlex.join(arguments), flush=True)
    command = [sys.executable, str(PROJECT / "train.py"), *arguments, f"hydra.run.dir={folder}"]
    return subprocess.run(command, check=False).returncode == 0


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with the seeds and the hardware."""
    names = [
        "set-up",
        "validation published",
        "validation here",
        "test published",
        "test here",
        "s/epoch",
        "parameters",
        "command",
    ]
    lines = markdown_table(names, [row.cells() for row in rows])
    runs = [run for row in rows for run in row.runs]
    seeds = sorted({run["environment"]["seed"] for run in runs})
    machines = sorted({f"threads: {run['environment']['threads']}, {run['environment']['processor']}" for run in runs})
    measured = f"\nSeeds {', '.join(map(str, seeds))}; {' and '.join(machines)}.\n" if runs else ""
    return f"{HEAD}\n" + "\n".join(lines) + f"\n{measured}"


def main() -> int:
    print_every_character()
    parser = argparse.ArgumentParser(description="Run the lecture's set-ups and write their table.")
    parser.add_argument("items", nargs="*", help="patterns of set-ups such as 'lstm*' (default: all), and key=value "
                        "settings for all set-ups")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--output", type=Path, default=Path("outputs/lecture"), help="directory of the runs")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs" / "lecture.md", help="file of the table")
    parser.add_argument("--table", action="store_true", help="only write the table of the existing runs; do not train")
    arguments = parser.parse_intermixed_args()
    overrides = [item for item in arguments.items if "=" in item]
    patterns = [item for item in arguments.items if "=" not in item]
    chosen = setups(patterns)
    if not chosen:
        print(f"error: no set-up matches {' '.join(patterns)}: choose from {', '.join(setups([]))}", file=sys.stderr)
        return USER_MISTAKE
    output = arguments.output.resolve()
    failures = []
    rows = []
    try:
        for name in setups([]):
            experiment = f"lecture/{name}"
            config = settings(experiment, overrides if name in chosen else [])
            folders = {seed: run_folder(output, name, config, seed) for seed in arguments.seeds}
            if name in chosen and not arguments.table:
                failures += [
                    f"{name} seed {seed}"
                    for seed, folder in folders.items()
                    if not train(experiment, seed, folder, overrides)
                ]
            files = [folder / "metrics.json" for folder in folders.values()]
            rows.append(Row(name, config, [json.loads(file.read_text()) for file in files if file.exists()]))
        if any(row.runs for row in rows):
            arguments.docs.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(arguments.docs, table(rows))
    except (HydraException, OmegaConfBaseException, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return USER_MISTAKE
    num_runs = sum(len(row.runs) for row in rows)
    if num_runs:
        print(f"{arguments.docs}: {num_runs} runs of {len(rows)} set-ups")
    else:
        print(f"error: {output} has no runs with these seeds and settings, so no table is written", file=sys.stderr)
    if failures:
        print(f"error: no results of {', '.join(failures)}", file=sys.stderr)
    return 1 if failures or not num_runs else 0


if __name__ == "__main__":
    sys.exit(main())
