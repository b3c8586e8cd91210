"""A run is what a plain PyTorch loop over the same windows would have made, whatever it is cut into."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import poslab
from poslab.data.batch import TokenBatch
from poslab.data.corpus import EvaluationWindows, TrainingWindows
from poslab.encodings import Positions
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import NonFiniteLossError
from poslab.runs.recipe import Recipe
from poslab.training import learner
from poslab.training.components import learner_of
from tests.training.runs import assert_same_weights, opened, recorded, run_of, small, weights, words

IGNORE = -100
END = 256  # of a document, among byte tokens


@pytest.fixture
def documents(tmp_path: Path) -> str:
    """The override for 200 documents of one word or up to twelve: windows hold from no boundary to several."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.txt").write_text(words(1 + number * 7 % 12 * (number % 3 == 0), seed=number))
    return f"dataset.files={folder}/*.txt"


def data_of(config: dict[str, Any]) -> Any:
    """The data of a run as its only process sees them, in batches that are not cut into smaller ones."""
    data, _ = opened(config)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, accumulate_grad_batches=1, max_steps=config["trainer"]["max_steps"], global_step=0
    )
    return data


def initial_model(config: dict[str, Any]) -> nn.Module:
    """The model that a run begins with."""
    torch.manual_seed(config["seed"])
    return Recipe.of(config).model.build(vocab_size=257)


def logits_of(model: nn.Module, batch: TokenBatch) -> Tensor:
    positions = None if batch.segments is None else Positions.packed(batch.segments)
    logits: Tensor = model(batch.tokens, positions)
    return logits


