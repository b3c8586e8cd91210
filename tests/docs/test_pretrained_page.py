"""docs/pretrained.md is made of the folders of comparisons, and begins with what to take and what has no evidence."""

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT

AT = "bits_per_byte@1024"


@pytest.fixture
def pretrained_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The maker of the page, which writes it in another folder."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    made = importlib.import_module("pretrained_page")
    monkeypatch.setattr(made, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(made, "PAGE", tmp_path / "docs" / "pretrained.md")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a comparison of the rotary decoder, two seeds of two encodings."""
    made = tmp_path / "pretrained_rotary_small"
    (made / "figures").mkdir(parents=True)
    values = {
        ("from_scratch", "rotary"): 3.0,
        ("from_scratch", "alibi"): 2.0,
        ("full_5", "rotary"): 2.75,
        ("full_5", "alibi"): 2.25,
        ("zero_shot", "rotary"): 3.5,
    }
    rows = [
        {"case": case, "encoding": encoding, "seed": seed, "metric": AT, "value": value + (seed - 1.5) / 5}
        for (case, encoding), value in values.items()
        for seed in (1, 2)
    ]
    rows.append({"case": "full_5", "encoding": "alibi", "seed": 1, "metric": "passkey_accuracy@256", "value": 0.0})
    pd.DataFrame(rows).to_csv(made / "results.csv", index=False)
    (made / "differences.csv").write_text("case\n")
    content = {
        "answer": ["full_5: take alibi."],
        "methods": "Two seeds.",
        "command": "python -m src.compare comparison=pretrained_rotary",
    }
    (made / "comparison.json").write_text(json.dumps(content))
    pd.DataFrame([{"check": "all runs are finished", "holds": True}]).to_csv(made / "figures" / "checks.csv")
    for name in ("curves_full_5_bits_per_byte.png", "curves_full_5_sliding_bits_per_byte.png"):
        (made / "figures" / name).write_bytes(b"a picture")
    return made


def test_the_page_begins_with_what_to_take_and_what_has_no_evidence(folder, pretrained_page):
    pretrained_page.make([folder])
    text = pretrained_page.PAGE.read_text()
    assert text.index("# What to take") < text.index("# What has no evidence") < text.index("# A rotary decoder")
    assert "3.000 bits per byte under rotary and 2.000 under ALiBi" in text
    assert "exchanged for ALiBi has 2.250, 75 % of the way; the best there is alibi (2.250)" in text
    assert "No model finds a pass key even within 256 tokens" in text
    assert text.index("- full_5: take alibi.") < text.index("# What has no evidence")


def test_a_metric_has_a_row_for_each_encoding_and_a_column_for_each_case(folder, pretrained_page):
    pretrained_page.make([folder])
    text = pretrained_page.PAGE.read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["encoding", "from_scratch", "full_5", "zero_shot"] in lines
    assert ["rotary", "3.000", "2.750", "3.500"] in lines and ["alibi", "2.000", "2.250", "–"] in lines


def test_only_the_pictures_of_the_page_are_copied(folder, pretrained_page):
    pretrained_page.make([folder])
    copied = pretrained_page.DOCS / pretrained_page.FIGURES / "rotary"
    names = ["curves_full_5_bits_per_byte.png", "differences.csv", "results.csv"]
    assert sorted(file.name for file in copied.iterdir()) == names
    assert "figures/pretrained/rotary/curves_full_5_bits_per_byte.png" in pretrained_page.PAGE.read_text()


def test_a_folder_of_another_comparison_is_refused(folder, pretrained_page):
    with pytest.raises(SystemExit, match="must be folders of pretrained_rotary, pretrained_minilm"):
        pretrained_page.make([folder.with_name("encoding_choice")])


def test_the_page_says_what_a_sentence_encoder_keeps_and_finds(folder, pretrained_page):
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
    pretrained_page.make([minilm])
    text = pretrained_page.PAGE.read_text()
    assert "t5 finds most after distillation (75.0 % of the pass keys)" in text
    assert "a cosine of 0.900 to those of the untouched model, and its probe is right on 95.0 % of the topics" in text
    assert "Beside it: 25.0 % under copied rows." in text


def test_the_page_says_what_recovers(folder, pretrained_page):
    smollm2 = folder.rename(folder.with_name("pretrained_smollm2_small"))
    rows = [
        {"case": case, "encoding": encoding, "seed": 1, "metric": "bits_per_byte@512", "value": value}
        for case, encoding, value in (("zero_shot", "none", 4.0), ("zero_shot", "t5", 3.0), ("recovery", "none", 2.0))
    ]
    pd.DataFrame(rows).to_csv(smollm2 / "results.csv", index=False)
    pretrained_page.make([smollm2])
    assert "Under none, 4.000 bits per byte become 2.000 by the recovery" in pretrained_page.PAGE.read_text()
