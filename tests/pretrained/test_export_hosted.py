"""Pretrained models under other encodings as directories of transformers: a plain class where one is exact."""

from __future__ import annotations

import json
import sys
from functools import partial

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import poslab
from poslab.encodings import (
    Alibi,
    LayerPattern,
    LayerSpec,
    Learned,
    LogN,
    NoPosition,
    PositionalEncoding,
    Randomized,
    Rotary,
    StackEncodings,
    T5Bias,
    rnope,
)
from poslab.encodings.rotary.scalings import rope_linear
from poslab.encodings.rotary.yarn import yarn
from poslab.models import Outputs
from poslab.models.adaptation import LowRank
from poslab.pretrained.borrow import borrow, describe, encodings_of, exchange
from poslab.pretrained.export.rope_parameters import KNOWN_TO_4
from poslab.pretrained.families import FAMILIES
from tests.cli.running import Running, python
from tests.encoding_choices import EVERY_ENCODING
from tests.pretrained.hosted import DIGITS, MORE, SOME, choice, greedy, serves_both
from tests.pretrained.hosted import hosted as hosted_in
from tests.pretrained.test_runs import configuration
from tests.pretrained.tiny import ROWS, some_tokens, tiny, tiny_config
from tests.training.runs import run_of

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
hosted = partial(hosted_in, dtype=torch.float32)


def loaded(name, path):
    auto_class = AutoModelForCausalLM if FAMILIES[name].causal else AutoModelForMaskedLM
    return auto_class.from_pretrained(path).eval()


longer = partial(Learned, max_length=3 * ROWS)

PLAIN = {
    ("llama", "rotary"): ("LlamaForCausalLM", "default"),
    ("llama", "yarn"): ("LlamaForCausalLM", "yarn"),
    ("llama", "none"): ("LlamaForCausalLM", "proportional"),
    ("llama", "hope"): ("LlamaForCausalLM", "proportional"),
    ("gemma", "yarn"): ("GemmaForCausalLM", "yarn"),
    ("olmo", "rope_linear"): ("OlmoForCausalLM", "linear"),
    ("olmo2", "rope_ntk"): ("Olmo2ForCausalLM", "default"),
    ("qwen2", "rope_dynamic_ntk"): ("Qwen2ForCausalLM", "dynamic"),
    ("qwen3", "llama3"): ("Qwen3ForCausalLM", "llama3"),
    ("mistral", "longrope"): ("MistralForCausalLM", "longrope"),
    ("smollm3", "rotary"): ("SmolLM3ForCausalLM", "default"),
    ("smollm3", "rnope"): ("SmolLM3ForCausalLM", "default"),
    ("gpt_neox", "rotary"): ("GPTNeoXForCausalLM", "default"),
    ("gpt_neox", "yarn"): ("GPTNeoXForCausalLM", "yarn"),
    ("gpt_neox", "its share"): ("GPTNeoXForCausalLM", "default"),
    ("gpt_neox", "its share, linear"): ("GPTNeoXForCausalLM", "linear"),
    ("gpt_neox", "its share, yarn"): ("GPTNeoXForCausalLM", "yarn"),
    ("gpt_neox", "none"): ("GPTNeoXForCausalLM", "longrope"),
    ("modernbert", "rotary"): ("ModernBertForMaskedLM", "default"),
    ("modernbert", "none"): ("ModernBertForMaskedLM", "proportional"),
    ("modernbert", "longrope"): ("ModernBertForMaskedLM", "longrope"),
    ("bert", "rotary"): ("JinaEmbeddingsV3ForMaskedLM", "default"),
    ("bert", "yarn"): ("JinaEmbeddingsV3ForMaskedLM", "yarn"),
    ("bert", "none"): ("JinaEmbeddingsV3ForMaskedLM", "proportional"),
    ("roberta", "rotary"): ("JinaEmbeddingsV3ForMaskedLM", "default"),
    ("xlm-roberta", "none"): ("JinaEmbeddingsV3ForMaskedLM", "proportional"),
    ("bert", "learned"): ("BertForMaskedLM", None),
    ("roberta", "learned"): ("RobertaForMaskedLM", None),
    ("distilbert", "learned"): ("DistilBertForMaskedLM", None),
    ("gpt2", "learned"): ("GPT2LMHeadModel", None),
    ("opt", "learned"): ("OPTForCausalLM", None),
}
"""Pairs that a plain class has, that class, and the name of its rotation."""

