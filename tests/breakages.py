"""Bugs put in one at a time: does a fast test notice?

    python tests/breakages.py                                # all of them, by room
    python tests/breakages.py epochs_alike labels_by_place   # some
    python tests/breakages.py --list                         # their names and what they change

The project is copied to a temporary folder, and all tests that are needed have to pass there. Then each breakage
changes a line of the copy, runs the few tests that should notice, and mends the line again: `red` names the first test
that failed, `GREEN` means that none did. The exit status is 1 if one stayed green, if a test did not run at all, or if
a line is no longer in the source exactly once: adapt the table then.

Run it after tests were shortened, moved or merged. A breakage belongs into the table if it is a plausible mistake that
changes what a user gets; a change that no test could notice does not.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
COPIED = ("configs", "docs", "scripts", "src", "tests", "train.py", "evaluate.py", "predict.py", "pyproject.toml")
PYTEST = ("-m", "pytest", "-q", "-m", "not slow and not real", "-p", "no:cacheprovider", "--tb=no")
PASSED, FAILED = 0, 1  # pytest's exit status; others say that tests did not run


class Breakage(NamedTuple):
    """One bug."""

    name: str
    file: str  # below src/newsreel
    old: str  # a text that the file has once
    new: str
    tests: str  # files or folders below tests that should notice, with spaces between them


# fmt: off
BREAKAGES = [Breakage(*fields) for fields in (
    # core
    ("write_in_place", "core/storage.py", "partial.replace(path)", "shutil.copyfile(partial, path)",
     "core/test_storage.py"),
    ("build_without_lock", "core/storage.py", "lock.acquire(timeout=0)", "pass", "core/test_storage.py"),
    ("shared_lock", "core/storage.py", "fcntl.LOCK_EX |", "fcntl.LOCK_SH |", "core/test_storage.py"),
    ("identity_run_together", "core/cache.py", 'b" ".join', 'b"".join', "core/test_cache.py"),
    # files
    ("line_where_a_row_ends", "files/readers.py", "line, begin = begin,", "line, begin = reader.line_num,",
     "corpora/test_custom.py"),
    ("times_of_files_ignored", "files/archives.py", "{stat.st_mtime_ns} {stat.st_ctime_ns}", "",
     "corpora/test_custom.py"),
    ("time_of_change_ignored", "files/archives.py", " {stat.st_ctime_ns}", "", "files/test_links.py"),
    ("links_followed_outside", "files/readers.py", "    require_inside(root, children)\n", "", "files/test_links.py"),
    # corpora
    ("split_seed_ignored", "corpora/splits.py", "random = np.random.default_rng(seed)\n    num_held_out",
     "random = np.random.default_rng(0)\n    num_held_out", "corpora/test_splits.py"),
    ("limit_not_in_fingerprint", "corpora/corpus.py", 'digest(self.fingerprint, f"limit={num_documents}")',
     "self.fingerprint", "corpora/test_corpus.py"),
    ("digest_not_compared", "corpora/verified.py", "elif actual_digest != published_digest:", "elif not actual_digest:",
     "corpora/test_imdb.py corpora/test_reuters.py"),
    ("modapte_without_topics", "corpora/reuters_stories.py", ' if attributes["TOPICS"] == "YES" else "unused"', "",
     "corpora/test_reuters.py"),
    ("empty_texts_repeat", "corpora/duplicates.py",
     'texts = documents.filter(pl.col("key") != EMPTY)',
     "texts = documents", "corpora/test_duplicates.py"),
    ("labels_of_copies_ignored", "corpora/duplicates.py",
     'other.unique(["key", "labels"])',
     'other.unique(["key"], keep="last")', "corpora/test_duplicates.py"),
    ("shingles_of_the_next_document", "corpora/duplicates.py",
     "np.where(first + shift < end, following, np.uint64(0)) if shift else following",
     "following", "corpora/test_duplicates.py"),
    ("one_band_fewer_hashes", "corpora/duplicates.py",
     "NUM_HASHES, NUM_BANDS = 64, 16",
     "NUM_HASHES, NUM_BANDS = 64, 2", "corpora/test_duplicates.py"),
    ("similarity_of_the_smaller_set", "corpora/duplicates.py",
     "sizes[0] + sizes[1] - common",
     "np.minimum(sizes[0], sizes[1])", "corpora/test_duplicates.py"),
    ("majority_of_the_test_split", "corpora/description.py",
     'corpus.label_counts("train").argmax()',
     "corpus.label_counts(split).argmax()", "corpora/test_description.py"),
    ("prior_of_the_label", "text/statistics.py",
     "PRIOR_FRACTION * total",
     "PRIOR_FRACTION * np.sqrt(total)", "text/test_statistics.py"),
    ("coverage_ranked_by_validation", "text/statistics.py",
     "counts = np.bincount(train, minlength=num_types)",
     "counts = np.bincount(validation, minlength=num_types)", "text/test_statistics.py"),
    ("score_of_the_overlap", "reporting/caveats.py",
     "new = ~overlap.either",
     "new = overlap.either", "reporting/test_caveats.py"),
    ("copies_of_near_repeats_forgotten", "corpora/duplicates.py",
     "keys = np.union1d(self.keys[in_others], self.keys[self.near_to([split], others)])",
     "keys = self.keys[in_others]", "corpora/test_overlap.py"),
    ("overlap_of_another_split_cached", "corpora/overlap.py",
     '*(digest(corpus.splits[split].rows.tobytes()) for split in (*others, "test"))',
     "*others", "corpora/test_overlap.py"),
    ("page_not_escaped", "reporting/corpus_page.py",
     "return escape(printable(text))",
     "return printable(text)", "reporting/test_corpus_page.py"),
    ("references_resolved_twice", "corpora/reuters_stories.py", "REFERENCE.sub(character, markup)",
     "REFERENCE.sub(character, REFERENCE.sub(character, markup))", "corpora/test_reuters.py"),
    ("stories_in_order_of_files", "corpora/rcv1_parts.py", 'np.argsort(all_ids, kind="stable")',
     "np.arange(len(all_ids))", "corpora/test_rcv1.py"),
    ("test_made_as_training", "corpora/synthetic.py", "default_rng([self.seed, stream])", "default_rng(self.seed)",
     "corpora/test_synthetic.py"),
    ("ten_before_two", "corpora/custom.py", "sorted(names, key=lambda name: (float(name), name))", "sorted(names)",
     "corpora/test_custom.py"),
    ("held_out_texts_labelled", "corpora/pseudo_labels.py", "held_out[held_out != EMPTY]", "held_out[:0]",
     "corpora/test_pseudo_labelled_corpus.py"),
    ("sure_or_not_alike", "corpora/pseudo_labels.py", 'corpus.task) if targets == "hard" else',
     'corpus.task) if targets == "" else', "corpora/test_pseudo_labelled_corpus.py"),
    # text
    ("lowercase_ignored", "text/rules.py", "if self.lowercase else texts", "if True else texts", "text/test_words.py"),
    ("ties_from_z_to_a", "text/words.py", "descending=[True, False]", "descending=[True, True]", "text/test_words.py"),
    ("words_of_validation", "text/words.py", "tables[training.table], training.rows, len(types)",
     "tables[training.table], np.arange(len(tables[training.table])), len(types)", "text/test_words.py"),
    ("ngrams_too_short", "text/ngrams.py", "range(2, self.max_n + 1):", "range(2, self.max_n):",
     "text/test_ngrams.py"),
    ("ngrams_over_documents", "text/ngrams.py", " & (documents[:num_ngrams] == documents[order - 1 :])", "",
     "text/test_ngrams.py"),
    ("subwords_of_validation", "text/subwords.py", 'corpus["train"].select', 'corpus.tables["train"].select',
     "text/test_subwords.py"),
    # embeddings
    ("padding_has_a_vector", "embeddings/embedding.py", "weights[PAD].zero_()\n        self.table", "self.table",
     "embeddings/test_embedding.py"),
    ("last_vector_of_a_word", "embeddings/pretrained.py", 'pl.col("source").min()', 'pl.col("source").max()',
     "embeddings/test_glove.py"),
    ("line_after_a_header", "embeddings/vector_files.py", " + len(lines) - len(words)", "",
     "embeddings/test_glove.py"),
    ("vectors_of_other_settings", "embeddings/corpus_trained.py", "{self.train_version} {self.learning_settings()} ",
     "{self.train_version} ", "embeddings/test_corpus_trained.py"),
    # batches
    ("epochs_alike", "batches/batch.py", "default_rng([self.seed, self.epoch])", "default_rng(self.seed)",
     "batches/test_batch.py"),
    ("every_epoch_begins_late", "batches/batch.py", "[num_done if self.epoch == first_epoch else 0 :]",
     "[num_done:]", "batches training/test_resume.py"),
    # models
    ("padding_in_the_mean", "models/pooling.py", "weights = mask.transpose(1, 2)",
     "weights = torch.ones_like(mask).transpose(1, 2)", "models/test_pooling.py"),
    ("padding_in_windows", "models/cnn.py",
     "windows * token_mask(num_windows, windows.shape[2])[:, None].to(windows.dtype),", "windows,",
     "models/test_cnn.py models/test_networks.py"),
    ("padding_read_first", "models/recurrent.py", "lengths[:, None] - 1 - positions", "num_tokens - 1 - positions",
     "models/test_recurrent.py"),
    ("idf_without_one", "models/bow.py", "(1 + document_counts)) + 1", "(1 + document_counts))", "models/test_bow.py"),
    ("shrinkage_ignored", "models/decisions.py", "(counts[present] + self.shrinkage)", "counts[present]",
     "models/test_decisions.py"),
    ("rare_labels_predicted", "models/decisions.py", "torch.where(f1 < fbr, highest[present], fitted)", "fitted",
     "models/test_decisions.py"),
    ("last_fold_alone", "models/decisions.py", "torch.stack(fitted).mean(dim=0)", "fitted[-1]",
     "models/test_decisions.py"),
    ("one_label_too_few", "models/decisions.py", ".argmax()) + 1", ".argmax())", "models/test_decisions.py"),
    ("smoothing_twice", "models/loss.py", "targets * (1 - smoothing) + smoothing / 2",
     "targets * (1 - smoothing) + smoothing", "models/test_loss.py"),
    ("gradients_summed_up", "models/classifier.py", "self._shard_factor(batch) * loss",
     "self._shard_factor(batch) * loss * self.trainer.accumulate_grad_batches", "training/test_trainer.py"),
    ("first_step_without_rate", "models/optimization.py", "(step + 1) / (num_warmup_steps + 1)",
     "step / num_warmup_steps", "models/test_optimization.py"),
    # evaluation
    ("macro_for_micro", "evaluation/metrics.py", 'true.shape[1], average="micro"', 'true.shape[1], average="macro"',
     "evaluation/test_metrics.py"),
    ("predictions_of_others", "evaluation/predictions.py", "np.argsort(order)", "order",
     "evaluation training/test_train.py"),
    ("precision_is_recall", "evaluation/predictions.py", "hits / np.maximum(1, predicted)",
     "hits / np.maximum(1, support)", "evaluation reporting"),
    ("interval_of_90_percent", "evaluation/statistics.py", "(1 - CONFIDENCE) / 2", "1 - CONFIDENCE",
     "evaluation/test_intervals_and_tests.py"),
    ("certain_without_an_error", "evaluation/statistics.py", "if not hits.any() or (hits == sizes).all():", "if False:",
     "evaluation/test_intervals_and_tests.py"),
    ("ties_count_for_one", "evaluation/statistics.py", "(one.hits > other.hits)", "(one.hits >= other.hits)",
     "evaluation/test_intervals_and_tests.py"),
    ("hits_exchanged_alone", "evaluation/statistics.py", "kinds[:, [2, 3, 0, 1]]", "kinds[:, [2, 1, 0, 3]]",
     "evaluation/test_intervals_and_tests.py"),
    ("seeds_vary_by_nothing", "evaluation/statistics.py", "squares / max(1, num_free_runs) *",
     "0 * squares / max(1, num_free_runs) *", "evaluation/test_intervals_and_tests.py"),
    ("residuals_of_equal_sizes", "evaluation/statistics.py", "outcomes.score * outcomes.sizes)", "outcomes.score)",
     "evaluation/test_intervals_and_tests.py"),
    ("bonferroni_for_holm", "evaluation/statistics.py", "np.arange(len(p_values), 0, -1)", "len(p_values)",
     "evaluation/test_intervals_and_tests.py"),
    ("folds_of_seen_documents", "training/out_of_fold.py", '"train": folds != fold', '"train": folds >= 0',
     "training/test_out_of_fold.py"),
    ("folds_decide_for_themselves", "training/out_of_fold.py", "folds[:number] + folds[number + 1 :]", "folds",
     "training/test_out_of_fold.py"),
    ("folds_trained_to_the_end", "training/trainer.py", "trainer.current_epoch + 1 >= self.num_epochs", "False",
     "training/test_out_of_fold.py"),
    ("folds_without_validation_documents", "corpora/corpus.py", "np.union1d(train.rows, validation.rows)",
     "train.rows", "corpora/test_corpus.py"),
    ("label_in_one_fold", "corpora/splits.py", "missing[label][choice] -= 1", "pass", "corpora/test_splits.py"),
    # config
    ("text_for_a_number", "config/sections.py", "strict=True", "strict=False", "config/test_settings.py"),
    ("idle_only_if_fixed", "config/idle.py", '"thresholds"] != "per_label"', '"thresholds"] == "fixed"',
     "config/test_idle.py"),
    # runs
    ("predicting_with_dropout", "runs/trained_run.py", "classifier.eval()", "classifier.train()",
     "runs/test_trained_run.py"),
    ("teacher_of_another_split", "runs/teachers.py", 'for split in ("validation", "test"):', "for split in ():",
     "training/test_pseudo_labels.py"),
    ("teacher_draws_random_numbers", "runs/trained_run.py", "with torch.random.fork_rng(devices=[]):", "if True:",
     "training/test_pseudo_labels.py"),
    ("ratios_of_decisions", "training/build.py", "targets = split.targets if corpus.pseudo is None else",
     "targets = split.targets if True else", "training/test_pseudo_labels.py"),
    ("weights_of_documents_lost", "models/newton.py", "if document_weights is not None:", "if False:",
     "models/test_convex.py"),
    ("time_without_the_teacher", "runs/records.py", "results[FIT_TIME] += results[SOURCES_TIME]", "pass",
     "runs/test_training_time.py"),
    ("teachers_of_the_teacher_are_free", "runs/training_time.py", "waiting += sources", "pass",
     "runs/test_training_time.py"),
    ("learned_by_heart_and_trained_longer", "runs/records.py", "math.inf) < results", "math.inf) != results",
     "reporting/test_caveats.py sweeps/test_baselines.py"),
    ("variants_of_later_rungs_trained_longer", "sweeps/baselines.py",
     "order[: order.index(name)] if rung.needs_epochs else order", "order", "sweeps/test_baselines.py"),
    ("failing_search_goes_on", "sweeps/search.py", "if num_run >= MAX_FAILED and", "if False and",
     "sweeps/test_search.py"),
    ("impossible_rungs_skipped", "sweeps/baselines.py", 'is_new = candidate.stage == "ladder"', "is_new = False",
     "sweeps/test_baselines.py"),
    ("several_runs_resumed", "sweeps/summary.py", 'override.startswith("resume=")', 'override.startswith("resumes=")',
     "sweeps/test_sweep.py"),
    ("older_formats_opened", "runs/run_dir.py", "if run_format == RUN_FORMAT", "if run_format in (1, RUN_FORMAT)",
     "runs/test_old_run_dirs.py"),
    ("job_ten_before_two", "runs/records.py", "int(name) if name.isdecimal() else 0", "0",
     "runs reporting/test_comparison.py sweeps/test_search.py"),
    ("program_of_an_export_unread", "inference/export/onnx.py",
     'require_same_tokens(run, texts, tokenized.tables["test"], output_dir)', "pass", "inference/test_export.py"),
    ("tokenizer_that_no_run_finds", "training/build.py", "require_known(tokenized.tokenizer)", "pass",
     "docs/test_extend.py"),
    ("last_layer_of_any_name", "config/schema.py", 'if not hasattr(network, "output_bias"):', "if False:",
     "config/test_settings.py"),
    ("vectors_of_other_code", "embeddings/corpus_trained.py", 'f"{self.train_version} ', 'f"1 ',
     "embeddings/test_corpus_trained.py"),
    ("time_of_a_damaged_teacher", "runs/training_time.py", "except UserError as error:", "except KeyError as error:",
     "runs/test_training_time.py"),
    # reporting
    ("chosen_by_test", "runs/records.py", 'self.results.get(f"val/{self.metric}")',
     'self.results.get(f"test/{self.metric}")', "reporting/test_comparison.py"),
    ("perplexity_ranked_as_accuracy", "runs/records.py", "-value if value is not None and",
     "value if value is not None and", "reporting/test_comparison.py"),
    ("unlabelled_may_change", "training/run.py", "corpus.with_unlabeled().unlabeled_digest()", '""',
     "training/test_resume.py"),
    ("limits_of_one_seed", "reporting/summary_page.py", "read_limits(run.run_dir) for run in model.runs",
     "read_limits(run.run_dir) for run in model.runs[:1]", "reporting/test_summary_page.py"),
    ("variance_for_deviation", "reporting/comparison.py", "pl.col(name).std()", "pl.col(name).var()",
     "reporting/test_comparison.py"),
    ("worse_than_a_guess_is_fine", "reporting/caveats.py", "outcomes.score > majority.score and ", "",
     "reporting/test_caveats.py"),
    ("uniform_over_labels_of_several", "reporting/caveats.py",
     'num_labels if task == "multiclass" else 2',
     "num_labels", "reporting/test_caveats.py"),
    ("other_documents_tested", "reporting/significance.py", "not documents.labels.equals(reference.labels)", "False",
     "reporting/test_comparison.py"),
    ("p_values_not_corrected", "reporting/significance.py", "holm([p_value(best_outcomes, outcomes[identity]) for",
     "list([p_value(best_outcomes, outcomes[identity]) for",
     "reporting/test_comparison.py"),
    ("learning_curves_tested", "reporting/comparison.py", "num_tested=int((~part[\"smaller\"]).sum())",
     "num_tested=len(part)", "reporting/test_comparison.py"),
    ("intervals_averaged", "reporting/comparison.py", " and not name.endswith(INTERVAL_SUFFIXES)", "",
     "reporting/test_comparison.py"),
    ("never_predicted_not_told", "reporting/caveats.py", "        *never_predicted_caveats(predictions),\n", "",
     "reporting/test_caveats.py"),
    # sweeps
    ("pruned_is_failed", "sweeps/search.py", 'TrialState.PRUNED if run.status == "pruned" else TrialState.FAIL',
     "TrialState.FAIL", "sweeps/test_search.py"),
    ("one_draw_for_all", "sweeps/search.py", "(self.seed + number) % 2**32", "self.seed", "sweeps/test_search.py"),
    ("pruned_at_its_end", "sweeps/pruning.py", "epoch != trainer.max_epochs and ", "", "sweeps/test_search.py"),
    ("failed_jobs_exit_0", "sweeps/summary.py", "JOBS_FAILED if missing else 0", "0", "sweeps/test_sweep.py"),
    # training
    ("batches_not_skipped", "training/checkpoints.py", 'state["epoch"], state["num_batches"])  # type',
     'state["epoch"], 0)  # type', "training/test_resume.py"),
    ("rows_twice_after_resume", "training/loggers.py", '["step"]) < self.first_step', '["step"]) <= self.first_step',
     "training/test_resume.py"),
    ("later_of_equal_epochs", "training/checkpoints.py", "if score > self.best or", "if score >= self.best or",
     "training/test_train.py"),
    ("statistics_of_other_splits", "batches/datamodule.py", "self._counts[split] = dataset.count_all()",
     'self._counts[split] = self.dataset("validation").count_all()', "training/test_train.py"),
    ("penalty_of_bias", "models/convex.py", "gradient[:-num_biases] += self.penalty * parameters[:-num_biases]",
     "gradient += self.penalty * parameters", "models/test_convex.py"),
    ("equal_penalties", "models/convex.py", "1, np.sqrt(factors), out=", "1, np.ones_like(factors), out=",
     "models/test_convex.py"),
    ("unweighted_documents", "models/convex.py", "return self.weights * (self.probs(logits) - self.targets)",
     "return self.probs(logits) - self.targets", "models/test_convex.py"),
    ("softmax_as_one_vs_rest", "models/newton.py", "and not settings.one_vs_rest", "and False",
     "models/test_convex.py"),
    ("smoothing_of_two_classes", "models/newton.py", "settings.label_smoothing, probs.shape[1])",
     "settings.label_smoothing, 2)", "models/test_convex.py"),
    ("path_backwards", "models/newton.py", "l2_path[self.current_epoch]", "l2_path[-1 - self.current_epoch]",
     "training/test_newton.py"),
    ("path_from_the_start", "models/newton.py", "l2_path[self.current_epoch]", "l2_path[0]",
     "training/test_newton.py"),
    ("counts_over_documents", "batches/bags.py", "out=begins[begin + 1 : end]", "out=begins[begin : end - 1]",
     "training/test_newton.py"),
    ("unknown_words_counted", "batches/bags.py", "known = run_ids > UNK", "known = run_ids >= UNK",
     "training/test_newton.py"),
    ("counted_in_every_batch", "batches/datamodule.py", "dataset.counts = self._counts.get(split)",
     "dataset.counts = None", "training/test_newton.py"),
    ("newton_with_dropout", "models/bow.py", 'not settings["hidden_sizes"] and not settings["dropout"]',
     'not settings["hidden_sizes"]', "training/test_newton.py"),
    ("features_without_rows", "models/bow.py", "rows = 1 / np.maximum(np.sqrt(squares @ columns**2), 1e-12)",
     "rows = np.ones((counts.shape[0], 1))", "models/test_convex.py"),
    ("as_many_steps_for_all_labels", "models/optimization.py", "max(1.0, num_labels / SCALED_LABELS)", "1.0",
     "models/test_optimization.py"),
    ("fewer_steps_for_few_labels", "models/optimization.py", "max(1.0, num_labels / SCALED_LABELS)",
     "(num_labels / SCALED_LABELS)", "models/test_optimization.py"),
    ("steps_without_accumulation", "models/optimization.py", "least * batches_per_step", "least",
     "training/test_train.py"),
    ("few_documents_are_nothing_learned", "reporting/caveats.py", "    if outcomes.score > majority.score:\n",
     "    if outcomes.score < majority.score:\n", "reporting/test_caveats.py"),
    ("never_stuck", "reporting/caveats.py", "(1 - MIN_LOSS_REDUCTION) * loss.prior", "2 * loss.prior",
     "training/test_train.py"),
    ("one_pass_of_several", "batches/batch.py", "for _ in range(self.passes)", "for _ in range(1)",
     "batches/test_batch.py"),
    ("priors_smoothed_as_two_classes", "models/loss.py", "smoothing / (2 if is_binary else len(counts))",
     "smoothing / 2", "models/test_loss.py"),
    ("ratios_of_as_many_documents", "embeddings/embedding.py", "relative_size >= 1", "relative_size > 1",
     "embeddings/test_naive_bayes.py"),
    ("word_dropout_not_adapted", "embeddings/embedding.py", "self.word_dropout**relative_size**0.25",
     "self.word_dropout", "embeddings/test_naive_bayes.py"),
    ("last_epoch_tested", "training/run.py", "    classifier.load_state_dict(read_weights(spec.run_dir))\n", "",
     "training/test_train.py"),
    # inference
    ("labels_by_place", "inference/eval_data.py", "corpus[split] if same else", "corpus[split] if True else",
     "inference/test_evaluate.py"),
    ("thresholds_of_one_run", "runs/ensemble.py", "mean([rule.thresholds for rule in rules]",
     "mean([rules[0].thresholds] * 2", "inference/test_evaluate.py"),
    ("against_is_for", "evaluation/explanations.py", "if target else -logits[:, 0]", "if target else logits[:, 0]",
     "inference/test_explain.py"),
    ("top_k_without_the_last", "inference/predictors.py", "1 <= top_k <= num_labels", "1 <= top_k < num_labels",
     "inference/test_predict.py"),
    ("least_probable_exported", "inference/export/classify.py", "np.argsort(-probabilities", "np.argsort(probabilities",
     "inference/test_export.py"),
    # cli
    ("mistakes_exit_1", "cli/app.py", "USER_MISTAKE if expected else CRASHED", "CRASHED", "cli/test_entry.py"),
    ("run_written_over", "cli/train.py", "dist_env().is_rank_zero and holds_run(run_dir)", "False",
     "cli/test_entry.py"),
    ("run_not_locked", "cli/train.py", "resumable(run_dir), lock_on_rank_zero(run_dir):", "resumable(run_dir):",
     "cli/test_entry.py"),
)]
# fmt: on


def copy_project(folder: Path) -> None:
    for name in COPIED:
        place = PROJECT / name
        if place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(place, folder / name)


def run_python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python that imports the copy's newsreel, also in processes that tests start."""
    variables = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=variables, capture_output=True, text=True,
                          check=False)  # fmt: skip


