"""How far a trained model's encoding reaches, and what its heads have learned, as tables and pictures.

Functions take a model and token ids and give data frames and figures, in a notebook as well:

    by_length, by_position = extrapolation(model, tokens, [256, 1024], 256, tokenizer.end_id, bytes_per_token=1.0)
    statistics = attention_statistics(model, tokens_BT)

`evaluate.evaluate` makes a whole report of trained runs, which `python -m src.evaluate` writes.
"""
