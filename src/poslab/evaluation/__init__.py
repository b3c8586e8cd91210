"""Evaluation of trained models: the reach of their encodings and the attention of their heads, as figures.

Functions take a model and token ids and return data frames and figures, in a notebook as well:

    by_length, by_position = extrapolation(model, tokens, [256, 1024], 256, tokenizer.end_id, bytes_per_token=1.0)
    statistics = attention_statistics(model, tokens_BT)     # B texts of T tokens

`evaluate.evaluate` makes the report of trained runs that `python -m src.evaluate` writes.
"""
