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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
PAGE_IDS = [path.relative_to(PROJECT).as_posix() for path in PAGES]

FENCE = re.compile(r"^```(bash|console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_PLACEHOLDER = re.compile(r"(outputs/[\w/]+)/<time>")
CONFIG_OF_SCRIPT = {
    "train.py": "train",
    "evaluate.py": "evaluate",
    "predict.py": "predict",
    "scripts/export.py": "export",
    "scripts/neighbors.py": "neighbors",
}
LITERAL_KEYS = ("text", "word", "analogy")  # their values are taken as they stand
HYDRA_FLAGS = {"-m", "--multirun", "--help"}
HYDRA_OPTIONS = {"--config-dir", "--cfg"}  # each has a value
MADE_BY_A_SEARCH = "experiment=best"  # its file is there once a search has run

# Corpora that are not on every machine, and the generated ones that take their place.
SMALLER = [
    (re.compile(r"\bdata=(imdb|r8|r52)\b"), "data=synthetic"),
    (re.compile(r"\bdata=reuters\b"), "data=synthetic data.multilabel=true data.num_labels=5"),
    (re.compile(r"\b(experiment=(?!best)\S+)"), r"\1 data=synthetic"),
    (re.compile(r"\boutputs/(imdb|reuters)/"), "outputs/synthetic/"),
]


@dataclass(frozen=True)
class Block:
    page: Path
    line: int  # of the fence
    language: str
    text: str

    def commands(self) -> Iterator[str]:
        """Its shell commands, each with its continued lines joined."""
        text = self.text.replace("\\\n", " ")
        for line in text.splitlines():
            if self.language == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            if line.strip() and not line.startswith("#"):
                yield line


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: match.start()].count("\n") + 1, match.group(1), match.group(2))
        for match in FENCE.finditer(text)
    ]


def programs(command: str) -> list[list[str]]:
    """The words of every program in a shell command, without comments."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    lexer.whitespace_split = True
    programs: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;()<>"):
            programs.append([])
        else:
            programs[-1].append(word)
    return [words for words in programs if words]


def problems(words: list[str]) -> list[str]:
    """What is wrong with a program's arguments, by the configs, the Makefile and the scripts of this checkout."""
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return [f"make has no target {word}" for word in words[1:] if "=" not in word and word not in targets]
    script = next((word for word in words if word.endswith(".py")), None)
    if script is None:
        return []
    if not (PROJECT / script).is_file():
        return [f"there is no {script}"]
    arguments = words[words.index(script) + 1 :]
    if script in CONFIG_OF_SCRIPT:
        return hydra_problems(CONFIG_OF_SCRIPT[script], arguments)
    source = (PROJECT / script).read_text(encoding="utf-8")
    options = [argument for argument in arguments if argument.startswith("--")]
    return [f"{script} has no option {option}" for option in options if f'"{option}"' not in source]


def hydra_problems(config_name: str, arguments: list[str]) -> list[str]:
    overrides = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument in HYDRA_OPTIONS:
            next(remaining)
        elif argument in HYDRA_FLAGS or argument == MADE_BY_A_SEARCH:
            continue
        elif argument.startswith("-"):
            return [f"unknown option {argument}"]
        else:
            overrides.append(quoted(argument))
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        choices = [override for override in parsed if is_choice(override)]
        return [
            *missing_choices(choices),
            *(
                f"{override.key_or_group} is not a setting"
                for override in parsed
                if not is_choice(override)
                for job in jobs([choice for choice in choices if brings_keys(choice, override.key_or_group)])
                if not has_key(composed(config_name, tuple(job)), override.key_or_group)
            ),
        ]
    except HydraException as error:
        return [str(error)]


def missing_choices(choices: list[Override]) -> list[str]:
    return [
        f"there is no {choice}"
        for job in jobs(choices)
        for choice in job
        if not (PROJECT / "configs" / f"{choice.replace('=', '/')}.yaml").is_file()
    ]


def brings_keys(choice: Override, key: str) -> bool:
    """Whether the choice can decide if there is such a key, so that few configs are composed for many commands."""
    section = key.partition(".")[0]
    group = choice.key_or_group.partition("/")[0]
    return group in (section, "experiment") or (group, section) in (("model", "embedding"), ("sweep", "hydra"))


