"""No position at all (NoPE)."""

from poslab.encodings.base import PositionalEncoding


class NoPosition(PositionalEncoding):
    """No positional encoding (NoPE): a causal decoder can still infer order from what each token sees.

        logit(i, j) = q_i . k_j / sqrt(D)

    No parameters, and no cost. Causal; an encoder without any position ignores the order of its input. Claimed to
    generalise to longer texts on small algorithmic tasks; in language modelling attention spreads out as a text grows,
    against which a temperature helps. Trap: a window, or packed documents, leave less to infer order from.

    Slow to learn: a sense of order must first grow out of what a token sees.

    Use it when a comparison needs a control, or in a decoder whose causal mask is position enough for its task.

    Source: Haviv et al., "Transformer Language Models without Positional Encodings Still Learn Positional Information"
    (EMNLP Findings 2022); Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in
    Transformers" (NeurIPS 2023).
    """