UNDER_ENCODING = (
    *(("llama", "t5"), ("llama", "path"), ("mistral", "alibi"), ("gpt2", "rotary")),
    *(("gpt2", "sinusoidal"), ("opt", "t5"), ("gpt_neox", "whole logits, yarn"), ("gpt_neox", "alibi"), ("bert", "t5")),
    *(("bert", "shaw"), ("roberta", "alibi"), ("distilbert", "rotary"), ("electra", "learned"), ("modernbert", "t5")),
)
"""Pairs of each family and of each kind of hook that no plain class has."""


def encoding_of(name):
    """The encoding of a choice, or one that takes what it is not given from the model."""
    own = {
        "learned": longer,
        "rnope": rnope(every=2),
        "its share": Rotary,
        "its share, linear": partial(Rotary, scaling=rope_linear),
        "its share, yarn": partial(Rotary, scaling=partial(yarn, factor=2.0)),
        "whole logits, yarn": partial(Rotary, scaling=partial(yarn, factor=2.0), factor_on="logits"),
    }
    return own.get(name) or choice(name)


def check_generation(name, model, path):
    """A loaded model continues texts as the model does, with its cache."""
    if FAMILIES[name].causal:
        assert torch.equal(loaded(name, path).generate(**greedy()), model.host.generate(**greedy()))


@pytest.mark.parametrize(("name", "encoding"), PLAIN)
@pytest.mark.usefixtures("in_this_process")
def test_a_plain_class_is_exact(name, encoding, tmp_path):
    model = hosted(name, encoding_of(encoding))
    exported = poslab.export(model, tmp_path / "made")
    assert (exported.class_name, exported.rope_type) == PLAIN[name, encoding]
    assert not exported.needs_poslab and not list(exported.path.glob("*.py"))
    assert exported.longest == 2 * ROWS
    check_generation(name, model, exported.path)
    saved = json.loads((exported.path / "config.json").read_text())
    rope, in_4 = saved.get("rope_parameters"), exported.rope_type in (None, *KNOWN_TO_4)
    refused_by_4 = "Jina" in exported.class_name or (name, exported.rope_type) == ("olmo", "linear")
    assert exported.least_transformers == ("4.57.1" if in_4 and not refused_by_4 else "5.20")
    if name == "gpt_neox":
        assert (saved["rotary_emb_base"], saved["rotary_pct"]) == (rope["rope_theta"], rope["partial_rotary_factor"])
    elif name == "modernbert":
        assert saved["global_rope_theta"] == rope["full_attention"]["rope_theta"]
        switch = rope["full_attention"].get("original_max_position_embeddings")
        assert exported.rope_type != "longrope" or saved["original_max_position_embeddings"] == switch
    elif rope:
        assert saved["rope_theta"] == rope["rope_theta"]


@pytest.mark.parametrize(("name", "encoding"), UNDER_ENCODING)
@pytest.mark.usefixtures("in_this_process")
def test_all_else_is_exported_under_its_encoding(name, encoding, tmp_path):
    model = hosted(name, encoding_of(encoding))
    exported = poslab.export(model, tmp_path / "made")
    assert exported.needs_poslab and exported.class_name == f"Poslab{type(model.host).__name__}"
    theirs = loaded(name, exported.path)
    assert set(model.host.state_dict()) == {key for key in theirs.state_dict() if "poslab_encodings" not in key}
    assert theirs.base_model.poslab_encodings.state_dict().keys() == model.encodings.state_dict().keys()
    check_generation(name, model, exported.path)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("in_this_process")
def test_a_model_under_its_own_positions_stays_what_it_is(name, tmp_path):
    model = borrow(tiny(name, torch.float32))
    exported = poslab.export(model, tmp_path / "made")
    assert exported.class_name == type(model.host).__name__ and not exported.needs_poslab
    ids = some_tokens(length=ROWS)
    torch.testing.assert_close(loaded(name, exported.path)(ids).logits, tiny(name, torch.float32)(ids).logits, **CLOSE)


