"""Text for language modelling: LightningDataModules that tokenise, split, cache and batch it.

`check_dataset` needs neither torch nor Lightning; the rest is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from poslab.data.checking import check_dataset

if TYPE_CHECKING:
    from poslab.data.batch import IGNORE, TokenBatch
    from poslab.data.datamodule import HubText, PythonDocs, TextDataModule, TextFiles
    from poslab.data.tokenizers import Tokenizer, load_tokenizer

_HOME = {
    "IGNORE": "batch",
    "TokenBatch": "batch",
    "HubText": "datamodule",
    "PythonDocs": "datamodule",
    "TextDataModule": "datamodule",
    "TextFiles": "datamodule",
    "Tokenizer": "tokenizers",
    "load_tokenizer": "tokenizers",
}

__all__ = [
    "IGNORE",
    "HubText",
    "PythonDocs",
    "TextDataModule",
    "TextFiles",
    "TokenBatch",
    "Tokenizer",
    "check_dataset",
    "load_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
