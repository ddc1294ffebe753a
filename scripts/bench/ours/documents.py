"""Write the documents of every split for the peers: `python -m bench.ours.documents <folder> data=imdb …`."""

import json
import sys
from pathlib import Path

from bench.ours.experiment import experiment_of


def main() -> None:
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    experiment = experiment_of(overrides)
    corpus = experiment.reader.load(experiment.paths)
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in corpus[split].select_columns(["text", "labels"]):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