@cache
def composed(config_name: str, choices: tuple[str, ...]) -> DictConfig:
    return compose(config_name, list(choices), return_hydra_config=True)


def is_choice(override: Override) -> bool:
    """Whether it chooses a file of a directory of configs, and does not set a value."""
    return (PROJECT / "configs" / override.key_or_group).is_dir()


def has_key(config: DictConfig, key: str) -> bool:
    node: object = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
    return True


def quoted(argument: str) -> str:
    key, _, value = argument.partition("=")
    return f"{key}='{value}'" if key in LITERAL_KEYS else argument


def jobs(choices: list[Override]) -> Iterator[list[str]]:
    """The choices of jobs in which every value of a sweep occurs."""
    values = [
        [f"{choice.key_or_group}={value}" for value in choice.sweep_string_iterator()]
        if choice.is_sweep_override()
        else [str(choice.input_line)]
        for choice in choices
    ]
    for number in range(max(map(len, values), default=1)):
        yield [of_one[number % len(of_one)] for of_one in values]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_command_has_settings_that_exist(page: Path) -> None:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        failures = [
            f"{page.name}:{block.line}: {command}: {problem}"
            for block in blocks(page)
            if block.language != "python"
            for command in block.commands()
            for words in programs(RUN_PLACEHOLDER.sub(r"\1/time", command))
            for problem in problems(words)
        ]
    assert failures == []


@pytest.mark.parametrize(
    ("command", "num_problems"),
    [
        ("python train.py model=lstm data=synthetic", 0),
        ("python train.py model=lstmm data=synthetic", 1),
        ("python train.py -m model=bow,lstmm data=synthetic", 1),
        ("python train.py data=synthetic data.num_document=3", 1),
        ("echo a film | python predict.py run=outputs/x topk=3", 1),
        ("python scripts/compare.py outputs --outptu table", 1),
        ("python train.py data=synthetic --hlep", 1),
        ("make trian", 1),
        ("torchrun --nnodes 2 train.py trainer=dpp", 1),
    ],
)
def test_a_wrong_command_has_a_problem(command: str, num_problems: int) -> None:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        assert sum(len(problems(words)) for words in programs(command)) == num_problems


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = page.parent / path if path else page
        is_broken = anchor not in anchors(file) if anchor and file.is_file() else not file.exists()
        if is_broken:
            broken.append(target)
    assert broken == []


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def small(command: str) -> str:
    """The command on a small generated corpus, with one thread."""
    for pattern, replacement in SMALLER:
        command = pattern.sub(replacement, command)
    if "python train.py" not in command or any(word in command for word in ("resume=", "--help", "--cfg")):
        return command
    shrunk = ["trainer.threads=1", "evaluation.figures=false"]
    if "data=synthetic" in command and "data.num_documents" not in command:
        shrunk.append("data.num_documents=200")
    if "max_epochs" not in command and "debug=" not in command:
        shrunk.append("training.max_epochs=1")
    return " ".join((command, *shrunk))


def with_runs(command: str, directory: Path) -> str:
    """The command with the newest run in the place of every `outputs/…/<time>`."""

    def newest(match: re.Match[str]) -> str:
        runs = sorted((directory / match.group(1)).glob("*"), key=lambda path: path.stat().st_mtime)
        assert runs, f"no run in {match.group(1)}, which {command} names"
        return f"{match.group(1)}/{runs[-1].name}"

    return RUN_PLACEHOLDER.sub(newest, command)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the commands, configs and scripts, and no outputs."""
    for name in ("train.py", "evaluate.py", "predict.py", "configs", "scripts"):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_blocks_run_in_order(page: Path, checkout: Path, cache_dir: Path) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "OMP_NUM_THREADS": "1",
        "NEWSREEL_CACHE_DIR": str(cache_dir),
        "NEWSREEL_CORPORA_DIR": "corpora",
    }
    bash = shutil.which("bash")
    assert bash is not None
    for block in blocks(page):
        if block.language == "bash":
            for command in block.commands():
                run([bash, "-euo", "pipefail", "-c", with_runs(small(command), checkout)], checkout, environment)
        elif block.language == "python":
            run([sys.executable, "-c", with_runs(small(block.text), checkout)], checkout, environment)


def run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
