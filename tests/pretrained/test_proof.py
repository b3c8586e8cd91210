"""Classes of transformers without a descriptor are supported if a proof on a tiny model passes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from poslab import export
from poslab.encodings import Alibi, LayerPattern, PretrainedPositions, Rotary
from poslab.encodings.rotary.yarn import yarn
from poslab.pretrained import discovery, proof
from poslab.pretrained.borrow import borrow, exchange
from poslab.pretrained.discovery import tiny_config, tiny_model, tiny_text
from poslab.pretrained.families import declared, kinds_of, rope_of
from poslab.pretrained.inspection.report import inspect_positions
from poslab.pretrained.proof import family_of

FEATURES = {
    "gemma2": "soft cap, windows",
    "gemma3_text": "a base for each kind of layers",
    "gpt_oss": "sinks, experts, YaRN",
    "llama4_text": "complex rotation, chunks, layers that do not rotate",
    "cohere2": "interleaved pairs, only windows rotate",
    "deepseek_v3": "latent attention",
    "glm4": "a share of channels, interleaved pairs",
    "qwen3_moe": "experts",
    "lfm2": "convolutions in other layers",
    "camembert": "learned rows of a bidirectional model",
    "biogpt": "learned rows",
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache, in which no proof is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def default(model_type: str, **others: Any) -> Any:
    return CONFIG_MAPPING[model_type](**others)


@pytest.mark.parametrize("model_type", FEATURES)
def test_a_class_of_each_form_of_attention_is_proved(model_type):
    assert family_of(default(model_type)).layers


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("falcon", "ALL_ATTENTION_FUNCTIONS"),
        ("bloom", "ALL_ATTENTION_FUNCTIONS"),
        ("nanochat", "rotated in pairs"),
        ("ctrl", "own positions disabled"),
        ("diffllama", "call attention"),
        ("gemma4_text", "per_layer_config"),
        ("mamba", "num_attention_heads"),
    ],
)
def test_a_class_that_fails_is_refused_with_the_reason(model_type, reason):
    with pytest.raises(ValueError, match=f"^model of type {model_type} is not supported: .*{reason}"):
        family_of(default(model_type))


@pytest.mark.parametrize(
    ("model_type", "wrong", "check"),
    [
        ("mistral", {"past_window": 1}, "own positions"),
        ("cohere2", {"causal": False}, "own positions"),
        ("camembert", {"ids_count_rows": False}, "position ids"),
    ],
)
def test_a_wrong_descriptor_fails_the_check_that_it_breaks(monkeypatch, model_type, wrong, check):
    right = family_of(default(model_type))
    monkeypatch.setattr(proof, "candidates", lambda _: [replace(right, **wrong)])
    with pytest.raises(ValueError, match=f"^check '{check}'"):
        proof.prove(default(model_type))


def test_a_proof_is_made_once_and_kept(monkeypatch):
    family = family_of(default("qwen3_moe"))

    def fail(*_):
        pytest.fail("proved again")

    monkeypatch.setattr(proof, "prove", fail)
    assert family_of(default("qwen3_moe")) == family
    (file,) = proof.default_cache().glob("proofs/*.json")
    file.write_text("{")
    monkeypatch.setattr(proof, "prove", lambda _: family)
    assert family_of(default("qwen3_moe")) == family


def test_a_hostile_configuration_takes_no_memory(monkeypatch):
    monkeypatch.delitem(discovery.SIZES, "intermediate_size")  # as a size by a name that is not known
    with pytest.raises(ValueError, match=r"\d parameters, more than"):
        family_of(default("glm4", intermediate_size=10**9))


@pytest.mark.parametrize("model_type", ["cohere", "glm4", "deepseek_v3", "gemma3_text", "cohere2", "llama4_text"])
def test_rotary_with_what_the_model_knows_is_the_models_own_rotation(model_type):
    model = tiny_model(tiny_config(default(model_type)), torch.float64)
    ids = tiny_text()
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        exchange(model, Rotary)
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
        exchange(model, Alibi)
        assert not torch.allclose(model(input_ids=ids).logits, expected, rtol=1e-2, atol=1e-2)


def test_a_scaling_leaves_layers_with_a_window_alone():
    config = tiny_config(default("gemma3_text"))
    pattern = family_of(config).on_layers(config, partial(Rotary, scaling=partial(yarn, factor=4.0)))
    assert isinstance(pattern, LayerPattern)
    scaled = {kind.keywords["base"]: "scaling" in kind.keywords for kind in pattern.kinds}
    assert scaled == {10_000.0: False, 1_000_000.0: True}


def test_a_model_with_an_image_tower_has_its_text_layers_replaced():
    text = tiny_config(default("gemma3_text"))
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = default("gemma3", text_config=text.to_dict(), vision_config=vision | {"image_size": 28})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = tiny_text()
    with torch.no_grad():
        own = model(input_ids=ids).logits
        exchange(model, Rotary)
        torch.testing.assert_close(model(input_ids=ids).logits, own, rtol=1e-4, atol=1e-4)
        exchange(model, Alibi)
        assert model.generate(ids, max_new_tokens=3, do_sample=False).shape == (2, ids.shape[1] + 3)
        exchange(model, "pretrained")
        torch.testing.assert_close(model(input_ids=ids).logits, own, rtol=1e-4, atol=1e-4)


def test_images_are_refused_wherever_they_are_given():
    text = tiny_config(default("gemma3_text"))
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = default("gemma3", text_config=text.to_dict(), vision_config=vision | {"image_size": 28})
    model, ids, image = AutoModelForCausalLM.from_config(config), tiny_text(), torch.zeros(2, 3, 28, 28)
    exchange(model, PretrainedPositions)
    types = torch.zeros_like(ids)
    model(ids, token_type_ids=types)
    types[:, 3:7] = 1
    for name, call in {
        "pixel_values": lambda: model(ids, image),
        "pixel_values within": lambda: model.model(input_ids=ids, pixel_values=image),
        "token_type_ids": lambda: model(ids, token_type_ids=types),
    }.items():
        with pytest.raises(ValueError, match=f"^{name.split()[0]} is not supported under another encoding"):
            call()


@pytest.mark.parametrize(
    ("model_type", "values"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0}),
        ("cohere", {"logit_scale": 0.0625}),
        ("granite", {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "attention_multiplier": 0.1}),
    ],
)
def test_logits_that_are_scaled_or_capped_are_those_of_the_class(model_type, values):
    model, ids = tiny_model(tiny_config(default(model_type, **values)), torch.float64), tiny_text()
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(borrow(model)(ids), expected, rtol=1e-5, atol=1e-5)


def test_what_only_an_exchange_supports_is_said():
    with pytest.raises(ValueError, match="logits by more than a product"):
        borrow(tiny_model(tiny_config(default("hyperclovax", logits_scaling=2.0)), torch.float32))
    with pytest.raises(ValueError, match="layers of chunked_attention"):
        borrow(tiny_model(tiny_config(default("llama4_text")), torch.float32))


def test_a_class_without_a_descriptor_is_exported_where_its_own_class_can_be_it(tmp_path):
    model = tiny_model(tiny_config(default("qwen3_moe")), torch.float32)
    exchange(model, "yarn")
    assert export(model, tmp_path / "plain").class_name == "Qwen3MoeForCausalLM"
    exchange(model, Alibi)
    with pytest.raises(ValueError, match=r"^Qwen3MoeForCausalLM can be exported only under a rota"):
        export(model, tmp_path / "alibi")
    assert not (tmp_path / "alibi").exists()


@pytest.mark.parametrize(
    ("name", "encoding", "values"),
    [
        ("cohere", "yarn", {}),  # whose pairs are neighbours
        ("glm4", "yarn", {}),  # of half of each head
        ("deepseek_v3", "yarn", {}),  # latent attention
        ("gemma3_text", "rotary", {"base": 5000.0}),  # of all of its layers
    ],
)
def test_a_rotation_that_a_class_has_is_written_in_it(name, encoding, values, tmp_path):
    model = tiny_model(tiny_config(default(name)), torch.float32)
    exchange(model, encoding, **values)
    exported = export(model, tmp_path / "plain")
    assert not exported.needs_poslab and exported.difference < 1e-4 * exported.largest


def test_a_class_whose_rotation_has_more_than_frequencies_is_not_exported(tmp_path):
    model = tiny_model(tiny_config(default("ministral3")), torch.float32)
    exchange(model, "rotary")
    with pytest.raises(ValueError, match="of rope_parameters, which belongs to its own rotation"):
        export(model, tmp_path / "plain")


def inspected(model_type: str) -> list[tuple[Any, ...]]:
    """Window, rotation, base and learned rows of each layer with attention, as `inspect` reads them in the source."""
    layers = inspect_positions(model_type).layers
    return [
        (
            layer.window,
            layer.rope and (layer.rope.pairing, layer.rope.block["rope_theta"]),
            "added" in str(layer.others),
        )
        for layer in layers
        if layer.attention in ("full", "sliding", "chunked", "hybrid")
    ]


def proved_of(config: Any, family: Any) -> list[tuple[Any, ...]]:
    """The same of the descriptor that a tiny model has passed every check under."""
    config = getattr(config, "text_config", None) or config
    kinds = kinds_of(config)
    rotates = declared(config, "no_rope_layers") or [kind not in family.still for kind in kinds]
    # The class of DeepSeek V3 brings the channels of neighbours apart before attention has them.
    layout = "interleaved" if getattr(config, "rope_interleave", False) else family.layout.replace("_", "-")
    has_rows = family.rows is not None
    return [
        (window or chunk, (layout, rope_of(config, kind)["rope_theta"]) if family.rotary and turns else None, has_rows)
        for kind, window, chunk, turns in zip(
            kinds, family.windows(config), family.chunks(config), rotates, strict=True
        )
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)  # 74 s of one idle core
def test_at_least_100_classes_of_60_folders_are_proved_and_inspected_alike():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    folders, proved = set(), 0
    for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            config = default(model_type)
            family = family_of(config)
        except Exception:
            continue
        assert inspected(model_type) == proved_of(config, family), model_type
        folders.add(type(config).__module__.split(".")[2])
        proved += 1
        if proved >= 100 and len(folders) >= 60:
            return
    pytest.fail(f"{proved} classes of {len(folders)} folders")
