"""Prompts that another teacher than the routed one answers, drawn by lot.

A prompt's lot depends on the seed and its key alone, so that other prompts have no part in it, and the same
prompts are drawn again when a run goes on.
"""

from collections.abc import Sequence

from ledger.keys import content_key

LOTS = 2**40


def drawn(
    keys: Sequence[str], chosen: Sequence[str], teachers: Sequence[str], share: float, seed: int
) -> dict[int, str]:
    """Number of a prompt -> the teacher that it is given to instead, for about `share` of the prompts.

    `chosen` is the routed teacher of each prompt; the others are equally likely.
    """
    found = {}
    for i, (key, own) in enumerate(zip(keys, chosen, strict=True)):
        others = [name for name in teachers if name != own]
        lot = int(content_key(["explore", seed, key])[:20], 16)
        if others and lot % LOTS < share * LOTS:
            found[i] = others[lot // LOTS % len(others)]
    return found