# Some in every family, one of each kind where a family has positions of its own way, and all in two families.
EXPORTED = [
    (name, encoding)
    for name in FAMILIES
    for encoding in EVERY_ENCODING
    if FAMILIES[name].causal or serves_both(encoding)
    if name in ("llama", "bert") or encoding in SOME or (name in ("gpt_neox", "gpt2") and encoding in MORE)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "encoding"), EXPORTED)
@pytest.mark.usefixtures("in_this_process")
def test_every_encoding_and_every_family_is_exported(name, encoding, tmp_path):
    model = hosted(name, choice(encoding))
    exported = poslab.export(model, tmp_path / "made")
    check_generation(name, model, exported.path)


HEADS = {
    "BertModel": "JinaEmbeddingsV3Model",
    "BertForSequenceClassification": "JinaEmbeddingsV3ForSequenceClassification",
    "RobertaForSequenceClassification": "JinaEmbeddingsV3ForSequenceClassification",
    "XLMRobertaModel": "JinaEmbeddingsV3Model",
    "BertForTokenClassification": None,
}


def with_head(head, dtype=torch.float32):
    """A tiny model of a class, with a pooler and types of tokens that matter."""
    torch.manual_seed(0)
    names = {"Bert": "bert", "Rober": "roberta", "XLMR": "xlm-roberta"}
    name = next(name for start, name in names.items() if head.startswith(start))
    config = tiny_config(name, num_labels=3, type_vocab_size=2)
    model = getattr(transformers, head)(config).to(dtype).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("encoding", [Rotary, NoPosition, T5Bias])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.usefixtures("in_this_process")
def test_a_model_that_was_exchanged_in_place_keeps_its_head(head, encoding, tmp_path):
    model = with_head(head)
    exchange(model, encoding)
    exported = poslab.export(model, tmp_path / "made")
    plain = HEADS[head] if encoding is not T5Bias else None
    assert exported.class_name == (plain or f"Poslab{head}")
    auto = head.replace("XLMRoberta", "Auto").replace("Roberta", "Auto").replace("Bert", "Auto")
    auto_class = getattr(transformers, auto.replace("Auto", "AutoModel").replace("AutoModelModel", "AutoModel"))
    theirs, ids = auto_class.from_pretrained(exported.path), some_tokens()
    types = (ids > 20).long()
    found, ours = theirs(ids, token_type_ids=types), model(ids, token_type_ids=types)
    torch.testing.assert_close(found[0], ours[0], **CLOSE)
    if head.endswith("Model"):
        torch.testing.assert_close(found.pooler_output, ours.pooler_output, **CLOSE)


@pytest.mark.usefixtures("in_this_process")
def test_a_base_model_without_a_pooler_has_none(tmp_path):
    for number, encoding in enumerate((Rotary, T5Bias)):
        model = transformers.BertModel(tiny_config("bert"), add_pooling_layer=False).eval()
        exchange(model, encoding)
        path = poslab.export(model, tmp_path / f"{number}").path
        theirs, ids = AutoModel.from_pretrained(path), some_tokens()
        torch.testing.assert_close(theirs(ids).last_hidden_state, model(ids).last_hidden_state, **CLOSE)


@pytest.mark.usefixtures("in_this_process")
def test_a_directory_with_a_head_loads_without_and_the_other_way_round(tmp_path):
    model = hosted("bert", T5Bias)
    path = poslab.export(model, tmp_path / "masked").path
    base, ids = AutoModel.from_pretrained(path), some_tokens()
    expected = model.hidden_states(ids)
    torch.testing.assert_close(base(ids).last_hidden_state, expected, **CLOSE)
    base.save_pretrained(tmp_path / "base")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "base")
    torch.testing.assert_close(again.base_model(ids).last_hidden_state, expected, **CLOSE)


