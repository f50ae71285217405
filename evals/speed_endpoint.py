"""Latency and tokens per second of teachers behind an OpenAI-compatible endpoint, by streaming.

The same prompts as the local models get (evals.speed), so many calls at once as the recipe says, round by round
in turns; a server that is ours to start runs alone, and is stopped when it was timed. vLLM makes every answer
exactly as long as asked; other servers may end one earlier, and their tokens are counted. Each call is made
anew and stands in no ledger: `worst_usd` says beforehand what all of them can cost.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from evals.speed import OnProgress, Speed, SpeedProgress, joined
from evals.speed_child import BATCHES
from ledger.prompts import Prompt
from router.teachers.errors import TeacherError
from router.teachers.http import HttpTeacher
from router.teachers.protocol import Sampling
from router.teachers.streaming import Streamed
from router.teachers.waiting import result_of

OnFailure = Callable[[str, str], None]  # the teacher's name, and why it was not timed
DEADLINE_S = 120.0  # of a call


def worst_usd(
    teacher: HttpTeacher,
    prompts: Sequence[Prompt],
    max_tokens: int,
    concurrency: Sequence[int],
    repeats: int,
) -> float | None:
    """What timing a teacher can cost at most; None where its price is not known."""
    sampling, total = Sampling(max_tokens=max_tokens), 0.0
    levels = sorted(set(concurrency))
    rounds = [prompts[:1], *[_asked(prompts, level, levels) for level in levels] * repeats]
    for prompt in itertools.chain(*rounds):
        cost = teacher.worst_cost_usd(prompt, sampling)
        if cost is None:
            return None
        total += cost
    return total


def measure_endpoints(
    teachers: Sequence[HttpTeacher],
    prompts: Sequence[Prompt],
    max_tokens: int,
    *,
    concurrency: Sequence[int],
    repeats: int,
    on_failure: OnFailure,
    on_progress: OnProgress | None = None,
) -> dict[str, Speed]:
    """Times teachers; one that fails is left out, and `on_failure` is told."""
    found: dict[str, Speed] = {}
    own = [[teacher] for teacher in teachers if teacher.server is not None]
    for group in [*own, [teacher for teacher in teachers if teacher.server is None]]:
        timing = _Timing(group, prompts, Sampling(max_tokens=max_tokens), sorted(set(concurrency)))
        found |= result_of(timing.run(repeats, on_failure, on_progress))
    return found


class _Timing:
    """Rounds of teachers that take turns."""

    def __init__(
        self,
        teachers: Sequence[HttpTeacher],
        prompts: Sequence[Prompt],
        sampling: Sampling,
        levels: Sequence[int],
    ) -> None:
        self.teachers, self.prompts = {each.name: each for each in teachers}, prompts
        self.sampling, self.levels = sampling, levels
        self.rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in self.teachers}
        self.usd = dict.fromkeys(self.teachers, 0.0)

    async def run(
        self, repeats: int, on_failure: OnFailure, on_progress: OnProgress | None
    ) -> dict[str, Speed]:
        turns = [0, *list(self.levels) * repeats]  # 0: the first call, which may wake a server
        done, of = 0, len(turns) * len(self.teachers)
        try:
            for level in turns:
                for name in list(self.rounds):
                    try:
                        await self._turn(self.teachers[name], level)
                    except (TeacherError, TimeoutError) as error:
                        del self.rounds[name]
                        why = str(error) or f"a call took over {DEADLINE_S:.0f} s"
                        usd = self.usd[name]
                        on_failure(name, f"{why}; until then it cost ${usd:.4f}" if usd else why)
                    done += 1
                    if on_progress:
                        on_progress(SpeedProgress(0, 0, done, of))
        finally:
            for teacher in self.teachers.values():
                await teacher.close()
                if teacher.server is not None:
                    teacher.server.stop()
        return {name: joined(rounds, None, self.usd[name]) for name, rounds in self.rounds.items()}

    async def _turn(self, teacher: HttpTeacher, level: int) -> None:
        if level == 0:
            if teacher.server is not None:
                await teacher.server.start()
            await self._call(teacher, self.prompts[0])
            return
        waiting = list(_asked(self.prompts, level, self.levels))
        answers = len(waiting)
        streamed: list[Streamed] = []

        async def work() -> None:
            while waiting:
                streamed.append(await self._call(teacher, waiting.pop()))

        started = time.perf_counter()
        workers = [asyncio.create_task(work()) for _ in range(min(level, answers))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        self.rounds[teacher.name].append(
            {
                "concurrency": level,
                "seconds": time.perf_counter() - started,
                "steps_s": [each.steps_s for each in streamed],
                "answers": answers,
                "tokens": sum(each.tokens for each in streamed),
                "peak_rss_mib": None,
                "peak_gpu_mib": None,
            }
        )

    async def _call(self, teacher: HttpTeacher, prompt: Prompt) -> Streamed:
        async with asyncio.timeout(DEADLINE_S):
            found = await teacher.stream(prompt, self.sampling)
        self.usd[teacher.name] += found.usd or 0.0
        return found


def _asked(prompts: Sequence[Prompt], level: int, levels: Sequence[int]) -> Sequence[Prompt]:
    """As of local models: all prompts at the highest concurrency, a few times as many as it is below that."""
    return prompts if level == max(levels) else prompts[: BATCHES * level]
