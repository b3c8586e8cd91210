"""The teacher of a run that distils: a trained run or the untouched pretrained model, checked and loaded."""

from __future__ import annotations

from dataclasses import asdict, replace

from poslab.configuration.build import full_keys, trusted_packages
from poslab.data.corpus import Corpus
from poslab.data.hub_text import HubText
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.models import Model
from poslab.runs.directory import RunDirectory
from poslab.runs.distillation import UNTOUCHED, Distillation
from poslab.runs.loading import load
from poslab.runs.recipe import Recipe, recipe_of
from poslab.runs.steps import Teacher
from poslab.tasks.measurement import TaskRecord
from poslab.tasks.task import Task

OF_PATCHES = ("patch", "mean", "deviation")  # fields of the record of a task that say how its model reads patches


def check_teacher(recipe: Recipe, objective: Distillation, student: Model) -> None:
    """Raise ValueError, before there is data, if a teacher is missing or damaged, or cannot teach this student."""
    if objective.teacher_length is not None:
        _check_teacher_length(recipe, objective.teacher_length)
    loaded = _loaded(recipe, objective)
    match, teacher = objective.matched(loaded), loaded.model
    if match != "logits" and recipe.trainer.must_compile:
        raise ValueError(f"trainer.compile must be false where objective.match={match}")
    if match in ("attention", "relations"):
        for model in (student, teacher):
            if len(model.stacks) > 1 or not model.attention_layers:
                raise ValueError(
                    f"objective.match must be logits for {_named(model)}, which has no single stack of attention layers"
                )
        heads = objective.relation_heads or student.encodings.shape.num_heads
        for whose, model in (("student", student), ("teacher", teacher)):
            width = model.encodings.shape.num_heads * model.encodings.shape.head_dim
            if match == "relations" and width % heads:
                raise ValueError(
                    f"objective.relation_heads must divide {width}, the width of all heads of the {whose}, got {heads}"
                )
        return
    if match == "hidden":
        for model in (student, teacher):
            if type(model).hidden_states is Model.hidden_states:
                raise ValueError(f"objective.match must be logits for {_named(model)}, which has no hidden states")
        here, there = (model.encodings.shape.d_model for model in (student, teacher))
        if here != there:
            raise ValueError(f"model.d_model must be {there}, the width of the teacher's hidden states, got {here}")
        return
    if not loaded.predicts:
        raise ValueError(
            "objective.match must be hidden: the untouched model has no trained output layer for "
            f"{recipe.source.kind.name} data"
        )
    if lacking := sorted(recipe.task.needs - teacher.capabilities):
        raise ValueError(
            f"objective.teacher={objective.teacher} must be a model for the task of this run, got {_named(teacher)}, "
            f"which lacks {lacking[0]}"
        )


def _check_teacher_length(recipe: Recipe, length: int) -> None:
    """Raise ValueError if the data of a run has no text before its windows, or a window is longer than this."""
    source = recipe.source
    if not isinstance(source, Corpus) or not recipe.task.predicts_next_tokens:
        raise ValueError("objective.teacher_length must be null unless a decoder predicts the next tokens of a text")
    if isinstance(source, HubText) and source.streaming:
        raise ValueError(
            "objective.teacher_length must be null with dataset.streaming=true, which keeps no earlier text"
        )
    if length < source.sequence_length:
        raise ValueError(
            f"objective.teacher_length must be at least dataset.sequence_length={source.sequence_length}, got {length}"
        )


def teacher_of(recipe: Recipe, objective: Distillation, task: Task, tokenizer: Tokenizer) -> Teacher:
    """Return the checked teacher of a run on the CPU; ValueError if it has other tokens or classes, or is damaged."""
    teacher = _loaded(recipe, objective)
    if objective.teacher == UNTOUCHED:
        _check_vocabulary(teacher, task, tokenizer)
    else:
        _check_tokens(recipe, objective, task.record(), tokenizer)
    return teacher


