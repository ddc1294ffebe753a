"""The commands of README.md and docs/: their settings exist, and those in ```bash and ```python blocks run as written.

A ```bash block holds commands that run anywhere in seconds. A ```console block holds commands after `$ ` that need the
internet, a GPU, a cluster or an hour: they are checked, but not run.

To run in seconds, commands are made smaller, in the ways that docs/README.md describes: see `SMALLER` and `small`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from helpers.project import CONFIGS, PROJECT
from newsreel.inference.export.program import CLASSIFY

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
FENCE = re.compile(r"^```(bash|console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_PLACEHOLDER = re.compile(r"(outputs/[\w/]+)/<time>")
COMPOSING = (
    *("train.py", "pretrain.py", "evaluate.py", "predict.py", "scripts/export.py", "scripts/neighbors.py"),
    *("scripts/corpus.py", "scripts/kneser_ney.py", "scripts/demo.py"),
)
LITERAL_KEYS = ("text", "word", "analogy")  # their values are taken as they stand
HYDRA_FLAGS = ("-m", "--multirun", "--help")
HYDRA_OPTIONS = ("--config-dir", "--cfg")  # each has a value
MADE_BY_A_SEARCH = "experiment=best"  # its file is there once a search has run
# Corpora that are not on every machine, and the generated ones that take their place.
SMALLER = [
    (r"\bdata=(imdb|r8|r52)\b", "data=synthetic"),
    (r"\bdata=reuters\b", "data=synthetic data.multilabel=true data.num_labels=5"),
    (r"\b(experiment=(?!best)\S+)", r"\1 data=synthetic"),
    (r"\boutputs/(imdb|reuters)/", "outputs/synthetic/"),
]


class Block(NamedTuple):
    line: int  # of the fence
    language: str
    text: str

    def commands(self) -> list[str]:
        """Its shell commands, each with its continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(text[: fence.start()].count("\n") + 1, fence[1], fence[2]) for fence in FENCE.finditer(text)]
    return [block for block in found if block.language in languages]


def programs(command: str) -> list[list[str]]:
    """The words of every program in a shell command, without comments."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts = groupby(lexer, key=lambda word: set(word) <= set("|&;()<>"))
    return [list(words) for is_between, words in parts if not is_between]


def problems(words: list[str]) -> list[str]:
    """What is wrong with a program's arguments, by the configs, the Makefile and the scripts of this checkout."""
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return [f"make has no target {word}" for word in words[1:] if "=" not in word and word not in targets]
    script = next((word for word in words if word.endswith(".py")), None)
    if script is None:
        return []
    file = CLASSIFY if script == CLASSIFY.name else PROJECT / script  # classify.py lies in the directory of an export
    if not file.is_file():
        return [f"there is no {script}"]
    arguments = words[words.index(script) + 1 :]
    if script in COMPOSING:
        return hydra_problems(Path(script).stem, arguments)
    source = file.read_text(encoding="utf-8")
    options = [argument for argument in arguments if argument.startswith("--")]
    return [f"{script} has no option {option}" for option in options if f'"{option}"' not in source]


def hydra_problems(config_name: str, arguments: list[str]) -> list[str]:
    overrides = []
    remaining = iter(arguments)
    for argument in remaining:
        key, _, value = argument.partition("=")
        if argument in HYDRA_OPTIONS:
            next(remaining)
        elif argument.startswith("-") and argument not in HYDRA_FLAGS:
            return [f"unknown option {argument}"]
        elif argument not in HYDRA_FLAGS and argument != MADE_BY_A_SEARCH:
            overrides.append(f"{key}='{value}'" if key in LITERAL_KEYS else argument)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        choices = [override for override in parsed if (CONFIGS / override.key_or_group).is_dir()]
        files = [choice for job in jobs(choices) for choice in job]
        found = [f"there is no {file}" for file in files if not (CONFIGS / f"{file.replace('=', '/')}.yaml").is_file()]
        for key in [override.key_or_group for override in parsed if override not in choices]:
            deciding = [choice for choice in choices if brings_keys(choice, key)]
            if not all(key in keys(config_name, *job) for job in jobs(deciding)):
                found.append(f"{key} is not a setting")
    except HydraException as error:
        return [str(error)]
    return found


