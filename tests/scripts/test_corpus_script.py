"""`scripts/corpus.py`, as a user calls it."""

from pathlib import Path

import pytest

from helpers.own_files import write_csv
from helpers.project import Command
from helpers.tiny_runs import SYNTHETIC


def test_a_corpus_of_files_is_described_on_the_terminal_and_on_a_page(command_here: Command, tmp_path: Path) -> None:
    documents = [
        (f"a {'fine' if number % 2 else 'dull'} film {number // 4}", f"<b>{number % 2}") for number in range(40)
    ]
    write_csv(tmp_path / "own.csv", documents)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.csv").write_text("review\na dull film 3\nnew\nnew\n")
    own = ["data=files", "data.train=own.csv", "data.text=review", "data.label=stars", "data.unlabeled=more/new.csv"]
    done = command_here("scripts/corpus.py", *own)
    assert done.returncode == 0, done.stderr
    assert "files: binary, 2 labels, from own.csv, more/new.csv\n" in done.stdout
    assert "train: repeats another, word for word" in done.stdout
    unlabeled = done.stdout.partition("Unlabelled documents")[2].partition("\nLengths")[0].splitlines()
    figures = dict(line.strip().rsplit(maxsplit=1) for line in unlabeled if line[-1:].isdigit())
    assert figures["unlabelled documents"] == "3"
    assert figures["repeats another, word for word"] == "1"
    assert done.stdout.endswith("page  outputs/corpus/files_own.html\n")
    page = (tmp_path / "outputs" / "corpus" / "files_own.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;0" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    "tokenizer",
    [
        pytest.param(["tokenizer=subwords", "tokenizer.max_size=300"], marks=pytest.mark.slow),
        ["tokenizer=ngrams", "model=bow"],
    ],
)
def test_other_tokenizers_have_no_words_to_count(command_here: Command, tmp_path: Path, tokenizer: list[str]) -> None:
    done = command_here("scripts/corpus.py", *SYNTHETIC, *tokenizer, "output=here/page.html", "num_documents=1")
    assert done.returncode == 0, done.stderr
    assert "tokens, learned from the training documents" in done.stdout
    assert (tmp_path / "here" / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["near_jaccard=0.2"], "near_jaccard is 0.2: it must be at least 0.6"),
        pytest.param(["num_documents=0"], "num_documents is 0: it must be at least 1", marks=pytest.mark.slow),
        pytest.param(["batches.max_token=3"], "max_token", marks=pytest.mark.slow),
    ],
)
def test_settings_that_do_not_exist_or_are_out_of_range(
    command_here: Command, arguments: list[str], message: str
) -> None:
    done = command_here("scripts/corpus.py", *SYNTHETIC, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
