"""Samples of a model while it learns, as text in TensorBoard."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only

from poslab.arguments import CheckedArguments, Count
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.scores.tokens import evaluating
from poslab.generation.streaming import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Model
from poslab.tasks.task import Search, Task, device_of
from poslab.training.learner import Learner
from poslab.training.loggers import RunTensorBoard


class Samples(CheckedArguments, L.Callback):
    """The continuations of prompts, or the answers to them, before the first step and after every validation.

    A language model continues a prompt greedily; a model of another task answers it as `python -m src.generate` does.
    They stand in the tab TEXT of TensorBoard.

    Args:
        prompts: texts, each an input of the task; at least one.
        max_new_tokens: most tokens that are written for each.
    """

    def __init__(self, prompts: list[str], max_new_tokens: Count = 100) -> None:
        if not prompts:
            raise ValueError("prompts must hold at least one text")
        self.prompts = prompts
        self.search = Search(max_new_tokens=max_new_tokens)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the first samples.

        Raises:
            ValueError: for a run whose model cannot write, or a prompt that it cannot read.
        """
        assert isinstance(pl_module, Learner)
        task = pl_module.task
        if not task.predicts_next_tokens and type(task).predict is Task.predict:
            raise ValueError(
                f"callbacks.samples needs a task that writes or answers, which {type(task).__name__} is not"
            )
        if not any(isinstance(logger, RunTensorBoard) for logger in trainer.loggers):
            raise ValueError("callbacks.samples needs TensorBoard: logger=[tensorboard,csv]")
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "callbacks.samples needs the whole model on a device: trainer.strategy must be ddp, not fsdp"
            )
        self._write(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._write(trainer, pl_module)

    @rank_zero_only
    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        tokenizer: Tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        (board, *_) = (logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard))
        model, task = pl_module.model, pl_module.task
        for number, prompt in enumerate(self.prompts):
            try:
                with evaluating(model):
                    if task.predicts_next_tokens:
                        text = prompt + self._continuation(model, tokenizer, prompt)
                    else:
                        text = task.predict(model, prompt, self.search).text
            except ValueError as error:
                raise ValueError(f"callbacks.samples.prompts[{number}]: {error}") from error
            indented = "\n".join(f"    {line}" for line in text.split("\n"))  # as code, so that no sign is Markdown
            board.experiment.add_text(f"samples/{number}: {prompt}", indented, trainer.global_step)

    def _continuation(self, model: Model, tokenizer: Tokenizer, prompt: str) -> str:
        tokens = tokenizer.encode(prompt).tolist() or [tokenizer.end_id]
        read = torch.tensor([tokens], device=device_of(model))
        most, greedy = self.search.max_new_tokens, Sampling(temperature=0)
        return tokenizer.decode([int(token) for token in generate(model, read, most, greedy, end_id=tokenizer.end_id)])
