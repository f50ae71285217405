"""The recipe's `teachers:` section: a name, one kind, a licence."""

import shlex
from ipaddress import ip_address
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ledger.section import Section

KINDS = ("local", "vllm", "http", "litellm")
# Fields that only some kinds read: giving one to another kind would silently do nothing.
ONLY_FOR = {
    "url": ("vllm", "http", "litellm"),
    "args": ("vllm",),
    "command": ("vllm",),
    "gpus": ("vllm",),
    "adapter": ("local",),
    "batch_size": ("local",),
    "dtype": ("local",),
    "max_in_flight": ("vllm", "http", "litellm"),
    "batch": ("http",),
    "ca_file": ("vllm", "http"),
    "rpm": ("vllm", "http", "litellm"),
    "tpm": ("vllm", "http", "litellm"),
    "api_key_env": ("vllm", "http", "litellm"),
    "allow_model_names": ("vllm", "http", "litellm"),
}
FOR_OWN_SERVER = ("args", "command", "gpus")
OWN_ARGUMENTS = ("--host", "--model", "--served-model-name", "--api-key", "--revision")
SHARE_FLAG, SHARE = "--gpu-memory-utilization", 0.9  # vLLM's own default
START_IN_FLIGHT, MOST_IN_FLIGHT = 16, 128
# LiteLLM provider -> the variables that may hold its key.
PROVIDER_KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
    "xai": ("XAI_API_KEY",),
}


class Price(Section):
    """What a provider charges."""

    input_usd_per_million: float = Field(ge=0, description="USD per million prompt tokens.")
    output_usd_per_million: float = Field(ge=0, description="USD per million answer tokens.")