def mean_loss(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Nats per predicted token of a whole batch."""
    return functional.cross_entropy(logits_of(model, batch).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)


def gradient_norm(model: nn.Module) -> float:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients))


def first_gradients(run: RunDirectory, beta: float) -> list[Tensor]:
    """The gradients that the first step was made with, largest tensors first: Adam's first moment is 1 - beta of it."""
    state = load_checkpoint(run.last_checkpoint)["optimizer_states"][0]["state"]
    return sorted((moments["exp_avg"] / (1 - beta) for moments in state.values()), key=in_some_order)


def in_some_order(gradient: Tensor) -> tuple[int, float]:
    return gradient.numel(), round(gradient.double().square().sum().item(), 7)


@pytest.mark.parametrize("micro_batch_size", ["null", "4", "2", "1"])
def test_the_gradient_is_that_of_the_mean_over_the_predicted_tokens_of_the_whole_batch(
    tmp_path, documents, micro_batch_size
):
    shape = ["dataset.document_boundaries=true", "dataset.batch_size=8", "trainer.max_steps=1"]
    cut = [f"trainer.micro_batch_size={micro_batch_size}", "optimizer.gradient_clip=null"]
    config = small(tmp_path, documents, "encoding=t5", *shape, *cut)
    run = run_of(config, tmp_path / "run")

    model, batch = initial_model(config), next(iter(data_of(config).train_dataloader()))
    predicted_by_window = (batch.targets != IGNORE).sum(1)
    assert len(predicted_by_window.unique()) > 2
    loss = mean_loss(model, batch)
    loss.backward()

    expected = sorted((p.grad for p in model.parameters() if p.grad is not None), key=in_some_order)
    torch.testing.assert_close(first_gradients(run, beta=0.9), expected, atol=1e-7, rtol=1e-5)
    metrics = {tag: value for _, tag, value in recorded(run) if tag.startswith("train/")}
    assert metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert metrics["train/gradient_norm"] == pytest.approx(gradient_norm(model), rel=1e-5)


def test_a_gradient_that_is_too_long_is_cut_to_the_longest(tmp_path):
    config = small(tmp_path, "optimizer.gradient_clip=0.01", "trainer.max_steps=1", "trainer.micro_batch_size=2")
    run = run_of(config, tmp_path / "run")
    used = math.sqrt(sum(g.double().square().sum().item() for g in first_gradients(run, beta=0.9)))
    assert used == pytest.approx(0.01, rel=1e-4)

    model = initial_model(config)
    mean_loss(model, next(iter(data_of(config).train_dataloader()))).backward()
    shown = next(value for _, tag, value in recorded(run) if tag == "train/gradient_norm")
    assert shown == pytest.approx(gradient_norm(model), rel=1e-5)  # as it was before
    assert shown > 0.1


def test_a_run_ends_with_the_weights_of_a_plain_loop(tmp_path):
    steps, lr = 6, 3e-3
    sizes = [f"trainer.max_steps={steps}", "trainer.micro_batch_size=1", f"optimizer.lr={lr}"]
    config = small(tmp_path, "encoding=learned", *sizes, "optimizer.encoding_lr_multiplier=2", "seed=5")
    run = run_of(config, tmp_path / "run")

    model = initial_model(config)
    matrices = [module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    decaying = [weight for weight in matrices if weight is not model.embedding.weight]
    table = [parameter for name, parameter in model.named_parameters() if name.startswith("encodings.")]
    rest = [p for p in model.parameters() if not any(p is other for other in [*decaying, *table])]
    optimizer = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.1}, {"params": rest}, {"params": table, "multiplier": 2.0}],
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    for step, batch in enumerate(data_of(config).train_dataloader()):
        # One step of warm-up (a tenth of six, rounded), then five of cosine down to 0.02.
        fraction = 0.5 if step == 0 else 0.02 + 0.98 * (1 + math.cos(math.pi * (step - 1) / 5)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * fraction * group.get("multiplier", 1.0)
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    trained = weights(run.last_checkpoint)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(trained[name], weight, atol=2e-6, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def test_dropout_is_the_same_in_a_step_whatever_came_before_it(tmp_path):
    config = small(tmp_path, "model.dropout=0.3", "trainer.validations=1")
    seldom = run_of(config, tmp_path / "seldom")
    torch.rand(1000)
    often = run_of(small(tmp_path, "model.dropout=0.3", "trainer.validations=4"), tmp_path / "often")
    without = run_of(small(tmp_path), tmp_path / "without")
    assert_same_weights(often, seldom)
    with pytest.raises(AssertionError):
        assert_same_weights(without, seldom)


def test_dropout_differs_between_steps_and_between_micro_batches(tmp_path):
    losses = []
    for more in (["dataset.batch_size=4"], ["dataset.batch_size=4", "trainer.micro_batch_size=2"]):
        # The model stays as it is, and so does the batch: only dropout is left to change the loss.
        still = ["model.dropout=0.5", "dataset.overfit=true", "optimizer.lr=1e-30", *more]
        run = run_of(small(tmp_path, *still), tmp_path / f"run{len(losses)}")
        losses += [value for _, tag, value in recorded(run) if tag == "train/loss"]
    assert len(set(losses)) == 8


@pytest.mark.parametrize("boundaries", ["false", "true"])
def test_evaluated_metrics_are_those_of_a_plain_loop(tmp_path, documents, boundaries):
    config = small(tmp_path, documents, f"dataset.document_boundaries={boundaries}", "trainer.micro_batch_size=2")
    metrics = run_of(config, tmp_path / "run").metrics()
    data, model = data_of(config), poslab.load(tmp_path / "run")
    for length, loader in zip((16, 32), data.test_dataloader(), strict=True):
        nats, correct, predicted, num_bytes = 0.0, 0, 0, 0
        for batch in loader:
            logits = logits_of(model, batch).double()
            for row, targets in zip(logits, batch.targets, strict=True):
                for scores, target in zip(row, targets.tolist(), strict=True):
                    if target == IGNORE:
                        continue
                    nats += (torch.logsumexp(scores, 0) - scores[target]).item()
                    correct += int(scores.argmax().item() == target)
                    predicted += 1
                    num_bytes += target != END
        assert metrics[f"test/loss@{length}"] == pytest.approx(nats / predicted, rel=1e-6)
        assert metrics[f"test/bits_per_byte@{length}"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-6)
        assert metrics[f"test/perplexity@{length}"] == pytest.approx(math.exp(nats / predicted), rel=1e-6)
        assert metrics[f"test/accuracy@{length}"] == 100 * correct / predicted
    for name in ("loss", "bits_per_byte", "perplexity", "accuracy"):
        assert metrics[f"test/{name}"] == metrics[f"test/{name}@16"]


def test_metrics_are_flat_numbers_with_every_tag_that_others_rely_on(tmp_path):
    metrics = run_of(small(tmp_path), tmp_path / "run").metrics()
    names = ["loss", "bits_per_byte", "perplexity", "accuracy"]
    tags = {f"{split}/{name}{at}" for split in ("validation", "test") for name in names for at in ("", "@16", "@32")}
    facts = {"train/tokens_per_second", "train/mfu", "train/seconds", "memory/peak_mb", "parameters", "steps"}
    assert set(metrics) == tags | facts
    assert all(type(value) in (int, float) and math.isfinite(value) for value in metrics.values())
    assert (metrics["steps"], metrics["parameters"]) == (4, 8256)


def test_the_test_is_of_the_checkpoint_with_the_best_validation(tmp_path):
    # Learns for some steps, and is then thrown off by a gradient that is not cut and a high learning rate.
    config = small(tmp_path, "optimizer.lr=0.1", "trainer.max_steps=8", "trainer.validations=8")
    run = run_of(config, tmp_path / "run")
    losses = {step: value for step, tag, value in recorded(run) if tag == "validation/loss"}
    best = min(losses, key=losses.__getitem__)
    assert best < 8, losses
    assert load_checkpoint(run.best_checkpoint)["global_step"] == best
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 8
    assert run.metrics()["validation/loss"] == losses[best]
    assert f"best checkpoint, step {best}" in run.log_file.read_text()


def test_seconds_of_training_hold_the_wait_for_data_but_no_validation_and_are_of_the_whole_run(tmp_path, monkeypatch):
    passed = 0.0

    def slow(method: Any, seconds: float) -> Any:
        def slowly(self: Any, numbers: Any) -> Any:
            nonlocal passed
            passed += seconds
            return method(self, numbers)

        return slowly

    monkeypatch.setattr(learner, "time", SimpleNamespace(perf_counter=lambda: passed))
    for windows, seconds in ((TrainingWindows, 1.0), (EvaluationWindows, 100.0)):
        monkeypatch.setattr(windows, "__getitems__", slow(windows.__getitems__, seconds))
    # The first validation is the best: its checkpoint, which is tested, knows of four steps alone.
    config = small(tmp_path, "optimizer.lr=0.1", "trainer.max_steps=8", "dataset.length_multiples=[1]")
    metrics = run_of(config, tmp_path / "run").metrics()
    assert metrics["train/seconds"] == 8
    assert metrics["train/tokens_per_second"] == 8 * 4 * 16 / 8


def test_lengths_past_the_end_of_an_encoding_are_a_dash_and_no_figure(tmp_path):
    run = run_of(small(tmp_path, "encoding=learned"), tmp_path / "run")
    assert not any("@32" in tag for tag in run.metrics())
    assert not any("@32" in tag for _, tag, _ in recorded(run))
    rows = [line.split() for line in run.log_file.read_text().splitlines()]
    assert ["32", "2x", "–", "–", "–"] in rows
    assert any(row[:2] == ["16", "1x"] and "–" not in row for row in rows)


@pytest.mark.parametrize("saves", ["1", "20"])
def test_a_loss_that_is_no_number_ends_the_run_in_one_sentence_and_is_not_saved(tmp_path, saves):
    thrown_off = ["optimizer.lr=1e30", "optimizer.warmup_fraction=0", "trainer.max_steps=20", "trainer.validations=1"]
    config = small(tmp_path, *thrown_off, f"trainer.saves={saves}", "trainer.log_every=10")
    with pytest.raises(NonFiniteLossError) as error:
        run_of(config, tmp_path / "run")
    assert error.value.exit_status == 1
    assert "try a smaller optimizer.lr (now 1e+30)" in str(error.value)
    assert "\n" not in str(error.value)
    run = RunDirectory(tmp_path / "run")
    assert not run.is_finished
    for file in run.checkpoints.iterdir():
        assert all(weight.isfinite().all() for weight in weights(file).values()), file


def test_processes_that_share_a_window_draw_the_same_numbers(tmp_path):
    config = small(tmp_path, "trainer=ddp_cpu", "trainer.context_parallel=2")
    data, task = opened(config)
    shared = learner_of(Recipe.of(config), Recipe.of(config).model.build(257), task, data)
    drawn = []
    for rank in range(4):
        shared._trainer = SimpleNamespace(global_rank=rank, accumulate_grad_batches=1)  # type: ignore[assignment]
        shared.on_train_batch_start(None, 0)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
