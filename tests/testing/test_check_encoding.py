"""`check_encoding` finds what is wrong with an encoding, and says what."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from poslab.encodings import (
    Alibi,
    Convolutional,
    Forgetting,
    KerpleLog,
    LayerPattern,
    LearnedAlibi,
    NoPosition,
    PositionalEncoding,
    Positions,
    Rotary,
    RotaryLearned,
    Sinusoidal,
)
from poslab.encodings.frequencies import inverse_frequencies
from poslab.encodings.rotary.rotation import Rotation, rotate_half_split
from poslab.testing import CHECKS, Subject
from poslab.testing.subject import assert_near


class AbsoluteBias(Alibi):
    def prepare(self, query_positions, key_positions):
        table = super().prepare(query_positions, key_positions)
        return dataclasses.replace(table, values=table.values * (1 + key_positions.stop / 1e5))


class AnglesInHalfPrecision(Rotary):
    def prepare(self, query_positions, key_positions):
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        both = (query_positions, key_positions)
        halved = [dataclasses.replace(positions, ids=positions.ids.to(dtype)) for positions in both]
        return super().prepare(*halved)


class FrequenciesRounded(Rotary):
    """Makes its frequencies in bfloat16, which no test at the first positions can see."""

    def scaled_frequencies(self, length, device=None):
        frequencies, factor = super().scaled_frequencies(length, device)
        return frequencies.bfloat16().float(), factor


class BiasRounded(Alibi):
    def bias_at(self, distance):
        return (1.1 * super().bias_at(distance)).bfloat16().float()


class FrequenciesInABuffer(Rotary):
    def __init__(self, head_dim):
        super().__init__(head_dim)
        self.register_buffer("inverse", inverse_frequencies(head_dim, 10_000.0), persistent=False)

    def scaled_frequencies(self, length, device=None):
        return (self.inverse if hasattr(self, "inverse") else torch.ones(4)), 1.0


class TablesInTheStateDict(Rotary):
    def __init__(self, head_dim):
        super().__init__(head_dim)
        self.register_buffer("inverse", inverse_frequencies(head_dim, 10_000.0))


class RotatesCachedKeysByTheirPlace(Rotary):
    """Counts keys from the end that it sees, and queries from the beginning."""

    def prepare(self, query_positions, key_positions):
        tables = super().prepare(query_positions, key_positions)
        if query_positions.length == key_positions.length:
            return tables
        cos, sin = tables.key_cos.flip(-2), tables.key_sin.flip(-2)
        return Rotation(tables.query_cos, tables.query_sin, cos, sin)


class RemembersTheLongest(Rotary):
    longest = 0

    def prepare(self, query_positions, key_positions):
        self.longest = max(self.longest, key_positions.stop)
        self.base = 10_000.0 * self.longest
        return super().prepare(query_positions, key_positions)


class LooksAhead(PositionalEncoding):
    def values(self, weights_BHRS, v_BHSD, rows):
        return super().values(weights_BHRS, v_BHSD, rows) + 0.1 * v_BHSD.mean(-2, keepdim=True)


class IgnoresRows(PositionalEncoding):
    """Adds the same to the first query of every block."""

    def pair_bias(self, rows):
        start, stop, _ = rows.rows.indices(100)
        return torch.arange(stop - start).float().view(1, 1, -1, 1) * torch.linspace(0, 1, rows.tables)[rows.keys]

    def prepare(self, query_positions, key_positions):
        return key_positions.length


class SaysThatItIsRelative(Sinusoidal):
    relative = True


class EndsNowhereButStops(Rotary):
    """Turns no further after position 500,000."""

    def prepare(self, query_positions, key_positions):
        both = (query_positions, key_positions)
        return super().prepare(*(dataclasses.replace(p, ids=p.ids.clamp(max=500_000)) for p in both))


class DistanceRounded(Alibi):
    """Is exact at the distances of a short text: bfloat16 holds whole numbers up to 256."""

    def bias_at(self, distance):
        return super().bias_at(distance.to(torch.bfloat16))


class SaysNothingInBfloat16(Rotary):
    def rotate_query(self, q_BHTD, tables):
        rotated = super().rotate_query(q_BHTD, tables)
        return torch.zeros_like(rotated) if rotated.dtype == torch.bfloat16 else rotated


class AnglesByAMatrixProduct(PositionalEncoding):
    """Makes them in the hooks, where autocast rounds the factors of a product to bfloat16."""

    def prepare(self, query_positions, key_positions):
        return query_positions.ids_for_heads, key_positions.ids_for_heads

    def rotate_query(self, q_BHTD, tables):
        angle = (tables[0].float().unsqueeze(-1) @ inverse_frequencies(8, 10_000.0).unsqueeze(0)).float()
        return rotate_half_split(q_BHTD, angle.cos(), angle.sin())

    def rotate_key(self, k_BHSD, tables):
        return self.rotate_query(k_BHSD, tables[1:])


class StateUnderAutocast(Forgetting):
    def state(self, x_BTM, positions, past_BHPE):
        return nn.functional.logsigmoid(self.gate(x_BTM)).mT.unsqueeze(-1)


class BiasInTheDtypeOfTheModel(LearnedAlibi):
    """Of all distances of 4,096 tokens bfloat16 has less than a thousand."""

    def slopes(self, device):
        return 2.0**-self.exponents

    def bias_at(self, distance):
        return -self.slopes(distance.device).view(-1, *[1] * distance.dim()) * distance.abs()


class StateInTheDtypeOfTheModel(Forgetting):
    def state(self, x_BTM, positions, past_BHPE):
        return super().state(x_BTM, positions, past_BHPE).to(x_BTM.dtype)


class CountsFromTheEndIfContiguous(Alibi):
    """Takes contiguous queries to stand at the last of the keys, as those of a text or of a cache do."""

    def prepare(self, query_positions, key_positions):
        if query_positions.contiguous:
            query_positions = dataclasses.replace(query_positions, stop=key_positions.stop)
        return super().prepare(query_positions, key_positions)


class TurnsGradientsTheSameWay(Rotary):
    """The gradient of a rotation is the rotation back."""

    def rotate_query(self, q_BHTD, tables):
        exact = super().rotate_query(q_BHTD, tables)
        wrong = rotate_half_split(q_BHTD, tables.query_cos, -tables.query_sin)
        return exact.detach() + wrong - wrong.detach()


class LearnsFromNeighboursAlone(KerpleLog):
    def bias_at(self, distance):
        bias = super().bias_at(distance)
        return torch.where(distance.abs() < 3, bias, bias.detach())


class LeavesATraceOfTraining(Alibi):
    def prepare(self, query_positions, key_positions):
        if self.training:
            self.max_exponent = 4.0
        return super().prepare(query_positions, key_positions)


class LeavesATraceOfDecoding(Alibi):
    def prepare(self, query_positions, key_positions):
        if query_positions.length != key_positions.length:
            self.max_exponent = 4.0
        return super().prepare(query_positions, key_positions)


class OffByALittleInALaterPart(Rotary):
    """Makes keys in a cache larger by 1 in 20,000, in a text that does not begin at 0."""

    def prepare(self, query_positions, key_positions):
        tables = super().prepare(query_positions, key_positions)
        if query_positions.length == key_positions.length or key_positions.stop < 300:
            return tables
        return tables._replace(key_cos=tables.key_cos * (1 + 5e-5))


class FadesFarAway(PositionalEncoding):
    def prepare(self, query_positions, key_positions):
        return 1 + key_positions.stop / 1e6

    def logits(self, q_BHRD, k_BHSD, rows):
        return super().logits(q_BHRD, k_BHSD, rows) * rows.tables


class NoGradient(Alibi):
    def __init__(self, num_heads):
        super().__init__(num_heads)
        self.height = nn.Parameter(torch.zeros(1))

    def bias_at(self, distance):
        return super().bias_at(distance) + self.height.detach()


class FrequenciesThatNeverLearn(RotaryLearned):
    """Has a frequency that trains in no run, as where a rotation has no gradient for its tables."""

    def prepare(self, query_positions, key_positions):
        return Rotation(
            *(x.detach() if isinstance(x, torch.Tensor) else x for x in super().prepare(query_positions, key_positions))
        )


class HidesAHook(Rotary):
    def __init__(self, head_dim):
        super().__init__(head_dim)
        self.scale = 2.0


class LeavesOutAHook(Alibi):
    @property
    def hooks(self):
        return frozenset()


class EndsInSilence(NoPosition):
    relative = False

    def __init__(self):
        super().__init__()
        self.max_length = 30


class BreaksTheGraph(Rotary):
    def prepare(self, query_positions, key_positions):
        if key_positions.ids.float().max().item() > 1e9:
            raise ValueError("far away")
        return super().prepare(query_positions, key_positions)


class QuarterTurnInDense(Rotary):
    """Another rotation where the logits are made than where a fused kernel makes them."""

    def logits(self, q_BHRD, k_BHSD, rows):
        return super().logits(rotate_half_split(q_BHRD, torch.zeros(4), torch.ones(4)), k_BHSD, rows)

    @property
    def hooks(self):
        return super().hooks - {"logits"}


class DividesIntegers(Alibi):
    """Divides integers by integers, which gives numbers of PyTorch's default dtype."""

    def bias_at(self, distance):
        return super().bias_at(distance) * (1 + distance.long().abs() / 7)


