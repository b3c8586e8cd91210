from poslab.encodings.base import PositionalEncoding


class NoPosition(PositionalEncoding):
    """No positional encoding (NoPE): a causal decoder can still tell order from what each token sees.

        logit(i, j) = q_i . k_j / sqrt(D)

    In an encoder, attention without any position cannot tell one order of its input from another.

    Source: Haviv et al., "Transformer Language Models without Positional Encodings Still Learn Positional
    Information" (EMNLP Findings 2022); Kazemnejad et al., "The Impact of Positional Encoding on Length
    Generalization in Transformers" (NeurIPS 2023).
    """
