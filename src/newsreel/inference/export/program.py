"""What an export has beside the model to classify texts with public packages alone: README, program and settings."""

import json
import shutil
from pathlib import Path
from string import Template

from newsreel.batches.batch import BatchSettings
from newsreel.runs.trained_run import TrainedRun
from newsreel.text.characters import WHITESPACE
from newsreel.text.rules import ENTITY, HTML_TAG
from newsreel.text.subwords import FittedSubwords
from newsreel.text.words import PUNCTUATION, TITLE, TITLE_MARK

NO_LIMIT = 10**9  # tokens of a document

README = Template("""\
# $title

`model.onnx` computes the probability of each of $num_labels labels ($task) for each document. $verified

| | | |
|---|---|---|
| input `token_ids` | (documents, tokens), int64 | token ids of the texts, with any padding at the end |
| input `lengths` | (documents,), int64 | number of tokens of each document, 0 or more |
| output `probabilities` | (documents, labels), float32 | in the order of `names` in labels.json |

To classify texts with `classify.py`, which needs neither newsreel nor torch:

```bash
pip install onnxruntime numpy $package
python classify.py "a text" "another"
```
""")
CLASSIFY = Path(__file__).with_name("classify.py")
PATTERNS = {
    "entity": ENTITY,
    "html_tag": HTML_TAG,
    "punctuation": PUNCTUATION,
    "title": TITLE,
    "title_mark": TITLE_MARK,
    "whitespace": WHITESPACE,
}


def write_program(run: TrainedRun, verified: str, folder: Path) -> None:
    """Write classify.py, its settings and README.md. verified: the result of the verification, as a sentence."""
    shutil.copy(CLASSIFY, folder)
    give_parents = bool(run.classifier.decisions.ancestor_edges)
    settings = {"tokens_read": tokens_read(run.experiment.batches), "give_parents": give_parents, **PATTERNS}
    (folder / "classify.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    readme = README.substitute(
        title=f"{run.command.choices.get('model', 'model')} on {run.command.choices.get('data', 'documents')}",
        num_labels=len(run.labels.names),
        task=run.labels.task,
        verified=verified,
        package="tokenizers" if isinstance(run.tokenizer, FittedSubwords) else "polars",
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")


def tokens_read(batches: BatchSettings) -> tuple[int, int]:
    """Numbers of tokens that are read from the beginning and the end of a long document."""
    limit = batches.max_tokens
    if limit is None:
        return NO_LIMIT, 0
    if batches.truncation == "head_tail":
        return (limit + 1) // 2, limit // 2
    return (limit, 0) if batches.truncation == "head" else (0, limit)