def _loaded(recipe: Recipe, objective: Distillation) -> Teacher:
    """Return the teacher of a run on the CPU; ValueError if it cannot be loaded, or has too few positions."""
    teacher = _untouched(recipe) if objective.teacher == UNTOUCHED else _trained(recipe, str(objective.teacher))
    end, key = teacher.model.max_length, "within" if objective.teacher_length is None else "teacher_length"
    given = objective.within or objective.teacher_length
    longest = teacher.longest if given is None else given
    if end is not None and longest > end:
        raise ValueError(
            f"objective.{key} must be at most {end}, where the positions of the teacher end, got {longest}"
        )
    return replace(teacher, longest=longest)


def _trained(recipe: Recipe, source: str) -> Teacher:
    """Return the model of a run, which reads as many tokens as it was trained at; ValueError if it cannot be loaded."""
    trust = trusted_packages(recipe.config)
    try:
        trained_at = recipe_of(RunDirectory.of(source, trust)).source.sequence_length
        return Teacher(load(source, trust=trust), trained_at, source)
    except ValueError as error:
        raise ValueError(f"objective.teacher: {error}") from error


def _untouched(recipe: Recipe) -> Teacher:
    """Return the pretrained model of a run with its own positions, as the teacher; ValueError if it is not pretrained.

    It makes the predictions of the task if these are token logits, and it has a trained output layer.
    """
    with full_keys("model", recipe.config):
        untouched = recipe.model.untouched()
        model = None if untouched is None else untouched.build(vocab_size=None).eval()
    if model is None:
        raise ValueError(
            f"objective.teacher={UNTOUCHED} needs a pretrained model, which has its own positions, got "
            f"{recipe.model.kind.__name__}: name a run or a checkpoint"
        )
    facts = model.encodings.shape.pretrained
    assert facts is not None
    predicts = model.has_trained_logits and recipe.task.predicts_tokens
    return Teacher(model, facts.training_length, UNTOUCHED, predicts)


def _check_vocabulary(teacher: Teacher, task: Task, tokenizer: Tokenizer) -> None:
    """Raise ValueError if the untouched model lacks tokens of a run, which it then could neither read nor predict."""
    there, here = teacher.model.embedding.num_embeddings, tokenizer.vocab_size + task.extra_tokens
    if here > there:
        raise ValueError(
            f"objective.teacher={UNTOUCHED} must know all tokens of this run: the model has {there:,}, the data and "
            f"its task have {here:,}"
        )


def _check_tokens(recipe: Recipe, objective: Distillation, learned: TaskRecord, tokenizer: Tokenizer) -> None:
    """Raise ValueError if a teacher does not know the tokens of a task, or for logits predicts something else."""
    run = RunDirectory.of(str(objective.teacher), trusted_packages(recipe.config))
    try:
        taught, known = recipe_of(run).task.record_type.read(run.task_file), load_tokenizer(run.path)
    except ValueError as error:
        raise ValueError(f"objective.teacher: {error}") from error
    if known != tokenizer:
        raise ValueError(
            f"objective.teacher={objective.teacher} must have the tokenizer of this run, got another one: "
            f"{known.vocab_size:,} tokens there, {tokenizer.vocab_size:,} here"
        )
    there, here = asdict(taught), asdict(learned)
    does, names = "predict", [*{**there, **here}]
    if objective.match not in (None, "logits"):  # None is logits, for a run
        if taught.extra_tokens < learned.extra_tokens:
            raise ValueError(
                f"objective.teacher={objective.teacher} must know the tokens of this task besides the tokens of text: "
                f"{taught.extra_tokens} there, {learned.extra_tokens} here"
            )
        does, names = "read", [name for name in OF_PATCHES if name in here]
    if differing := [name for name in reversed(names) if there.get(name) != here.get(name)]:
        name = differing[0]
        raise ValueError(
            f"objective.teacher={objective.teacher} must {does} what this run does, but its {name} differ: "
            f"{there.get(name)!s:.80} there, {here.get(name)!s:.80} here"
        )


def _named(model: Model) -> str:
    return type(model).__name__
