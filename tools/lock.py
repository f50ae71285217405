"""Writes the hashed locks from pyproject.toml: `make lock`, after a dependency has changed.

`product.txt` holds what the product and the quickstart need, `dev.txt` what tests and linters need
besides. Pins that stand in a lock already are kept where they still fit; delete a line to move it.
torch is in neither: its CPU and CUDA builds differ in hash and needs; `torch.txt` pins its version.
Runs in an environment of its own that holds pip-tools 7.6.2.
"""

import tempfile
import tomllib
from pathlib import Path
from typing import Any

from piptools.repositories.pypi import PyPIRepository
from piptools.scripts.compile import cli as pip_compile

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "tools" / "locks"
OPTIONS = [
    *["--quiet", "--strip-extras", "--generate-hashes", "--allow-unsafe"],
    *["--unsafe-package", "torch", "--unsafe-package", "pip"],
    *["--no-header", "--no-annotate", "--no-emit-options", "--no-emit-index-url"],
    *["--no-emit-find-links", "--no-emit-trusted-host"],
]
HEADER = "# Written by `make lock`. pip install --require-hashes --no-deps -r {name}\n"


def take_hashes_from_index() -> None:
    """Lets pip-tools read the hashes that the index publishes instead of fetching each file."""
    fetch_and_hash = PyPIRepository._get_file_hash

    def file_hash(self: PyPIRepository, link: Any) -> str:
        if link.hash_name == "sha256":
            return f"sha256:{link.hash}"
        return str(fetch_and_hash(self, link))

    PyPIRepository._get_file_hash = file_hash


def entries(text: str) -> dict[str, str]:
    """The requirements of a lock: name -> its line with the hashes that belong to it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            name = line.split("==")[0]
            found[name] = ""
        if name and line.strip() and not line.startswith("#"):
            found[name] += line + "\n"
    return found


def compile_lock(name: str, requirements: list[str], besides: dict[str, str]) -> dict[str, str]:
    """Resolves `requirements`, held to the pins in `besides`, and writes what `besides` lacks."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, held, out = (Path(folder) / part for part in ("in.in", "held.txt", "out.txt"))
        held.write_text("".join(e.split(" ")[0] + "\n" for e in besides.values()), "utf-8")
        torch = (LOCKS / "torch.txt").read_text("utf-8")
        wanted.write_text("\n".join([*requirements, torch, f"-c {held}"]), "utf-8")
        if (LOCKS / name).is_file():
            out.write_text((LOCKS / name).read_text("utf-8"), "utf-8")
        pip_compile.main([*OPTIONS, "-o", str(out), str(wanted)], standalone_mode=False)
        locked = entries(out.read_text("utf-8"))
    elsewhere = {*besides, "torch", "pip"}
    new = {package: text for package, text in locked.items() if package not in elsewhere}
    (LOCKS / name).write_text(HEADER.format(name=name) + "".join(new.values()), "utf-8")
    return new


def main() -> None:
    """Writes both locks."""
    take_hashes_from_index()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    # What builds the project is locked too, so that installing it fetches nothing unchecked.
    product = [*pyproject["project"]["dependencies"], *pyproject["build-system"]["requires"]]
    locked = compile_lock("product.txt", [*product, *extras["quickstart"]], {})
    compile_lock("dev.txt", [*extras["dev"], *extras["smollm2"]], locked)


if __name__ == "__main__":
    main()
