"""A run that is stopped in the middle and resumed sees the batches of one that was left alone."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from poslab.data.batch import TokenBatch
from poslab.data.hub_text import HubText
from poslab.data.run_data import RunData
from poslab.data.text_files import TextFiles
from poslab.tasks.language_modelling import LanguageModelling

from .conftest import story


class Recorder(LightningModule):
    """Keeps the training batches that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Any] = []

    def training_step(self, batch: TokenBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.tokens.tolist())
        return self.weight * batch.tokens.float().mean()

    def validation_step(self, batch: TokenBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def run(datamodule: RunData, folder: Path, checkpoint: Path | None = None, stop_after: int = -1) -> Recorder:
    class Stop(ModelCheckpoint):
        def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
            super().on_train_batch_end(trainer, *arguments)
            if trainer.global_step == stop_after:
                raise KeyboardInterrupt

    recorder = Recorder()
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=12,
        accumulate_grad_batches=2,
        val_check_interval=8,
        accelerator="cpu",
        logger=False,
        callbacks=[Stop(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.connect(LanguageModelling.of(datamodule), None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The advice to use loader processes, and the deprecations of torch and Lightning among themselves.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        try:
            trainer.fit(recorder, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except (SystemExit, KeyboardInterrupt):
            assert stop_after >= 0
    if stop_after < 0:
        assert trainer.global_step == 12
    return recorder


@pytest.fixture(params=["files", "stream"])
def datamodules(request: pytest.FixtureRequest, tmp_path: Path, arguments: dict[str, Any], hub_cache: None) -> Any:
    """Makes data modules over the same small text, so that 12 steps are more than a pass."""
    (tmp_path / "text.txt").write_text(story(1, paragraphs=130))

    def make() -> RunData:
        if request.param == "files":
            return RunData(TextFiles(files=str(tmp_path / "text.txt"), **arguments))
        held_out = {"validation": str(tmp_path / "text.txt"), "test": str(tmp_path / "text.txt")}
        corpus = HubText(
            path="text",
            data_files={"train": str(tmp_path / "text.txt"), **held_out},
            validation_split="validation",
            test_split="test",
            streaming=True,
            **arguments,
        )
        return RunData(corpus)

    return make


@pytest.mark.parametrize("stop_after", [3, 4, 11])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(
    datamodules: Any, tmp_path: Path, stop_after: int
) -> None:
    whole = run(datamodules(), tmp_path / "whole")
    assert len(whole.seen) == 24
    before = run(datamodules(), tmp_path / "parts", stop_after=stop_after)
    assert before.seen == whole.seen[: 2 * stop_after]
    after = run(datamodules(), tmp_path / "parts", tmp_path / "parts" / f"step={stop_after}.ckpt")
    assert after.seen == whole.seen[2 * stop_after :]
    assert torch.equal(after.weight, whole.weight)
