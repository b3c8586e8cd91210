"""Names of the user attributes that a study and its trials carry."""

ASKED = "asked"
"""Of a study: what is asked, which must not change."""

MADE_WITH = "made_with"
"""Of a study: version, commit and seed that began it."""

QUESTION = "question"
"""Of a study, for whoever opens it with another program."""

EXHAUSTED = "exhausted"
"""Of a study: its sampler has tried everything there is."""

WORKER = "worker"
"""Of a trial: who has taken it."""

BEGAN_AFTER = "began_after"
"""Of an attempt: how many steps of its runs had been saved when it began to train."""

FIGURES = "figures"
"""Of a trial that is complete: the figures of its run by tag, the mean of several runs."""

RETRY_OF, FIRST_ATTEMPT = "retry_of", "first_attempt"
"""Of a retry: the number of the trial before it, and of the first one."""

REASON, CAN_PASS = "reason", "can_pass"
"""Of a trial that failed: why, and whether it may do better a second time."""

FROM_OUTSIDE = "from_outside"
"""Of a trial that failed: whether somebody else ended its worker, which says nothing about the trial."""