@pytest.mark.usefixtures("in_this_process")
def test_updates_of_low_rank_are_merged(tmp_path):
    for name, encoding in (("gpt2", T5Bias), ("llama", partial(Rotary, scaling=partial(yarn, factor=2.0)))):
        model = hosted(name, encoding)
        for parameter in LowRank().learning(model):
            parameter.data += 0.05 * torch.rand_like(parameter)
        path = poslab.export(model, tmp_path / name).path
        theirs, ids = loaded(name, path), some_tokens()
        assert not [key for key in theirs.state_dict() if "parametrizations" in key]
        torch.testing.assert_close(theirs(ids).logits, model(ids), **CLOSE)


@pytest.mark.parametrize("options", [{"temperature": partial(LogN, training_length=ROWS)}, {}])
@pytest.mark.usefixtures("in_this_process")
def test_temperatures_and_windows_of_a_pattern_need_poslab(options, tmp_path):
    encoding = Rotary if options else LayerPattern([LayerSpec(Rotary, window=3), Rotary])
    model = hosted("llama", encoding, **options)
    assert poslab.export(model, tmp_path / "made").needs_poslab
    torch.testing.assert_close(loaded("llama", tmp_path / "made")(some_tokens()).logits, model(some_tokens()), **CLOSE)


@pytest.mark.usefixtures("in_this_process")
def test_the_configuration_of_a_stretched_model_has_its_length(tmp_path):
    lengths = {
        "rows": (hosted("bert", longer), 3 * ROWS),
        "rows after the padding": (hosted("roberta", longer), 3 * ROWS + 2),
        "stretched": (hosted("llama", partial(Rotary, scaling=partial(yarn, factor=4.0))), 4 * ROWS),
        "trained longer": (hosted("llama", Rotary), 5 * ROWS),
    }
    for number, (model, expected) in enumerate(lengths.values()):
        path = poslab.export(model, tmp_path / f"{number}", length=5 * ROWS if number == 3 else ROWS).path
        assert json.loads((path / "config.json").read_text())["max_position_embeddings"] == expected


# Descriptions


def shapes(config):
    return partial(FAMILIES["llama"].shape, config)


@pytest.mark.parametrize(
    "pattern",
    [
        T5Bias,
        partial(Rotary, scaling=partial(rope_linear, factor=3.0)),
        rnope(every=2, window=5),
        LayerPattern([T5Bias, T5Bias]),
        LayerPattern([T5Bias, partial(T5Bias)], embedding=partial(Learned, max_length=9)),
    ],
)
def test_encodings_are_made_again_by_their_description(pattern):
    shape = shapes(tiny_config("llama"))
    encodings = StackEncodings(pattern, shape(DIGITS), partial(LogN, training_length=9))
    description = json.loads(json.dumps(describe(encodings)))
    again = encodings_of(description, shape)
    again.load_state_dict(encodings.state_dict())
    assert again.windows == encodings.windows and again.shape == encodings.shape
    assert describe(again) == description


def test_facts_of_the_model_are_written_out():
    encodings = StackEncodings(partial(Rotary, scaling=partial(yarn, factor=2.0)), shapes(tiny_config("llama"))())
    node = describe(encodings)["encodings"][0]
    assert (node["base"], node["fraction"], node["scaling"]["training_length"]) == (500.0, 1.0, ROWS)


class Foreign(PositionalEncoding):
    """An encoding that is not of Poslab."""


@pytest.mark.parametrize("pattern", [Foreign, lambda: Alibi(4), partial(Rotary, 8)])
def test_only_encodings_of_poslab_are_described(pattern):
    with pytest.raises(ValueError, match=r"must be.*arguments by name"):
        describe(StackEncodings(pattern, shapes(tiny_config("llama"))()))


