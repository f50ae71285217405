"""Which teacher each prompt of a run is routed to: its own where it left its task's route, else its task's."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Routed:
    """Task (or `unsure`) -> teacher, and prompt key -> teacher of those that left."""

    by_task: Mapping[str, str]
    by_prompt: Mapping[str, str]

    def teacher(self, task: str, prompt: str) -> str:
        """The teacher of a prompt, by its key and its task."""
        return self.by_prompt.get(prompt) or self.by_task[task]
