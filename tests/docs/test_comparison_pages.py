"""Pages that are made of the folders of comparisons begin with what to take and what has no evidence."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poslab.evaluation.scores.item_files import write_measured
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from tests.conftest import ROOT

AT = "bits_per_byte@1024"


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which pages are written."""
    monkeypatch.setattr(importlib.import_module("pages.comparison"), "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


def made(docs: Path, name: str, *folders: Path) -> str:
    """The text of a page that is made of these folders."""
    page = importlib.import_module(f"pages.{name}").PAGE
    page.make(folders)
    return (docs / f"{page.name}.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a comparison of the rotary decoder, two seeds of two encodings."""
    path = tmp_path / "pretrained_rotary_small"
    (path / "figures").mkdir(parents=True)
    values = {
        ("from_scratch", "rotary"): 3.0,
        ("from_scratch", "alibi"): 2.0,
        ("full_5", "rotary"): 2.75,
        ("full_5", "alibi"): 2.25,
        ("zero_shot", "rotary"): 3.5,
    }
    rows = [
        {"case": case, "encoding": encoding, "seed": seed, "metric": metric, "value": value * far + (seed - 1.5) / 5}
        for (case, encoding), value in values.items()
        for seed in (1, 2)
        for metric, far in ((AT, 1), ("bits_per_byte@4096", 2))
    ]
    rows.append({"case": "full_5", "encoding": "alibi", "seed": 1, "metric": "passkey_accuracy@256", "value": 0.0})
    pd.DataFrame(rows).to_csv(path / "results.csv", index=False)
    (path / "differences.csv").write_text("case,metric,encoding,word,of\n")
    (path / "table.csv").write_text(f"encoding,full_5 {AT}\nrotary,2.75\nalibi,2.25 ▲\n")
    (path / "speeds.md").write_text("# full_5\n\n| encoding | MB at 256 |\n\n# zero_shot\n")
    caption = "The mean over seeds."
    titles = {"full_5_bits_per_byte": "full_5: bits", "full_20_bits_per_byte": "full_20: bits"}
    content = {
        "answer": ["full_5: take alibi."],
        "legend": "Beside rotary, the baseline: ▲ better.",
        "pictures": {
            f"curves_{name}": {"title": title, "caption": caption}
            for name, title in {**titles, "full_5_sliding_bits_per_byte": "full_5: sliding bits"}.items()
        },
        "methods": "Two seeds.",
        "differences": ["Ours is smaller."],
        "command": "python -m src.compare comparison=pretrained_rotary",
    }
    (path / "comparison.json").write_text(json.dumps(content))
    pd.DataFrame([{"check": "all runs are finished", "holds": True}]).to_csv(path / "figures" / "checks.csv")
    for name in content["pictures"]:
        (path / "figures" / f"{name}.png").write_bytes(b"a picture")
    return path


def test_the_page_begins_with_what_to_take_and_what_has_no_evidence(folder, docs):
    text = made(docs, "pretrained", folder)
    assert text.index("## What to take") < text.index("## What has no evidence") < text.index("## A rotary decoder")
    assert "3.000 bits per byte under rotary and 2.000 under ALiBi; at 4,096, 6.000 and 4.000." in text
    assert "a part of the way from 3.000 to 2.000: 75 % with 5 % more steps in windows of 1,024." in text
    assert "The lowest means are, in the same order, alibi (2.250) at 1,024 tokens, and alibi (4.500) at 4,096." in text
    assert "No model finds a pass key even within 256 tokens" in text
    assert text.index("- full_5: take alibi.") < text.index("## What has no evidence")


def table_lines(text: str) -> list[list[str]]:
    """The cells of each line of a table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_a_metric_has_a_column_for_each_case_that_it_decides_with_signs_that_are_explained(folder, docs):
    text = made(docs, "pretrained", folder)
    lines = table_lines(text)
    assert lines[0] == ["encoding", "full_5"]
    assert ["rotary", "2.75"] in lines and ["alibi", "2.25 ▲"] in lines
    assert "Means over 2 seeds. Beside rotary, the baseline: ▲ better." in text


def test_signs_of_shares_of_seeds_are_named(folder, docs):
    (folder / "differences.csv").write_text(
        f"case,metric,encoding,word,of\nfull_5,{AT},alibi,inconclusive,solve rate\nfull_5,{AT},t5,better,mean\n"
    )
    assert f"do, not of the mean: alibi on full_5 {AT}." in made(docs, "pretrained", folder)


def test_a_metric_that_decides_no_case_has_a_column_for_each_with_results(folder, docs):
    (folder / "table.csv").write_text("encoding,full_5 loss\n")
    lines = table_lines(made(docs, "pretrained", folder))
    assert lines[0] == ["encoding", "from_scratch", "full_5", "zero_shot"]
    assert ["rotary", "3.000", "2.750", "3.500"] in lines and ["alibi", "2.000", "2.250", "–"] in lines


def test_only_the_pictures_of_the_page_are_copied_and_what_they_share_is_said_once(folder, docs):
    text = made(docs, "pretrained", folder)
    copied = docs / "figures" / "pretrained" / "pretrained_rotary"
    names = ["curves_full_20_bits_per_byte.png", "curves_full_5_bits_per_byte.png", "differences.csv", "results.csv"]
    assert sorted(file.name for file in copied.iterdir()) == names
    place = "figures/pretrained/pretrained_rotary"
    assert f"![full_5: bits]({place}/curves_full_5_bits_per_byte.png)\n\nfull_5: bits. The mean over seeds.\n" in text
    assert f"![full_20: bits]({place}/curves_full_20_bits_per_byte.png)\n\nfull_20: bits.\n" in text


def test_speeds_are_a_section_with_a_heading_for_each_case(folder, docs):
    text = made(docs, "pretrained", folder)
    assert "### Speed and memory\n\n#### full_5\n\n| encoding | MB at 256 |\n\n#### zero_shot\n" in text


SEEDS = (1, 2, 3, 4, 5)


def leave_runs(study: Path, losses: dict[tuple[str, str], dict[int, float]], sizes: str = "") -> None:
    """Leave runs with these losses by length, of ten pieces each, under cases and encodings."""
    for (case, encoding), by_length in losses.items():
        for seed in SEEDS:
            run = study / "runs" / case / encoding / f"seed_{seed}_0"
            run.mkdir(parents=True)
            (run / "config.yaml").write_text(sizes)
            (run / "metrics.json").write_text('{"parameters": 1234}')
            luck = (len(encoding) % 4 + 1) * seed % 5 - 2  # its mean over seeds is 0
            noise = np.arange(10) / 100 + luck / 1000
            scores = {
                (metric, length): ItemScores(metric, length, 10.0 * (loss + noise), np.full(10, 10), "text")
                for length, loss in by_length.items()
                for metric in ("bits_per_byte", "sliding_bits_per_byte")
            }
            write_measured(MeasuredRun(encoding, "test", scores, {}, "0"), run / "scores.npz")


def test_each_pattern_is_compared_with_the_baseline_in_windows_of_its_training_length(folder, docs):
    study = folder.rename(folder.with_name("model_patterns"))
    rows = [
        {"case": case, "encoding": name, "seed": 1, "metric": f"bits_per_byte@{length}", "value": loss}
        for case in ("attention", "convolutions")
        for name, far in {"everywhere": 5.0, "near": 1.25, "far": 2.5, "same": 2.0}.items()
        for length, loss in ((128, 2.0), (2048, far))
    ]
    pd.DataFrame(rows).to_csv(study / "results.csv", index=False)
    losses = {
        ("attention", "everywhere"): {128: 2.0, 512: 4.0, 2048: 5.0},
        ("attention", "near"): {128: 2.0, 512: 1.5, 2048: 1.25},
        ("attention", "far"): {128: 2.0, 512: 3.0, 2048: 2.5},
        ("attention", "same"): {128: 1.9, 512: 2.001, 2048: 2.0},
    }
    leave_runs(study, losses)
    lines = {line[0]: line for line in table_lines(made(docs, "model_patterns", study)) if len(line) == 7}
    assert lines["near"][1:4] == ["2.045", "1.545", "1.295"]
    assert {name: (line[4][:6], line[5][:6], line[6]) for name, line in lines.items() if name in "near far same"} == {
        "near": ("0.750 ", "-0.500", "better"),
        "far": ("-0.500", "1.000 ", "worse"),
        "same": ("-0.100", "0.001 ", "equivalent"),
    }
    assert lines["everywhere"][6] == "worse"


@pytest.mark.slow
def test_folders_of_several_pages_and_those_without_results_are_refused(folder, monkeypatch, capsys):
    def refusal(*words: str) -> str:
        """The sentence with which the command ends."""
        monkeypatch.setattr(sys, "argv", ["docs/make.py", *words])
        with pytest.raises(SystemExit):
            runpy.run_path(str(ROOT / "docs" / "make.py"), run_name="__main__")
        return capsys.readouterr().err

    assert "--comparison must be folders of one page" in refusal("--comparison", str(folder), "encoding_choice")
    (folder / "results.csv").write_text("case,encoding,seed,metric,value\n")
    for without in (str(folder), "encoding_choice"):
        said = refusal("--comparison", without)
        assert f"--comparison must be folders of comparisons with finished runs, got {without}" in said
    said = refusal("--evaluation", str(folder))
    assert f"--evaluation must be the folder of one with extrapolation, got {folder}" in said


def test_the_page_says_what_a_sentence_encoder_keeps_and_finds(folder, docs):
    minilm = folder.rename(folder.with_name("pretrained_minilm_small"))
    values = {
        "passkey_ndcg@2048": {"copied": 25.0, "t5": 75.0},
        "cosine": {"copied": 0.99, "t5": 0.9},
        "probe_accuracy": {"copied": 97.0, "t5": 95.0},
    }
    rows = [
        {"case": "topics_after", "encoding": encoding, "seed": 1, "metric": metric, "value": value}
        for metric, own in values.items()
        for encoding, value in own.items()
    ]
    pd.DataFrame(rows).to_csv(minilm / "results.csv", index=False)
    text = made(docs, "pretrained", minilm)
    assert "t5 finds most after distillation (75.0 % of 32 pass keys)" in text
    assert "a cosine of 0.900 to those of the untouched model, and its probe is right on 95.0 % of the topics" in text
    assert "Beside it: 25.0 % under copied rows." in text


def test_the_page_says_what_recovers(folder, docs):
    smollm2 = folder.rename(folder.with_name("pretrained_smollm2_small"))
    rows = [
        {"case": case, "encoding": encoding, "seed": 1, "metric": "bits_per_byte@512", "value": value}
        for case, encoding, value in (("zero_shot", "none", 4.0), ("zero_shot", "t5", 3.0), ("recovery", "none", 2.0))
    ]
    pd.DataFrame(rows).to_csv(smollm2 / "results.csv", index=False)
    text = made(docs, "pretrained", smollm2)
    assert "Without training, bits per byte in windows of 512 tokens: t5 3.00, none 4.00. After the recovery," in text


def test_the_page_says_how_far_pairs_of_one_encoding_spread(folder, docs):
    same = folder.rename(folder.with_name("same_encoding_small"))
    values = {"rotary": (1.0, 2.0, 3.0), "rotary_again": (1.5, 2.5, 3.5)}
    rows = [
        {"case": "text", "encoding": encoding, "seed": seed, "metric": "bits_per_byte@1x", "value": value}
        for encoding, by_seed in values.items()
        for seed, value in enumerate(by_seed)
    ]
    pd.DataFrame(rows).to_csv(same / "results.csv", index=False)
    text = made(docs, "which_encoding", same)
    assert "of equal seed have a standard deviation of 0.0000, those between runs of any two seeds 1.4142" in text


def test_the_page_says_what_to_take_for_longer_texts_and_what_has_not_learned(folder, docs):
    study = folder.rename(folder.with_name("encoding_choice"))
    words = {"t5": ("better", "inconclusive"), "alibi": ("better", "worse"), "none": ("worse", "worse")}
    metrics = ("bits_per_byte@4x", "sliding_bits_per_byte@4x", "bits_per_byte@1x")
    rows = [
        {
            "case": case,
            "metric": metric,
            "encoding": name,
            "word": beyond if metric.endswith("4x") else within,
            "of": "mean",
        }
        for case in ("short_training", "long_training")
        for metric in metrics
        for name, (beyond, within) in words.items()
    ]
    pd.DataFrame(rows).to_csv(study / "differences.csv", index=False)
    values = {"none": 3.5, "learned": 3.0, "sinusoidal": 2.5, "rotary": 2.0, "t5": 1.5, "alibi": 1.0}
    results = [
        {"case": row["case"], "metric": row["metric"], "encoding": name, "seed": 1, "value": value}
        for row in rows
        if row["encoding"] == "t5"
        for name, value in values.items()
    ]
    pd.DataFrame(results).to_csv(study / "results.csv", index=False)
    text = made(docs, "which_encoding", study)
    assert "t5 is better in windows of 512 than rotary in the same windows" in text
    assert "they have 1.50 to 1.50 bits per byte in windows of 512, and rotary 2.00" in text
    assert "but worse in windows of 128: alibi." in text
    assert "are then none 3.50, learned 3.00, sinusoidal 2.50, rotary 2.00, and after 4,000 steps none 3.50" in text


def test_the_page_has_the_setting_the_own_window_and_copies_by_length(folder, docs):
    study = folder.rename(folder.with_name("encoding_choice"))
    cases = ("short_training", "long_training")
    rows = [
        {"case": case, "encoding": name, "metric": f"bits_per_byte@{at}x", "value": 2.0}
        for case in cases
        for name in ("none", "learned", "sinusoidal", "rotary", "t5")
        for at in (1, 4)
    ]
    exact = {"rotary": (100.0, 0.0), "t5": (100.0, 25.0), "learned": (99.0, None)}
    rows += [
        {"case": "copying", "encoding": name, "metric": f"exact_match@{length}", "value": value}
        for name, values in exact.items()
        for length, value in zip((6, 12), values, strict=True)
    ]
    pd.DataFrame(rows).assign(seed=1).to_csv(study / "results.csv", index=False)
    (study / "differences.csv").write_text("case,metric,encoding,word,of\n")
    losses = {"rotary": {128: 2.0, 512: 4.0, 2048: 5.0}, "t5": {128: 2.1, 512: 2.2, 2048: 2.2}, "learned": {128: 2.0}}
    dataset = "{batch_size: 8, sequence_length: 128}"
    config = f"{{dataset: {dataset}, trainer: {{max_steps: 600}}}}"
    leave_runs(study, {(case, name): own for case in cases for name, own in losses.items()}, config)
    text = made(docs, "which_encoding", study)
    assert "models of 1,234 parameters, 600 steps or 1.8 epochs of 334 kB, and a test of 100 bytes in 10 pieces" in text
    assert "rotary has 2.045 bits per byte in such windows, and no encoding is better" in text
    assert "t5 2.245, worse" in text and "rotary minus t5 is -0.100" in text
    lines = table_lines(text)
    assert ["t5", "100.0", "25.0"] in lines and ["learned", "99.0", "–"] in lines
    verdicts = {line[0]: line[-1] for line in lines if len(line) == 7}
    assert verdicts == {"encoding": "verdict", "rotary": "worse", "t5": "worse", "---": "---"}


def test_a_stretched_model_is_compared_with_the_untouched_one_in_windows_of_its_training_length(folder, docs):
    losses = {("zero_shot", "rotary"): {256: 2.0}, ("from_scratch", "rotary"): {256: 1.75}}
    losses |= {("from_scratch", "alibi"): {1024: 2.5}}
    cases = ("zero_shot", "full_5", "pose_5", "full_20", "pose_20")
    leave_runs(folder, losses | {(case, "yarn"): {1024: 2.25} for case in cases})
    at = (AT, "bits_per_byte@4096")
    rows = [{"case": c, "encoding": "yarn", "seed": 1, "metric": metric, "value": 2.25} for c in cases for metric in at]
    rows += [
        {"case": case, "encoding": "rotary", "seed": 1, "metric": "bits_per_byte@256", "value": value}
        for case, value in {"zero_shot": 2.0, "from_scratch": 1.75}.items()
    ]
    results = pd.read_csv(folder / "results.csv")
    pd.concat([results, pd.DataFrame(rows)]).to_csv(folder / "results.csv", index=False)
    text = made(docs, "pretrained", folder)
    assert "rotary from scratch has 1.750: ALiBi at 1,024 minus that is 0.750 (" in text
    (line,) = [line for line in table_lines(text) if line[0] == "pose_5"]
    assert [cell.split()[0] for cell in line[1:]] == ["2.250", "0.250", "0.250", "0.500", "-0.250"]


def test_the_page_has_the_claims_of_a_paper_and_what_is_done_otherwise(folder, docs):
    paper = folder.rename(folder.with_name("kazemnejad2023_small"))
    claims = [("T5 is ahead", "holds"), ("none is ahead", "holds"), ("ALiBi is ahead", "does not hold")]
    pd.DataFrame([{"claim": claim, "outcome": outcome, "evidence": "2 more"} for claim, outcome in claims]).to_csv(
        paper / "figures" / "claims.csv", index=False
    )
    text = made(docs, "papers", paper)
    assert ["T5 is ahead", "holds", "2 more"] in table_lines(text)
    assert "Outcomes of 3 claims of the paper: holds 2, does not hold 1." in text
    assert "### What we do otherwise\n\n- Ours is smaller.\n" in text


def test_the_page_on_tasks_sets_methods_without_a_transformer_beside_rotary(folder, docs):
    tasks = folder.rename(folder.with_name("tasks"))
    values = {("topics", "accuracy"): 90.0, ("translation", "bleu"): 99.0}
    rows = [
        {"case": case, "encoding": "rotary", "seed": 1, "metric": metric, "value": value}
        for (case, metric), value in values.items()
    ]
    pd.DataFrame(rows).to_csv(tasks / "results.csv", index=False)
    text = made(docs, "tasks", tasks)
    assert "| topics | accuracy | 90.0 | tf-idf 96.7 |" in text
    assert "| translation | bleu | 99.0 | copying 20.9, dictionary 35.4 |" in text
    assert "The score of a method without a transformer is not below the mean of rotary on topics." in text