def run_tests(copy: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """pytest's exit status, and what is to be said of it: the first failing test (or the end of its output), seconds"""
    begun = time.perf_counter()
    done = run_python(copy, *PYTEST, *options, *(f"tests/{name}" for name in tests))
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    said = failed[1] if failed else (done.stdout + done.stderr).strip().rpartition("\n")[2]
    return done.returncode, f"{said}, {time.perf_counter() - begun:.0f} s"


def try_breakage(copy: Path, breakage: Breakage) -> bool:
    """Whether a test noticed; prints the line about it."""
    file = copy / "src" / "newsreel" / breakage.file
    source = file.read_text(encoding="utf-8") if file.exists() else ""
    if (count := source.count(breakage.old)) != 1:
        print(f"LOST   {breakage.name}  ({breakage.file} has {breakage.old!r} {count} times)", flush=True)
        return False
    file.write_text(source.replace(breakage.old, breakage.new), encoding="utf-8")
    try:
        status, said = run_tests(copy, breakage.tests.split(), "-x")
    finally:
        file.write_text(source, encoding="utf-8")
    verdict = {PASSED: f"GREEN  {breakage.name}", FAILED: f"red    {breakage.name}"}.get(status)
    print(f"{verdict or f'NO RUN {breakage.name}'}  ({said})", flush=True)
    return status == FAILED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="breakages to try; all if none is named")
    parser.add_argument("--list", action="store_true", help="print the table and run nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - {breakage.name for breakage in BREAKAGES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; --list names all")
    chosen = [breakage for breakage in BREAKAGES if not options.names or breakage.name in options.names]
    if options.list:
        for breakage in chosen:
            print(f"{breakage.name}  ({breakage.file}: {breakage.tests})\n  - {breakage.old}\n  + {breakage.new}")
        return 0
    with tempfile.TemporaryDirectory(prefix="breakages-") as folder:
        copy = Path(folder).resolve()
        copy_project(copy)
        imported = run_python(copy, "-c", "import newsreel; print(newsreel.__file__)").stdout.strip()
        assert Path(imported).is_relative_to(copy), f"tests would import {imported}"
        tests = sorted({name for breakage in chosen for name in breakage.tests.split()})
        status, said = run_tests(copy, tests)
        print(f"{'whole ' if status == PASSED else 'BROKEN'} without any breakage  ({said})", flush=True)
        if status != PASSED:
            return 1
        num_red = sum(try_breakage(copy, breakage) for breakage in chosen)
    print(f"{num_red} of {len(chosen)} breakages turned tests red")
    return 0 if num_red == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
