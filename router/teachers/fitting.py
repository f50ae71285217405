"""Which prompts a teacher cannot take: too long for its context, or asking for what it lacks."""

import json
from collections.abc import Sequence

from ledger.prompts import Prompt
from router.teachers.protocol import Sampling, Teacher
from router.teachers.waiting import result_of

# Most tokens that a chat template and a system prompt of its own put around the messages.
TEMPLATE_TOKENS = 1024


def unable(teacher: Teacher, prompts: Sequence[Prompt], sampling: Sampling) -> dict[int, str]:
    """Number of a prompt -> why the teacher cannot take it, where it cannot. Costs nothing.

    Only prompts that might not fit are looked at with the teacher's tokenizer.
    """
    doubtful = [i for i, prompt in enumerate(prompts) if not _fits(teacher, prompt, sampling)]
    if not doubtful:
        return {}
    found = result_of(teacher.check([prompts[i] for i in doubtful], sampling))
    told = {i: str(error) for i, error in zip(doubtful, found, strict=True) if error}
    return {i: why.partition(": ")[0] for i, why in told.items()}  # without the way out


def _fits(teacher: Teacher, prompt: Prompt, sampling: Sampling) -> bool:
    """Whether a prompt is surely taken: no token is shorter than a byte."""
    if prompt.tools is not None or prompt.json_schema is not None:
        return False
    if teacher.context is None:
        return True
    length = len(json.dumps(prompt.messages)) + len(str(teacher.settings.get("system") or ""))
    return length + TEMPLATE_TOKENS + sampling.max_tokens <= teacher.context