def brings_keys(choice: Override, key: str) -> bool:
    """Whether the choice can decide if there is such a key, so that few configs are composed for many commands."""
    section = key.partition(".")[0]
    group = choice.key_or_group.partition("/")[0]
    others = (("model", "embedding"), ("sweep", "hydra"), ("sweep", "budget_minutes"))
    return group in (section, "experiment") or (group, section) in others


@cache
def keys(config_name: str, *choices: str) -> set[str]:
    """All keys of a config, with their sections."""
    config = compose(config_name, list(choices), return_hydra_config=True)
    return set(dotted(OmegaConf.to_container(config, resolve=False)))


def dotted(section: Any, prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def jobs(choices: list[Override]) -> list[list[str]]:
    """The choices of jobs in which every value of a sweep occurs."""
    values = [
        [f"{choice.key_or_group}={value}" for value in choice.sweep_string_iterator()]
        if choice.is_sweep_override()
        else [str(choice.input_line)]
        for choice in choices
    ]
    return [[of_one[n % len(of_one)] for of_one in values] for n in range(max(map(len, values), default=1))]


@every_page
def test_every_command_has_settings_that_exist(page: Path) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        failures = [
            f"{page.name}:{block.line}: {command}: {problem}"
            for block in blocks(page, "bash", "console")
            for command in block.commands()
            for words in programs(RUN_PLACEHOLDER.sub(r"\1/time", command))
            for problem in problems(words)
        ]
    assert failures == []


@pytest.mark.parametrize(
    ("command", "num_problems"),
    [
        ("python train.py model=lstm data=synthetic model.hidden_size=3", 0),
        ("python train.py model=lstmm data=synthetic", 1),
        ("python train.py -m model=bow,lstmm data=synthetic", 1),
        ("python train.py -m model=lstm,bow data=synthetic model.hidden_size=3", 1),
        ("python train.py data=synthetic data.num_document=3", 1),
        ("echo a film | python predict.py run=outputs/x topk=3", 1),
        ("python scripts/compare.py outputs --outptu table", 1),
        ("python train.py data=synthetic --hlep", 1),
        ('python classify.py "a film"', 0),
        ("python classify.py --html page a", 1),
        ("make trian", 1),
        ("torchrun --nnodes 2 train.py trainer=dpp", 1),
    ],
)
def test_a_wrong_command_has_a_problem(command: str, num_problems: int) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert sum(len(problems(words)) for words in programs(command)) == num_problems


@every_page
def test_python_blocks_are_python_and_links_lead_somewhere(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block.text, f"{page.name}:{block.line}", "exec")
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        is_there = anchor in anchors(file) if anchor and file.is_file() else file.exists()
        if not is_there and not re.match(r"[a-z]+:", target):
            broken.append(target)
    assert broken == []


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def small(command: str) -> str:
    """The command on a small generated corpus, with one thread."""
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    if "python train.py" not in command or any(word in command for word in ("resume=", "--help", "--cfg")):
        return command
    shrunk = ["trainer.threads=1", "evaluation.figures=false"]
    if "data=synthetic" in command and "data.num_documents" not in command:
        shrunk.append("data.num_documents=200")
    if "max_epochs" not in command and "debug=" not in command:
        shrunk += ["training.max_epochs=1", "training.min_steps_per_epoch=1"]
    return " ".join((command, *shrunk))


def with_runs(command: str, directory: Path) -> str:
    """The command with the newest run in the place of every `outputs/…/<time>`."""

    def newest(match: re.Match[str]) -> str:
        runs = sorted((directory / match[1]).glob("*"), key=lambda path: path.stat().st_mtime)
        assert runs, f"no run in {match[1]}, which {command} names"
        return f"{match[1]}/{runs[-1].name}"

    return RUN_PLACEHOLDER.sub(newest, command)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_page
def test_blocks_run_in_order(page: Path, tmp_path: Path, cache_dir: Path) -> None:
    for name in ("train.py", "pretrain.py", "evaluate.py", "predict.py", "configs", "scripts"):
        (tmp_path / name).symlink_to(PROJECT / name)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NEWSREEL_CORPORA_DIR": "corpora"}
    environment["NEWSREEL_CACHE_DIR"] = str(cache_dir)
    bash = [str(shutil.which("bash")), "-euo", "pipefail", "-c"]
    for block in blocks(page, "bash", "python"):
        shell = bash if block.language == "bash" else [sys.executable, "-c"]
        for command in block.commands() if block.language == "bash" else [block.text]:
            words = [*shell, with_runs(small(command), tmp_path)]
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
