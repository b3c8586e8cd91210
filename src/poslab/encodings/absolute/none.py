"""No position at all (NoPE)."""

from poslab.encodings.base import PositionalEncoding


class NoPosition(PositionalEncoding):
    """No positional encoding (NoPE): a causal decoder can still infer order from what each token sees.

        logit(i, j) = q_i . k_j / sqrt(D)

    No parameters, and no cost. Causal; an encoder without any position ignores the order of its input. Claimed to
    generalise to longer texts on small algorithmic tasks; in language modelling attention spreads out as a text grows,
    against which a temperature helps. Trap: a window, or packed documents, leave less to infer order from.

    Slow to learn: a sense of order must first grow out of what a token sees. In the default run it reaches 3.58 bits
    per byte after 600 steps, where rotary has 1.88; embeddings of unit size (3.56), a norm on queries and keys (3.57),
    a fixed first token (3.56) and twice the learning rate (3.66) change little. After 1,800 steps it still falls fast,
    and chance decides how far: seven runs, of this model and of x-transformers', end between 2.51 and 3.05, and two
    seeds of one model differ by 0.28.

    Use it when a comparison needs a control, or in a decoder whose causal mask is position enough for its task.

    Source: Haviv et al., "Transformer Language Models without Positional Encodings Still Learn Positional Information"
    (EMNLP Findings 2022); Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in
    Transformers" (NeurIPS 2023).
    """
