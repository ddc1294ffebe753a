"""Run directories of earlier versions: those of the same format open, others are refused.

tests/fixtures/run_dir was written by newsreel 0.2.0, from the root of the repository:

    python train.py model=bow data=synthetic data.num_documents=150 data.vocabulary_size=100 data.mean_length=12 \
        data.difficulty=0 trainer=cpu trainer.threads=1 logger=none evaluation.figures=false \
        hydra.run.dir=tests/fixtures/run_dir
    rm tests/fixtures/run_dir/run.log tests/fixtures/run_dir/checkpoints/last*.ckpt
    git add --force tests/fixtures/run_dir

run_dir_documents.txt has its test documents, one a line; predictions.parquet in the directory says what they got.
It stays as it is: a change that cannot open it raises RUN_FORMAT and writes another one beside it.
"""

import json
import shutil
import time
from pathlib import Path

import polars as pl
import pytest

import newsreel
from newsreel.core.errors import UserError
from newsreel.runs.run_dir import RUN_FORMAT
from newsreel.training.resume import resume

RUN_DIR = Path(__file__).parents[1] / "fixtures" / "run_dir"
DOCUMENTS = RUN_DIR.with_name("run_dir_documents.txt")


def test_the_committed_run_is_small_and_gives_its_recorded_predictions() -> None:
    recorded = pl.read_parquet(RUN_DIR / "predictions.parquet")
    results = newsreel.load(RUN_DIR)(DOCUMENTS.read_text(encoding="utf-8").splitlines())
    assert len(set(recorded["predicted"])) == 2
    assert [result["label"] for result in results] == recorded["predicted"].to_list()
    for name in json.loads((RUN_DIR / "labels.json").read_text())["names"]:
        probabilities = [result["probabilities"][name] for result in results]
        assert probabilities == pytest.approx(recorded[f"p({name})"].to_list(), abs=1e-6)
    assert sum(path.stat().st_size for path in RUN_DIR.rglob("*") if path.is_file()) < 60_000
    assert json.loads((RUN_DIR / "command.json").read_text())["format"] == RUN_FORMAT


@pytest.mark.parametrize(
    ("run_format", "reason"),
    [
        (None, "has run format 1, and this version of newsreel opens format 2: use newsreel 0.1.0."),
        (3, "has run format 3, and this version of newsreel opens format 2: use the newer newsreel that wrote it."),
        ("two", "command.json is not as a run has written it: format: Input should be a valid integer"),
    ],
)
def test_other_formats_are_refused_with_the_remedy(tmp_path: Path, run_format: object, reason: str) -> None:
    """None: the directory has no format number, as newsreel 0.1 wrote it."""
    run_dir = Path(shutil.copytree(RUN_DIR, tmp_path / "run"))
    content = json.loads((run_dir / "command.json").read_text())
    del content["format"]
    content |= {} if run_format is None else {"format": run_format}
    (run_dir / "command.json").write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    for open_it in (newsreel.load, lambda folder: resume(folder, {}, [], time.perf_counter())):
        with pytest.raises(UserError) as error:
            open_it(run_dir)
        assert reason in str(error.value)
        assert str(run_dir) in str(error.value)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
