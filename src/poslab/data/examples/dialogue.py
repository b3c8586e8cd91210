"""Make pairs of context and reply from the turns of a conversation."""

from collections.abc import Sequence


def replies(turns: Sequence[str], context_turns: int | None) -> list[tuple[str, str]]:
    """Return every turn but the first as a reply to those before it: pairs of context, a line a turn, and reply.

    Example: the turns a, b, c with two turns of context give (a, b), (a\\nb, c).

    Args:
        turns: in order; empty turns do not count.
        context_turns: turns before a reply that are its context, at least 1; None: all.
    """
    lines = [line for turn in turns if (line := " ".join(turn.split()))]
    return [
        ("\n".join(lines[max(0, place - (context_turns or place)) : place]), lines[place])
        for place in range(1, len(lines))
    ]
