"""Names of the user attributes of a study and its trials."""


class DamagedStorageError(ValueError):
    """Contents of a storage that Poslab does not write; `naming_storage` names the storage before the message."""


SPECIFICATION = "asked"
"""Of a study: its space, configuration, objectives and search, which must not change."""

MADE_WITH = "made_with"
"""Of a study: version, commit and seed that began it."""

QUESTION = "question"
"""Of a study, for people who open it with another program."""

IDENTITY = "id"
"""Of the study of a comparison: a random text, by which its directory knows it."""

EXHAUSTED = "exhausted"
"""Of a study: its sampler has tried all values."""

WORKER = "worker"
"""Of a trial: the worker that has taken it."""

BEGAN_AFTER = "began_after"
"""Of an attempt: the steps of its runs that had been saved when it began to train."""

METRICS = "figures"
"""Of a complete trial: the metrics of its run by tag, or their mean over several runs."""

RETRY_OF, FIRST_ATTEMPT = "retry_of", "first_attempt"
"""Of a retry: the number of the trial before it, and of the first one."""

REASON, CAN_PASS = "reason", "can_pass"
"""Of a failed trial: the reason, and whether a retry may succeed."""

FROM_OUTSIDE = "from_outside"
"""Of a failed trial: whether somebody else ended its worker, so that the trial itself is not to blame."""

UNFINISHED = "unfinished"
"""Of a failed cell of a comparison: whether its run was not finished when it failed."""
