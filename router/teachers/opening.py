"""Opens teachers: from the recipe's section, or a model folder by its path.

Opening is cheap: it computes the teacher's key and checks what can be checked without weights,
without the network and without API keys (`require_ready` asks for those).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from router.teachers.config import TeacherConfig
from router.teachers.protocol import Teacher

if TYPE_CHECKING:
    from router.teachers.local import LocalTeacher


def open_teacher(
    name: str, config: TeacherConfig, base_dir: Path, log_dir: Path = Path("logs")
) -> Teacher:
    """The teacher that a recipe in `base_dir` describes. Raises TeacherUnavailable.

    `log_dir` is for what servers say that are started for it.
    """
    if config.kind == "local":
        return open_local(
            name,
            config.model,
            base_dir=base_dir,
            adapter=config.adapter,
            system=config.system,
            dtype=config.dtype,
            batch_size=config.batch_size,
            context=config.context,
            lacks=config.lacks,
            licence=config.licence,
            revision=config.revision,
        )
    if config.kind == "litellm":
        from router.teachers.litellm_teacher import LitellmTeacher

        return LitellmTeacher(name, config)
    if config.kind == "vllm":
        from router.teachers.vllm import VllmServerTeacher, VllmTeacher

        if config.url is None:
            return VllmTeacher(name, config, base_dir, log_dir)
        return VllmServerTeacher(name, config, base_dir)
    from router.teachers.http import HttpTeacher

    return HttpTeacher(name, config, base_dir)


def find_model(what: str, path: str, base_dir: Path) -> Path:
    """The folder that a model's `path` names: under `base_dir`, or in the hub cache.

    Raises TeacherUnavailable, whose message begins with `what`; nothing is fetched.
    """
    from router.teachers.local import model_folder

    return model_folder(what, path, base_dir, None)


def open_local(
    name: str,
    path: str | Path,
    *,
    base_dir: Path = Path(),
    adapter: str | None = None,
    system: str | None = None,
    dtype: str = "auto",
    batch_size: int = 32,
    context: int | None = None,
    lacks: Sequence[str] = (),
    licence: str = "unknown",
    revision: str | None = None,
    chat_template: str | None = None,
) -> "LocalTeacher":
    """A model folder as a teacher, for whoever has one at hand: a student, a baseline.

    `chat_template` is for a folder that has none.
    """
    from router.teachers.local import LocalTeacher, adapter_folder, model_folder

    folder = model_folder(f"teacher `{name}`", str(path), base_dir, revision)
    settings = {"local": str(path), "adapter": adapter, "system": system, "dtype": dtype}
    return LocalTeacher(
        name,
        folder,
        model=str(path),
        adapter=adapter_folder(name, adapter, base_dir) if adapter else None,
        system=system,
        dtype=dtype,
        batch_size=batch_size,
        context=context,
        lacks=lacks,
        licence=licence,
        chat_template=chat_template,
        settings={key: value for key, value in settings.items() if value is not None},
    )
