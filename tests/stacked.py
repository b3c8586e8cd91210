"""Models of a few words, for tests."""

from typing import Any

from poslab.models import StackConfig


def stacked(
    kind: Any, vocab_size: int, encoding: Any, d_model: int, num_layers: int, num_heads: int, **options: Any
) -> Any:
    """Return a model of a class; options are those of the class and of `StackConfig`."""
    of_stack = {name: options.pop(name) for name in list(options) if name in StackConfig.__dataclass_fields__}
    sizes = {"d_model": d_model, "num_layers": num_layers, "num_heads": num_heads}
    return kind(StackConfig(encoding=encoding, **sizes, **of_stack), vocab_size, **options)
