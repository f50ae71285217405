"""Teachers that vLLM serves: kind `vllm`, by a server that runs already (`url:`) or one that is ours."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import fastjson
from ledger.keys import folder_hash, teacher_key
from ledger.prompts import Prompt
from router.teachers import completions
from router.teachers.config import TeacherConfig
from router.teachers.errors import CallError, TeacherUnavailable
from router.teachers.http import HttpTeacher
from router.teachers.local import IDENTITY, find_tokenizer
from router.teachers.prompt_logprobs import Place, read_places, top_of
from router.teachers.protocol import Answer, Sampling
from router.teachers.server import ModelServer, Served
from router.teachers.statuses import status_error

if TYPE_CHECKING:
    import numpy as np

PROGRAM = "vllm"
MOST_LOGPROBS = 4096  # tokens a place that our servers may be asked for; vLLM's own bound is 20
TRIES, PAUSE_S = 5, 2.0  # of a call that scores a text, while its server is busy
# Arguments that say how a model is served and not what it answers; all others are in a teacher's key.
NEUTRAL = frozenset((
    "--port", "--gpu-memory-utilization", "--max-num-seqs", "--max-num-batched-tokens", "--max-model-len",
    "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp",
    "--enforce-eager", "--swap-space", "--cpu-offload-gb", "--kv-cache-memory-bytes", "--block-size",
    "--enable-prefix-caching", "--no-enable-prefix-caching", "--enable-chunked-prefill",
    "--no-enable-chunked-prefill", "--load-format", "--download-dir", "--max-logprobs",
    "--uvicorn-log-level", "--disable-uvicorn-access-log", "--disable-log-stats",
    "--enable-log-requests", "--no-enable-log-requests", "--distributed-executor-backend",
))  # fmt: skip


class VllmServerTeacher(HttpTeacher):
    """A model behind a vLLM server, which foretells the tokens of any text that it is given."""

    def __init__(self, name: str, config: TeacherConfig, base_dir: Path = Path()) -> None:
        super().__init__(name, config, base_dir)
        self._base_dir = base_dir
        self._tokenizer: Any = None

    def tokenizer(self) -> Any:
        """The model's tokenizer, from its folder or the hub's cache. Raises CallError where it is not there."""
        if self._tokenizer is None:
            self._tokenizer = find_tokenizer(self.name, self.model, self._base_dir)
        return self._tokenizer

    async def top_k(
        self, rows: Sequence[tuple[Sequence[int], int]], k: int, vocabulary: int, temperature: float
    ) -> "list[tuple[np.ndarray, np.ndarray]]":
        """As `LocalTeacher.top_k`, by vLLM's `prompt_logprobs`. Raises CallError."""
        assert temperature == 1.0, "a server foretells at temperature 1"
        if self.server is not None:
            await self.server.start()
        gate = asyncio.Semaphore(self.start_in_flight)

        async def one(ids: Sequence[int], start: int) -> "tuple[np.ndarray, np.ndarray]":
            # The server wants room for one token that it makes.
            cut = list(ids)[: self.context - 1 if self.context else None]
            async with gate:
                places = await self._foretell(cut, k) if start < len(cut) else []
            return top_of(places[start:], k, vocabulary)

        return await asyncio.gather(*(one(ids, start) for ids, start in rows))

    def streaming(self, sampling: Sampling) -> dict[str, Any]:
        exactly = {"ignore_eos": True, "min_tokens": sampling.max_tokens}
        return super().streaming(sampling) | exactly

    async def _foretell(self, ids: Sequence[int], k: int) -> list[Place]:
        asked = {"model": self.model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": k}
        body = fastjson.dumps({**asked, "temperature": 0.0})
        for left in reversed(range(TRIES)):
            try:
                response = await self._client.call("POST", "/completions", body)
                if response.status == 200:
                    return read_places(
                        completions.parse(completions.decoded(response.body)), len(ids)
                    )
                told = self._secret.strike(response.body[:2000].decode(errors="replace"))
                if response.status == 400 and "logprobs" in told:
                    raise CallError(
                        "no_logprobs",
                        f"the server of teacher `{self.name}` does not tell {k} likeliest tokens a place "
                        f"({told[:200]}): start it with `--max-logprobs {k}`.",
                        fatal=True,
                        state="invalid",
                    )
                raise status_error(response.status, response.headers, told)
            except CallError as error:
                if not (error.transient and left):
                    raise
            await asyncio.sleep(PAUSE_S)
        raise AssertionError("the last try returns or raises")


class VllmTeacher(VllmServerTeacher):
    """A model folder or hub id behind a vLLM server that is ours."""

    def __init__(self, name: str, config: TeacherConfig, base_dir: Path, log_dir: Path) -> None:
        super().__init__(name, config, base_dir)
        folder = base_dir / self.model
        self._folder = folder.resolve() if folder.is_dir() else None
        if self._folder is None and self.model.startswith((".", "/", "~")):
            raise TeacherUnavailable(f"teacher `{name}`: there is no folder {folder}")
        if self._folder is not None:  # wherever it lies, it is the same teacher
            self.revision = folder_hash(self._folder, IDENTITY)
        options = config.options
        self.key = teacher_key(
            model="" if self._folder else self.model,
            revision=self.revision,
            kind=self.kind,
            quantisation=" ".join(
                f"{name}={value}" if value else name
                for name, value in options
                if name not in NEUTRAL
            ),
            system=self.system or "",
        )
        longest = dict(options).get("--max-model-len", "")
        if self.context is None and longest.isdecimal():
            self.context = int(longest)
        self._server = ModelServer.of(
            self._served(base_dir),
            share=config.gpu_share,
            gpus=config.gpus,
            log=log_dir / f"vllm-{name}.log",
        )

    def require_ready(self) -> None:
        super().require_ready()
        program = self.server.served.command[0]
        if shutil.which(program) is None:
            raise TeacherUnavailable(
                f"teacher `{self.name}`: there is no program `{program}`. Install vLLM in an environment "
                "of its own and name its program here (`command: /opt/vllm/bin/vllm`), or start the "
                "server yourself and give its `url:`."
            )

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        try:
            return await super().answer(prompts, sampling)
        except CallError as error:
            if (death := self.server.death()) is not None:
                raise death from error
            raise

    async def close(self) -> None:
        await super().close()
        self._clients.clear()
        self.__dict__.pop("_client", None)  # its server may come back at another port

    @property
    def server(self) -> ModelServer:
        return self._server

    @property
    def base_url(self) -> str:
        assert self.server.url is not None, "its server was not started"
        return self.server.url

    def _served(self, base_dir: Path) -> Served:
        config = self._config
        program, *more = config.command or [PROGRAM]
        if os.sep in program:
            # Not resolved: an environment's python is a link out of it.
            program = os.path.abspath(base_dir / Path(program).expanduser())
        model = str(self._folder or self.model)
        command = [program, *more, "serve", model, "--served-model-name", self.model]
        if config.revision and self._folder is None:
            command += ["--revision", config.revision]
        if "--load-format" not in dict(config.options):  # never a pickle
            command += ["--load-format", "safetensors"]
        if "--max-logprobs" not in dict(config.options):
            command += ["--max-logprobs", str(MOST_LOGPROBS)]
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        if config.gpus is not None:
            quiet["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, config.gpus))
        environment = {**os.environ, **quiet}
        return Served((*command, *config.args), self.model, model, config.port, environment)
