"""The answer in two sentences, for made-up predictions of every kind."""

import numpy as np
import pytest
from scipy import stats

from newsreel.evaluation.statistics import Outcomes
from newsreel.reporting.answer import Candidate, answer, format_seconds, times

NUM_DOCUMENTS = 200
RATIOS = [(1.5, "1.5 times"), (3, "3 times"), (139.9, "140 times"), (2345, "2,300 times")]
MAJORITY = Outcomes(np.arange(NUM_DOCUMENTS) % 2, np.ones(NUM_DOCUMENTS, dtype=np.int64))  # half are right


def fits(num_right: int, shift: int = 0) -> Outcomes:
    """Documents from `shift` on are right."""
    hits = np.zeros(NUM_DOCUMENTS, dtype=np.int64)
    hits[np.arange(shift, shift + num_right) % NUM_DOCUMENTS] = 1
    return Outcomes(hits, np.ones(NUM_DOCUMENTS, dtype=np.int64))


def candidate(name: str, num_right: int, fit_s: float, shift: int = 0) -> Candidate:
    return Candidate(name, [fits(num_right, shift)], fit_s, f"python train.py model={name}")


def test_the_cheapest_of_those_that_tie_with_the_best_is_recommended() -> None:
    best, cheap, worse = candidate("lstm", 180, 800), candidate("bow", 178, 20, 3), candidate("rnn", 170, 5)
    result = answer([best, cheap, worse], "accuracy", MAJORITY)
    assert (result.kind, result.recommended) == ("tie", cheap)
    # of the 180 and 178 documents, 3 and 1 are right in one alone: McNemar's p is 5/8, the larger of two by Holm
    assert result.p_values == [None, 0.625, 2 * 2 / 2**10]  # 10 documents only the best gets right
    low, high = stats.binomtest(178, 200).proportion_ci(0.95, "exact")
    assert result.sentences[0] == (
        f"No model here is significantly better than bow (test accuracy 0.8900, 95% interval {low:.4f}–{high:.4f}): "
        "lstm has the best validation score, and its test accuracy of 0.9000 does not differ significantly "
        "(p = 0.6250)."
    )
    assert result.sentences[1] == (
        "It trains in 20 s, 40 times as fast as lstm; rnn is cheaper still, but significantly worse."
    )


def test_the_best_is_recommended_if_it_is_also_the_cheapest_of_the_ties() -> None:
    result = answer([candidate("bow", 180, 2), candidate("lstm", 182, 80, 2)], "accuracy", MAJORITY)
    assert result.kind == "tie"
    assert result.sentences[0].startswith("bow is the best by the validation documents (test accuracy 0.9000")
    assert result.sentences[0].endswith("), and no other is significantly better.")
    assert result.sentences[1] == "It trains in 2 s, 40 times as fast as lstm."


def test_times_that_nobody_notices_do_not_decide() -> None:
    tied = [candidate("binary", 180, 0.3), candidate("count", 178, 0.2, 3), candidate("tf", 178, 0.1, 3)]
    result = answer(tied, "accuracy", MAJORITY)
    assert (result.kind, result.recommended) == ("tie", tied[0])
    assert result.sentences[1] == "It trains in 0.3 s, about as fast as count."
    slower = candidate("lstm", 181, 100)
    assert answer([slower, *tied], "accuracy", MAJORITY).recommended is tied[0]
    assert answer([slower, candidate("gru", 181, 95)], "accuracy", MAJORITY).recommended is slower


def test_an_expensive_model_pays_if_the_cheaper_ones_are_significantly_worse() -> None:
    result = answer([candidate("lstm", 180, 80), candidate("bow", 150, 2), candidate("mean", 140, 1)], "accuracy", None)
    assert result.kind == "pays"
    assert result.recommended is not None
    assert result.recommended.name == "lstm"
    assert "lstm pays (test accuracy 0.9000, " in result.sentences[0]
    # 2 / 2³⁰ < 0.0001
    assert (
        "its accuracy is 0.1500 above that of bow, the best of the cheaper models (p < 0.0001)" in result.sentences[0]
    )
    assert result.sentences[1] == "It trains in 80 s, 40 times as long as bow."


def test_a_model_can_be_both_the_best_and_the_cheapest() -> None:
    result = answer([candidate("bow", 180, 2), candidate("lstm", 150, 80)], "accuracy", MAJORITY)
    assert result.kind == "best"
    assert "every other is significantly worse, the next, lstm, with 0.7500 (p < 0.0001)" in result.sentences[0]


def test_a_model_that_takes_about_as_long_as_a_worse_one_does_not_merely_pay() -> None:
    result = answer([candidate("nb", 180, 3.6), candidate("tfidf", 150, 3.0)], "accuracy", MAJORITY)
    assert result.kind == "best"
    assert result.sentences[1] == "It trains in 3.6 s, about as fast as tfidf."


def test_nothing_is_recommended_if_no_model_beats_the_majority_guess() -> None:
    # right on 110 documents instead of 100, half of them others: p = 0.36 or so
    result = answer([candidate("lstm", 110, 80), candidate("bow", 100, 2)], "accuracy", MAJORITY)
    assert (result.kind, result.recommended) == ("nothing", None)
    assert result.sentences[0].startswith(
        "Nothing was learned: no model is significantly better than guessing the majority label (test accuracy 0.5000; "
        "lstm: test accuracy 0.5500, 95% interval "
    )
    (alone,) = (answer([candidate("lstm", 110, 80)], "accuracy", MAJORITY).sentences[:1],)
    assert alone[0].startswith("Nothing was learned: lstm is not significantly better than guessing")


def test_a_single_model_is_described_without_a_comparison() -> None:
    result = answer([candidate("lstm", 180, 80)], "accuracy", MAJORITY)
    assert result.kind == "single"
    assert "the majority guess has 0.5000" in result.sentences[0]


def test_a_higher_test_score_does_not_choose_but_is_named() -> None:
    result = answer([candidate("bow", 150, 2), candidate("lstm", 180, 80)], "accuracy", MAJORITY)
    assert result.recommended is not None
    assert result.recommended.name == "bow"
    assert "is the choice by the validation documents" in result.sentences[0]
    assert "lstm has a significantly higher test score (0.9000, p < 0.0001)" in result.sentences[0]


def test_several_seeds_are_compared_by_their_means() -> None:
    lstm = Candidate("lstm", [fits(180), fits(120, 40)], 80)
    bow = Candidate("bow", [fits(150), fits(152)], 2)
    result = answer([lstm, bow], "accuracy", MAJORITY)
    assert lstm.score == 0.75
    assert result.p_values[1] is not None
    assert result.p_values[1] > 0.5
    assert result.recommended is bow


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.5, "1.5 times"), (3, "3 times"), (139.9, "140 times"), (2345, "2,300 times")]
)
def test_ratios_have_two_digits(ratio: float, text: str) -> None:
    assert times(ratio) == text


def test_seconds_have_two_digits_if_they_are_few() -> None:
    assert (format_seconds(0.234), format_seconds(1234.5)) == ("0.23 s", "1,234 s")
