"""Documents with coloured words, for the pages."""

from collections.abc import Sequence

import torch

from newsreel.core.errors import EXPECTED_ERRORS, first_line
from newsreel.evaluation.explanations import Explanation
from newsreel.runs.records import Run
from newsreel.runs.scoring import Scorer
from newsreel.runs.trained_run import open_run

EXPLANATION_STEPS = 50  # of the integral along the inputs, even where contributions stay incomplete
NUM_LEVELS = 4  # shades of words

Words = list[tuple[str, str, float]]  # (class of the style sheet, words, contribution to the logit)


def coloured(explanation: Explanation) -> Words:
    """The words of a document in reading order; neighbours with little share are together, with an empty class."""
    strongest = max((abs(value) for _, value in explanation.attributions), default=0) or 1
    parts: list[tuple[str, list[str], float]] = []
    for word, value in explanation.attributions:
        level = round(NUM_LEVELS * abs(value) / strongest)
        if level:
            parts.append((f"{'for' if value > 0 else 'against'} w{level}", [word], value))
        elif parts and not parts[-1][0]:
            parts[-1][1].append(word)
        else:
            parts.append(("", [word], value))
    return [(kind, " ".join(words), value) for kind, words, value in parts]


def explain_texts(run: Run, texts: Sequence[str]) -> tuple[list[Explanation], str]:
    """Explanations of the most probable label of each text by a finished run; or none, and why."""
    try:
        scorer = Scorer(open_run(run.run_dir), torch.device("cpu"))
        documents = scorer.documents(texts)
        explain = scorer.explainer(None, EXPLANATION_STEPS, max_steps_factor=1)
        return explain(texts, documents, scorer.scores(documents).numpy()), ""
    except EXPECTED_ERRORS as error:
        return [], first_line(error)