HOSTILE = [
    ({"encodings": [{"_target_": "os.system", "command": "touch ran"}]}, "which is not part of poslab"),
    ({"encodings": [{"_target_": "poslab.runs.loading.load"}]}, "_target_ must name a PositionalEncoding"),
    ({"embedding": {"_target_": "tests.pretrained.nowhere.X"}, "trust": ["tests"]}, "which is not part of poslab"),
    ({"kinds": [{"encoding": 3}]}, "config.json does not describe an encoding of Poslab: IndexError"),
    ({"encodings": None}, "config.json does not describe an encoding of Poslab: TypeError"),
    *(
        (
            {"encodings": [{"_target_": f"poslab.encodings.{name}", **sizes}]},
            "at most 268,435,456",
        )
        for name, sizes in (
            ("Learned", {"max_length": 10**9}),
            ("T5Bias", {"num_buckets": 10**9, "max_distance": 2 * 10**9}),
            ("Shaw", {"max_distance": 10**9}),
        )
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), HOSTILE)
@pytest.mark.usefixtures("in_this_process")
def test_a_description_runs_nothing(changes, sentence, tmp_path):
    path = poslab.export(hosted("llama", Alibi), tmp_path / "made").path
    config = json.loads((path / "config.json").read_text())
    config["poslab"] |= changes
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=sentence):
        AutoModelForCausalLM.from_pretrained(path)


# What is refused


def refused():
    classifier = borrow(tiny("bert", torch.float32), Rotary, outputs=Outputs(3, True))
    damaged = hosted("llama", Rotary)
    damaged.base.norm.weight.data[0] = torch.nan
    return {
        "outputs": (classifier, "model must predict tokens to be exported, and this one has other outputs"),
        "positions": (
            hosted("llama", Rotary, positions=Randomized()),
            "positions Randomized moves tokens in evaluation",
        ),
        "untouched": (
            tiny("llama"),
            "model must be one of Poslab, or one of transformers after poslab.exchange, got LlamaForCausalLM",
        ),
        "foreign": (hosted("gpt2", Foreign), "encoding Foreign must be a class or a function of Poslab"),
        "nan": (damaged, "model must have weights that are numbers to be exported, and model.norm.weight has NaN"),
    }


