"""Evaluation of trained models: how far their encodings extrapolate, and what their heads attend to, with plots.

Functions take a model and token ids and return data frames and plots, in a notebook as well:

    found = extrapolate(model, tokens, [256, 1024], 256, tokenizer.end_id, bytes_per_token=1.0)
    statistics = attention_statistics(model, tokens_BT)     # B texts of T tokens

`evaluation.evaluate` makes the report of trained runs that `python -m src.evaluate` writes. A part of it is one file in
`parts`.
"""
