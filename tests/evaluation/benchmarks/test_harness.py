"""A model of Poslab answers lm-evaluation-harness as the same model does that transformers loads."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import poslab
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer
from poslab.encodings import Learned, Rotary
from poslab.models import Decoder, Encoder, StackConfig

lm_eval = pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import BPE  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402

from poslab.evaluation.benchmarks.harness import HarnessModel  # noqa: E402

pytestmark = pytest.mark.slow  # it imports the harness
LENGTH = 48
SIZES = {"d_model": 32, "num_layers": 2, "num_heads": 4}


def decoder(encoding=Rotary) -> Decoder:
    torch.manual_seed(0)
    return Decoder(StackConfig(encoding=encoding, **SIZES), ByteTokenizer().vocab_size).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Ours, and the harness's own for the directory to which it is exported."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, folder = decoder(), tmp_path_factory.mktemp("exported") / "model"
    poslab.export(model, folder, length=LENGTH, tokenizer=ByteTokenizer())
    theirs = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return HarnessModel(model, ByteTokenizer(), LENGTH), HFLM(
        pretrained=theirs[0], tokenizer=theirs[1], max_length=LENGTH, batch_size=2, device="cpu"
    )


def requests(kind, *arguments):
    return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]


def test_probabilities_of_continuations(models):
    asked = requests(
        "loglikelihood",
        ("The path", " goes on."),
        ("", "Hills"),
        ("ends with a space ", "x"),
        ("far beyond the length of the model, so that only the last tokens count", " as they are, whatever"),
    )
    ours, theirs = (model.loglikelihood(asked) for model in models)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [p for p, _ in ours] == pytest.approx([p for p, _ in theirs], rel=1e-5)


def test_probabilities_of_texts_in_windows(models):
    asked = requests("loglikelihood_rolling", ("Short.",), (" ".join(map(str, range(60))),))
    ours, theirs = (model.loglikelihood_rolling(asked) for model in models)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_of_a_continuation_longer_than_the_model_the_end_counts(models):
    ours, _ = models
    whole, end = ours.loglikelihood(requests("loglikelihood", ("a", "b" * 60), ("b", "b" * LENGTH)), disable_tqdm=True)
    assert whole == end


def test_answers(models):
    settings = {"do_sample": False, "max_gen_toks": 12, "until": ["\n"]}
    asked = requests("generate_until", ("The path goes", settings), ("x" * 90, settings))
    ours, theirs = (model.generate_until(asked) for model in models)
    assert ours == theirs


def test_an_answer_ends_before_what_stops_it(models):
    (whole,) = models[0].generate_until(requests("generate_until", ("A", {"max_gen_toks": 12, "until": []})))
    (cut,) = models[0].generate_until(requests("generate_until", ("A", {"max_gen_toks": 12, "until": [whole[3:5]]})))
    assert cut == whole.split(whole[3:5])[0]


def test_sampled_answers_are_the_same_for_a_seed():
    settings = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12, "until": []}
    asked = requests("generate_until", ("The", settings))
    first, again, other = (HarnessModel(decoder(), ByteTokenizer(), LENGTH, s).generate_until(asked) for s in (1, 1, 2))
    assert first == again != other


def test_what_cannot_be_asked_is_one_sentence():
    with pytest.raises(ValueError, match="lengths must be at most 16, where the encoding ends, got 32"):
        HarnessModel(decoder(partial(Learned, max_length=16)), ByteTokenizer(), 32)
    with pytest.raises(ValueError, match="continues texts"):
        HarnessModel(Encoder(StackConfig(encoding=Rotary, **SIZES), 257).eval(), ByteTokenizer(), 32)
    with pytest.raises(ValueError, match="room for the 256 tokens of an answer, got 32"):
        HarnessModel(decoder(), ByteTokenizer(), 32).generate_until(requests("generate_until", ("A", {"until": []})))


def test_a_prompt_begins_as_its_tokenizer_begins_a_text():
    """As in the harness's own model: a fine-tuned Llama reads its BOS token as the untouched one does."""
    tokenizer = Tokenizer(BPE({"<s>": 0, "</s>": 1, "a": 2, "b": 3}, []))
    tokenizer.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 0)])
    model = HarnessModel(decoder(), SubwordTokenizer(tokenizer), LENGTH)
    assert model.tok_encode("ab") == [0, 2, 3]
    assert model.tok_encode("ab", add_special_tokens=False) == [2, 3]
    assert HarnessModel(decoder(), ByteTokenizer(), LENGTH).tok_encode("ab") == [97, 98]