@pytest.mark.parametrize("name", ["outputs", "positions", "untouched", "foreign", "nan"])
def test_what_cannot_be_exported_is_refused(name, tmp_path):
    model, sentence = refused()[name]
    with pytest.raises(ValueError) as caught:
        poslab.export(model, tmp_path / "made")
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_this_process")
def test_a_head_that_no_auto_class_chooses_is_refused(tmp_path):
    model = transformers.BertForPreTraining(tiny_config("bert"))
    exchange(model, T5Bias)
    with pytest.raises(ValueError, match=r"^model must.*to be exported"):
        poslab.export(model, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs("peft")
def test_adapters_that_are_not_merged_are_refused(tmp_path):
    from peft import IA3Config, LoraConfig, get_peft_model

    for adapters in (
        LoraConfig(target_modules=["q_proj"]),
        IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    ):
        model = tiny("llama", torch.float32)
        adapted = get_peft_model(model, adapters)
        exchange(adapted, Rotary)
        with pytest.raises(ValueError, match="LlamaForCausalLM must have plain weights to be exported: merge"):
            poslab.export(adapted, tmp_path / "made")
        assert list(tmp_path.iterdir()) == []


def test_quantised_weights_are_not_exported(tmp_path):
    model = tiny("llama", torch.float32)
    model.config.quantization_config = {"quant_method": "awq"}
    exchange(model, Rotary)
    with pytest.raises(ValueError, match="must have plain weights to be exported"):
        poslab.export(model, tmp_path / "made")


@pytest.mark.usefixtures("in_this_process")
def test_a_compiled_model_is_exported(tmp_path):
    model = tiny("llama", torch.float32)
    exchange(model, Rotary)
    exported = poslab.export(torch.compile(model, backend="eager"), tmp_path / "made")
    assert exported.class_name == "LlamaForCausalLM"


@pytest.mark.usefixtures("in_this_process")
def test_layers_with_a_window_rotate_like_the_others_under_a_rotation_without_scaling(tmp_path):
    model = tiny("qwen2", torch.float32)
    exchange(model, Rotary)
    exported = poslab.export(model, tmp_path / "made")
    assert (exported.class_name, exported.rope_type) == ("Qwen2ForCausalLM", "default")
    torch.testing.assert_close(
        loaded("qwen2", exported.path)(some_tokens()).logits, model(some_tokens()).logits, **CLOSE
    )


@pytest.mark.usefixtures("in_this_process")
def test_an_exported_encoding_is_not_exchanged_again(tmp_path):
    path = poslab.export(hosted("llama", T5Bias), tmp_path / "made").path
    with pytest.raises(ValueError, match=r"model must.*under an encoding"):
        borrow(str(path), Alibi)


# Runs


@pytest.mark.parametrize(
    ("name", "encoding", "class_name"),
    [("llama", "alibi", "PoslabLlamaForCausalLM"), ("bert", "rotary", "JinaEmbeddingsV3ForMaskedLM")],
)
@pytest.mark.usefixtures("in_this_process")
def test_a_run_is_exported_with_the_tokenizer_of_its_model(name, encoding, class_name, folder, tmp_path):
    run = run_of(configuration(folder, name, f"encoding={encoding}", "adapt=lora"), folder / "run")
    exported = poslab.export(run.path, tmp_path / "made")
    assert (exported.class_name, exported.longest) == (class_name, 32)
    assert (exported.path / "tokenizer.json").read_bytes() == (folder / name / "tokenizer.json").read_bytes()
    tokenizer, model = AutoTokenizer.from_pretrained(exported.path), poslab.load(run.path)
    ids = tokenizer("the sea and the wind", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(loaded(name, exported.path)(ids).logits, model(ids), **CLOSE)
    assert tokenizer.model_max_length == max(ROWS, 16)


# Fresh processes

LOADED = """
import sys
{before}
import torch
from transformers import AutoModelForCausalLM
{after}
model = AutoModelForCausalLM.from_pretrained("{path}", trust_remote_code={trust})
print(type(model).__name__, model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax().item())
assert "poslab" in sys.modules
assert any(name.startswith("transformers_modules") for name in sys.modules) == {trust}
model.save_pretrained("{path} again")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fresh_process_loads_it_with_trust_or_once_registered_and_never_without_its_encoding(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = hosted("llama", T5Bias)
    exported = poslab.export(model, tmp_path / "made")
    assert exported.class_name == "PoslabLlamaForCausalLM"
    assert len((tmp_path / "made" / "modeling_poslab.py").read_text().splitlines()) < 30

    def loads(path, before="", after="", trust=False):
        code = LOADED.format(path=path, before=before, after=after, trust=trust)
        return Running([sys.executable, "-c", code], tmp_path).wait(200)

    refused = loads("made")
    assert refused.status != 0 and "trust_remote_code" in refused.errors
    expected = f"PoslabLlamaForCausalLM {model(torch.tensor([[5, 6, 7]]))[0, -1].argmax().item()}\n"
    known = "from poslab.pretrained import register; register()"
    assert loads("made", trust=True).output == expected
    assert loads("made again", before=known).output == expected  # what was saved again loads too
    assert loads("made again again", after=known).output == expected
    assert loads("made again again again", trust=True).output == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_ours_under_a_bias_is_exported_by_the_command(tmp_path):
    from tests.written_run import write_run

    write_run(tmp_path / "run", "encoding=t5")
    ended = Running(python("-m", "src.export", "run=run", "to=made"), tmp_path).wait(300)
    first, second, third, *_ = ended.output.splitlines()
    assert "PoslabLlamaForCausalLM" in first and "trust_remote_code=True" in first
    assert "largest difference of logits" in second
    assert third.startswith("It needs Poslab:") and "T5Bias" in third


def test_every_family_is_among_the_quick_pairs():
    assert {name for name, _ in [*PLAIN, *UNDER_ENCODING]} == set(FAMILIES)


@pytest.mark.parametrize(
    ("to", "length", "message"),
    [(None, 8, "to must name a new"), ("model", 1, "from 2 to"), ("model", 10**12, "from 2 to 1,048,576 tokens, got")],
)
def test_where_and_how_long_is_checked_before_anything_is_written(to, length, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny("llama", torch.float32)
    exchange(model, Rotary)
    with pytest.raises(ValueError, match=message):
        poslab.export(model, to, length=length)
    assert not list(tmp_path.iterdir())
