"""`adapt=`: which weights of a model learn, whoever wrote the model."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from poslab.models import Decoder, Outputs
from poslab.models.adaptation import Adaptation, linear_layers, num_learning, parameters_of_norms
from tests.encoding_choices import EVERY_ENCODING, composed, small_decoder, small_model, temperature


def adaptation(name: str) -> Adaptation:
    made: Adaptation = instantiate(composed(f"adapt={name}").adapt)
    return made


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_all_weights_learn_by_default_and_those_that_a_model_has_frozen_stay_so():
    model = small_decoder("t5")
    model.norm.weight.requires_grad_(False)
    composed_by_default: Adaptation = instantiate(composed().adapt)
    composed_by_default.apply(model)
    assert learning(model) == {name for name, _ in model.named_parameters()} - {"norm.weight"}


@pytest.mark.parametrize("encoding", EVERY_ENCODING)
def test_an_encoding_learns_alone_or_is_refused_if_it_cannot(encoding):
    model = small_decoder(encoding)
    own = {name for name, _ in model.named_parameters() if name.startswith("encodings.")}
    if own:
        adaptation("encoding").apply(model)
        assert learning(model) == own
    else:
        with pytest.raises(ValueError, match=r"^adapt=encoding needs an encoding"):
            adaptation("encoding").apply(model)


@pytest.mark.parametrize("encoding", ["t5", "learned", "rotary"])
def test_all_but_an_encoding_learns(encoding):
    model = small_decoder(encoding)
    adaptation("frozen_encoding").apply(model)
    assert learning(model) == {name for name, _ in model.named_parameters() if not name.startswith("encodings.")}


def test_a_temperature_belongs_to_the_encoding():
    model = small_decoder("rotary", temperature=temperature("ssmax"))
    adaptation("encoding").apply(model)
    assert learning(model) and all(name.startswith("encodings.") for name in learning(model))


def test_sinks_are_an_option_of_attention_and_not_of_the_encoding():
    apart, beside = small_decoder("t5", sinks="all"), small_decoder("t5", sinks="all")
    adaptation("encoding").apply(apart)
    adaptation("frozen_encoding").apply(beside)
    sinks = {name for name, _ in apart.named_parameters() if "sinks" in name}
    assert sinks and sinks.isdisjoint(learning(apart)) and sinks <= learning(beside)


def test_norms_learn_alone():
    model = small_decoder("t5", qk_norm=True)
    adaptation("norms").apply(model)
    assert learning(model) == {name for name, _ in model.named_parameters() if "norm" in name}
    assert num_learning(model) == sum(p.numel() for name, p in model.named_parameters() if "norm" in name)


def test_a_norm_of_a_library_is_known_by_its_structure():
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.pytorch_utils import Conv1D

    parts = nn.ModuleList(
        [LlamaRMSNorm(4), nn.LayerNorm(4), nn.RMSNorm(4), nn.Linear(4, 1), nn.Embedding(3, 4), Conv1D(4, 4)]
    )
    assert {id(p) for p in parameters_of_norms(parts)} == {id(p) for norm in parts[:3] for p in norm.parameters()}
    assert linear_layers(parts) == [parts[3], parts[5]]


def test_linear_layers_and_norms_of_an_encoding_are_its_own():
    for encoding in EVERY_ENCODING:
        model = small_decoder(encoding)
        of_encoding = {id(p) for name, p in model.named_parameters() if name.startswith("encodings.")}
        assert not of_encoding & {id(p) for p in parameters_of_norms(model)}, encoding
        assert not of_encoding & {id(p) for layer in linear_layers(model) for p in layer.parameters()}, encoding


def test_a_model_without_norms_is_refused():
    class Bare(Decoder):
        pass

    model = small_model(Bare, "rotary")
    for module in [model, *model.blocks]:
        for name in [name for name, _ in module.named_children() if name.endswith("norm")]:
            setattr(module, name, nn.Identity())
    with pytest.raises(ValueError, match=r"^adapt=norms .* Bare has no norm"):
        adaptation("norms").apply(model)


@pytest.mark.parametrize("name", ["lora", "norms", "encoding"])
@pytest.mark.parametrize("pooled", [True, False])
def test_the_output_layer_of_a_task_always_learns(name, pooled):
    model = small_decoder("t5", outputs=Outputs(3, pooled))
    adaptation(name).apply(model)
    assert "output.weight" in learning(model) and "blocks.0.mlp.output.weight" not in learning(model)
    untied = small_decoder("t5", tie_embeddings=False)
    adaptation(name).apply(untied)
    assert "output.weight" not in learning(untied)


@pytest.mark.parametrize("name", ["full", "lora", "norms", "encoding"])
def test_a_model_can_be_checked_without_memory_for_its_weights(name):
    with torch.device("meta"):
        model = small_decoder("t5")
        adaptation(name).apply(model)
    assert num_learning(model) > 0 and {p.device.type for p in model.parameters()} == {"meta"}
