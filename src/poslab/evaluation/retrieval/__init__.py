"""Retrieval of what a model has read: passkeys, needles, variables, copying, induction.

frame = retrieval(model, tokenizer, lengths=[256, 512, 1024], filler=test_text)
figures = retrieval_figures({"rotary": frame})
"""

from poslab.evaluation.retrieval.copying import Copying
from poslab.evaluation.retrieval.haystack import Haystack
from poslab.evaluation.retrieval.heat_map import at_chance, heat_map, retrieval_figures
from poslab.evaluation.retrieval.induction import Induction
from poslab.evaluation.retrieval.measurement import DEPTHS, TASKS, make_prompts, retrieval
from poslab.evaluation.retrieval.multi_key import MultiKey
from poslab.evaluation.retrieval.multi_value import MultiValue
from poslab.evaluation.retrieval.needle import Needle
from poslab.evaluation.retrieval.passkey import Passkey
from poslab.evaluation.retrieval.scoring import score_answers
from poslab.evaluation.retrieval.task import Prompt, Task
from poslab.evaluation.retrieval.variable_tracking import VariableTracking

__all__ = [
    "DEPTHS",
    "TASKS",
    "Copying",
    "Haystack",
    "Induction",
    "MultiKey",
    "MultiValue",
    "Needle",
    "Passkey",
    "Prompt",
    "Task",
    "VariableTracking",
    "at_chance",
    "heat_map",
    "make_prompts",
    "retrieval",
    "retrieval_figures",
    "score_answers",
]
