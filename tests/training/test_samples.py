"""What a model writes while it learns."""

from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poslab
from poslab.data.tokenizers import load_tokenizer
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.runs.directory import RunDirectory
from tests.training.runs import run_of, small


def samples(run: RunDirectory) -> dict[str, dict[int, str]]:
    """Return the texts in TensorBoard by tag and step, without the indentation of code."""
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("samples/")]
    return {
        tag.removesuffix("/text_summary").removeprefix("samples/"): {
            event.step: "\n".join(
                line.removeprefix("    ") for line in event.tensor_proto.string_val[0].decode().split("\n")
            )
            for event in events.Tensors(tag)
        }
        for tag in tags
    }


def test_a_language_model_continues_prompts_before_the_first_step_and_after_each_validation(tmp_path):
    more = ("trainer.max_steps=4", "trainer.validations=2", "callbacks=[samples]", "callbacks.samples.max_new_tokens=6")
    run = run_of(small(tmp_path, *more, "callbacks.samples.prompts=[sea,the]"), tmp_path / "run")
    written = samples(run)
    assert {name: list(texts) for name, texts in written.items()} == {"0: sea": [0, 2, 4], "1: the": [0, 2, 4]}

    model, tokenizer = poslab.load(run.last_checkpoint), load_tokenizer(run.path)
    prompt = torch.tensor([tokenizer.encode("sea").tolist()])
    tokens = [int(token) for token in generate(model, prompt, 6, Sampling(temperature=0), end_id=tokenizer.end_id)]
    assert written["0: sea"][4] == "sea" + tokenizer.decode(tokens)


def test_training_is_as_without_them(tmp_path):
    plain, writing = (
        run_of(small(tmp_path, *more), tmp_path / f"run{len(more)}") for more in ((), ("callbacks=[samples]",))
    )
    assert plain.metrics()["validation/loss"] == writing.metrics()["validation/loss"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["callbacks.samples.prompts=[]"], "prompts must contain at least"),
        (["logger=[csv]"], r"callbacks\.samples needs TensorBoard"),
        (
            ["model=encoder"],
            "callbacks.samples needs a task that",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        run_of(small(tmp_path, "callbacks=[samples]", *more), tmp_path / "run")
