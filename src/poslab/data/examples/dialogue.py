"""From the turns of a conversation to pairs of what was said and the reply."""

from collections.abc import Sequence


def replies(turns: Sequence[str], context_turns: int | None) -> list[tuple[str, str]]:
    """Every turn but the first as a reply to those before it.

    Args:
        turns: what was said, in order; empty turns do not count.
        context_turns: how many turns before a reply are its context, at least 1; None: all.

    Returns:
        Pairs of context, a line a turn, and reply. For the turns a, b, c and two turns of context: (a, b), (a\\nb, c).
    """
    lines = [line for turn in turns if (line := " ".join(turn.split()))]
    return [
        ("\n".join(lines[max(0, place - (context_turns or place)) : place]), lines[place])
        for place in range(1, len(lines))
    ]
