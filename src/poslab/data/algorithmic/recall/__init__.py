"""Tasks of recalling something from anywhere in the input."""

from poslab.data.algorithmic.recall.induction import Induction
from poslab.data.algorithmic.recall.multi_key_retrieval import MultiKeyRetrieval
from poslab.data.algorithmic.recall.multi_query_recall import MultiQueryRecall
from poslab.data.algorithmic.recall.passkey import Passkey
from poslab.data.algorithmic.recall.selective_copying import SelectiveCopying

__all__ = ["Induction", "MultiKeyRetrieval", "MultiQueryRecall", "Passkey", "SelectiveCopying"]