class ReadsPadding(Convolutional):
    def embed(self, x_BTM, positions, tokens=None):
        return super().embed(x_BTM, positions)


class ReadsOtherDocuments(Convolutional):
    def embed(self, x_BTM, positions, tokens=None):
        return super().embed(x_BTM, Positions.range(positions.length), tokens)


DECODING = "decoding_with_a_cache_is_the_full_pass"
ROUNDING = "float32_is_float64_but_for_the_rounding_of_angles"
TABLES = "a_model_in_bfloat16_keeps_its_tables_in_float32"


@pytest.mark.parametrize(
    ("encoding", "check", "said"),
    [
        (HidesAHook, "hooks_are_methods_and_a_route_serves_them", "an attribute.*the hook scale"),
        (LeavesOutAHook, "hooks_are_methods_and_a_route_serves_them", r"hooks leaves out \['bias'\]"),
        (QuarterTurnInDense, "every_route_gives_what_the_dense_one_gives", "route flash.*dense: off by"),
        (IgnoresRows, "a_block_of_query_rows_is_that_part_of_the_whole", "blocks of.*all of them"),
        (FadesFarAway, "a_relative_encoding_does_not_feel_a_shift", "FadesFarAway after.*by 1,000: off by"),
        (LayerPattern([Rotary, Rotary, LooksAhead]), "a_later_token_changes_no_earlier_output", "off by"),
        (LooksAhead, "a_later_token_changes_no_earlier_output", "outputs before.*change: off by"),
        (LooksAhead, "a_query_that_sees_nothing_gives_zero", "gave something else than zero"),
        (RotatesCachedKeysByTheirPlace, DECODING, "decoding in.*from 0: off by"),
        (LooksAhead, "padding_changes_nothing", "other padding: off by"),
        (LooksAhead, "packed_documents_do_not_see_each_other", "after a change.*first: off by"),
        (ReadsPadding, "padding_changes_nothing", "other padding: off by"),
        (ReadsOtherDocuments, "packed_documents_do_not_see_each_other", "after a change.*first: off by"),
        (AbsoluteBias, "a_relative_encoding_does_not_feel_a_shift", "AbsoluteBias after.*by 1,000: off by"),
        (AnglesInHalfPrecision, "low_precision_loses_no_position", "tables differ under bfloat16 autocast"),
        (BiasRounded, ROUNDING, "float32 at position 0 against float64"),
        (FrequenciesRounded, ROUNDING, "float32 at position 0 against float64"),
        (FrequenciesInABuffer, "a_trip_to_bfloat16_rounds_parameters_alone", "changed more than parameters"),
        (SaysThatItIsRelative, "a_relative_encoding_does_not_feel_a_shift", "after a shift by 1,000: off by"),
        (LayerPattern([Rotary, SaysThatItIsRelative]), "a_relative_encoding_does_not_feel_a_shift", "after a shift by"),
        (EndsNowhereButStops, "a_relative_encoding_does_not_feel_a_shift", "after a shift by 1,000,000: off by"),
        (DistanceRounded, ROUNDING, "float32 at distances to 475 against"),
        (SaysNothingInBfloat16, "low_precision_loses_no_position", "attention in bfloat16: off by"),
        (
            LayerPattern([Rotary, SaysNothingInBfloat16]),
            "low_precision_loses_no_position",
            "attention in bfloat16: off by",
        ),
        (AnglesByAMatrixProduct, "low_precision_loses_no_position", "attention in bfloat16: off by"),
        (StateUnderAutocast, "low_precision_loses_no_position", "states differ under bfloat16 autocast"),
        (DividesIntegers, "the_default_dtype_of_pytorch_changes_nothing", "default dtype is torch.bfloat16"),
        (BiasInTheDtypeOfTheModel, TABLES, "tables differ in a bfloat16 model"),
        (StateInTheDtypeOfTheModel, TABLES, "states differ in a bfloat16 model"),
        (CountsFromTheEndIfContiguous, "contiguous_positions_are_no_others", "contiguous positions against the same"),
        (OffByALittleInALaterPart, DECODING, "decoding in.*from 300: off by"),
        (TurnsGradientsTheSameWay, "gradients_are_derivatives", "a gradient against.*of two outputs"),
        (LearnsFromNeighboursAlone, "gradients_are_derivatives", "a gradient against.*of two outputs"),
        (NoGradient, "a_gradient_reaches_every_parameter", "no gradient reaches distinct.0.height"),
        (FrequenciesThatNeverLearn, "a_gradient_reaches_every_parameter", "no gradient.*distinct.0.log_factor"),
        (FrequenciesThatNeverLearn, "gradients_are_derivatives", "a gradient against.*of two outputs"),
        (TablesInTheStateDict, "a_state_dict_makes_the_same_encoding", "state_dict has tables"),
        (RemembersTheLongest, "no_history_matters", "an earlier.*left something behind"),
        (LeavesATraceOfTraining, "no_history_matters", "an earlier.*left something behind"),
        (LeavesATraceOfDecoding, "no_history_matters", "an earlier.*left something behind"),
        (BreaksTheGraph, "it_compiles_without_a_break", "it does.*into one graph"),
        (EndsInSilence, "past_its_end_it_says_so", "no error.*30, past max_length"),
    ],
)
def test_what_does_not_keep_a_claim_is_found_by_its_check(encoding, check, said):
    with pytest.raises(AssertionError, match=said):
        CHECKS[f"check_{check}"](Subject(encoding))


def test_a_tolerance_is_absolute_and_as_large_a_part_of_larger_numbers():
    for expected, allowed in ((0.0, 1e-5), (99.0, 1e-3)):
        expected = torch.tensor([expected], dtype=torch.float64)
        assert_near(expected + 0.99 * allowed, expected, 1e-5, "near")
        with pytest.raises(AssertionError, match="far: off by up to"):
            assert_near(expected + 1.1 * allowed, expected, 1e-5, "far")
