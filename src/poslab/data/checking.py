"""Mistakes in a dataset's configuration, found before torch and Lightning are imported."""

from collections.abc import Mapping
from typing import Any

from poslab.data.corpus import Corpus
from poslab.data.hub_text import HubTextCorpus
from poslab.data.python_docs import PythonDocsCorpus
from poslab.data.text_files import TextFilesCorpus

_CORPUS_OF_TARGET: dict[str, type[Corpus]] = {
    "poslab.data.PythonDocs": PythonDocsCorpus,
    "poslab.data.TextFiles": TextFilesCorpus,
    "poslab.data.HubText": HubTextCorpus,
}


def check_dataset(config: Mapping[str, Any]) -> None:
    """Check a `dataset` node of a configuration: all its values, and that its files exist and hold text.

    Args:
        config: plain values, `_target_` among them. A target from elsewhere is not checked.

    Raises:
        ValueError: one sentence that begins with the bare name of the key.
    """
    arguments = dict(config)
    corpus_type = _CORPUS_OF_TARGET.get(arguments.pop("_target_"))
    if corpus_type is not None:
        corpus_type(**arguments).check()