class TeacherConfig(Section):
    """One teacher: exactly one of `local`, `vllm`, `http` and `litellm`, and its licence."""

    local: str | None = Field(
        default=None,
        description="Folder of a model, relative to the recipe, or an id in the local hub cache; "
        "runs in this process (safetensors only).",
    )
    vllm: str | None = Field(
        default=None,
        description="Model for vLLM: a folder, relative to the recipe, or a hub id. Its server is "
        "started when it is needed, and stopped; with `url`, one that runs already is asked.",
    )
    http: str | None = Field(
        default=None, description="Model behind the OpenAI-compatible server at `url`."
    )
    litellm: str | None = Field(
        default=None, description="Hosted model by its LiteLLM name, such as `anthropic/NAME`."
    )
    licence: str = Field(
        min_length=1,
        description="Licence of the teacher's answers; `unknown` is accepted and reported.",
    )
    url: str | None = Field(
        default=None, description="Base URL of the server, such as `http://127.0.0.1:8000/v1`."
    )
    args: list[str] = Field(
        default=[],
        description="More arguments for `vllm serve`, as a list or as one text: `--max-model-len 4096`.",
    )
    command: list[str] | None = Field(
        default=None,
        description="The program of vLLM's own environment and arguments of its own, as a list or as one "
        "text: `/opt/vllm/bin/vllm`; by default `vllm` on PATH.",
    )
    gpus: list[int] | None = Field(
        default=None,
        description="Numbers of the GPUs that the server of `vllm` may see; by default all. Teachers "
        "whose `--gpu-memory-utilization` (.9 by default) adds up to more than 1 take turns.",
    )
    adapter: str | None = Field(
        default=None, description="Folder of a peft adapter for `local`, relative to the recipe."
    )
    system: str | None = Field(
        default=None, description="System prompt for the teacher; the student never sees it."
    )
    revision: str | None = Field(
        default=None,
        description="Version of the model; for `http` it takes the URL's place in the identity.",
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the API key; by default none for "
        "`http` and `vllm`, the provider's own for `litellm`.",
    )
    batch_size: int = Field(default=32, gt=0, description="Prompts that `local` answers together.")
    max_in_flight: int | None = Field(
        default=None,
        gt=0,
        description="Most calls to a server at the same time, and as many to begin with; without it, "
        "16 to begin with and up to 128, as the server can do. Fewer where it pushes back.",
    )
    rpm: float | None = Field(default=None, gt=0, description="Most calls a minute.")
    tpm: float | None = Field(
        default=None, gt=0, description="Most tokens a minute, of prompts and answers together."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Number format of the weights for `local`; `auto` is theirs."
    )
    price: Price | None = Field(
        default=None, description="What a call costs, where no price table knows it."
    )
    budget_usd: float | None = Field(
        default=None, ge=0, description="Most that a run may spend on this teacher, in USD."
    )
    context: int | None = Field(
        default=None,
        gt=0,
        description="Most tokens of prompt and answer together; longer prompts are not sent.",
    )
    lacks: list[Literal["tools", "json"]] = Field(
        default=[],
        description="What it cannot do: `tools` (prompts with tools), `json` (answers that keep to a "
        "`json_schema`). Such prompts go to another teacher.",
    )
    batch: bool = Field(
        default=False,
        description="Ask by the provider's batch API (OpenAI's files and batches): half the price, "
        "within a day. Ctrl-C leaves a batch with the provider; the next run takes it in.",
    )
    ca_file: str | None = Field(
        default=None,
        description="File of the certificates (PEM) to trust behind `url`, relative to the recipe, for "
        "a server of your own; by default the system's.",
    )
    allow_model_names: list[str] = Field(
        default=[],
        description="Other model names the server may answer with; `*` allows any and none.",
    )

    @field_validator("args", "command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """A command line may be written as one text, and its numbers as numbers."""
        if isinstance(value, str):
            return shlex.split(value)
        if isinstance(value, list):
            return [
                str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v
                for v in value
            ]
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            found = " and ".join(f"`{kind}`" for kind in kinds) or "none"
            raise ValueError(
                f"a teacher has exactly one of {', '.join(KINDS)}; this one has {found}"
            )
        for field, allowed in ONLY_FOR.items():
            if field in self.model_fields_set and kinds[0] not in allowed:
                raise ValueError(f"`{field}` is for {', '.join(allowed)}, not for `{kinds[0]}`")
        if self.http is not None and self.url is None:
            raise ValueError("`http` needs `url:`, such as http://127.0.0.1:8000/v1")
        given = [field for field in FOR_OWN_SERVER if field in self.model_fields_set]
        if given and self.url is not None:
            raise ValueError(
                f"`{given[0]}` is for a server that Tutelage starts: leave out `url`, or `{given[0]}`"
            )
        _check_options(dict(self.options))
        if self.url is not None:
            _check_url(self.url)
        return self

    @property
    def options(self) -> list[tuple[str, str]]:
        """The names in `args`, as vLLM spells them, and the words that follow each."""
        found: list[tuple[str, str]] = []
        for word in self.args:
            if word.startswith("-") or not found:
                name, _, value = word.partition("=")
                found.append((name.replace("_", "-"), value))
            else:
                name, value = found[-1]
                found[-1] = (name, f"{value} {word}".strip())
        return found

    @property
    def gpu_share(self) -> float:
        """The share of a GPU's memory that an own server takes."""
        return float(dict(self.options).get(SHARE_FLAG, SHARE))

    @property
    def port(self) -> int | None:
        """The port that `args` fix for an own server."""
        given = dict(self.options).get("--port")
        return int(given) if given else None

    def filled(self) -> dict[str, Any]:
        """The section with every default that its kind reads, as JSON can hold it."""
        foreign = {name for name, kinds in ONLY_FOR.items() if self.kind not in kinds}
        return self.model_dump(mode="json", exclude_none=True, exclude=foreign)

    @property
    def start_in_flight(self) -> int:
        """Calls at the same time to begin with."""
        return self.max_in_flight or START_IN_FLIGHT

    @property
    def most_in_flight(self) -> int:
        """Most calls at the same time."""
        return self.max_in_flight or MOST_IN_FLIGHT

    @property
    def kind(self) -> str:
        """Which of the four kinds this teacher is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def may_batch(self) -> bool:
        """Whether a teacher of this kind can be asked by batches."""
        return self.kind in ONLY_FOR["batch"]

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables of which one must hold this teacher's API key, where known."""
        if self.api_key_env:
            return (self.api_key_env,)
        if self.kind != "litellm" or self.url:
            return ()
        return PROVIDER_KEYS.get(self.model.split("/")[0], ())

    @property
    def model(self) -> str:
        """The model as the recipe names it."""
        return str(getattr(self, self.kind))


def _check_options(options: dict[str, str]) -> None:
    if taken := [name for name in options if name in OWN_ARGUMENTS]:
        raise ValueError(f"`args` must not hold {taken[0]}: Tutelage sets it itself")
    for name, least, most in ((SHARE_FLAG, 0.0, 1.0), ("--port", 0, 65_535)):
        value = options.get(name)
        try:
            fine = value is None or least < float(value) <= most
            fine = fine and (name != "--port" or value is None or value.isdecimal())
        except ValueError:
            fine = False
        if not fine:
            raise ValueError(
                f"`args`: {name} must be above {least:g} and at most {most:g}, not {value!r}"
            )


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"`url` must be http://HOST/… or https://HOST/…; {url!r} is not")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "`url` must not carry a user or password: name a variable in `api_key_env`"
        )
    if parts.query or parts.fragment:
        raise ValueError("`url` must end with its path, without ? and #")
    if _is_link_local(parts.hostname):
        raise ValueError(f"`url` points to {parts.hostname}, where clouds keep machine credentials")


def _is_link_local(host: str) -> bool:
    if host.lower().rstrip(".") == "metadata.google.internal":
        return True
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False
