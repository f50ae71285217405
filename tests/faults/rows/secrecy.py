"""Rows 20, 21, 22, 27: keys, the environment, redirects and certificates."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from router.teachers import TeacherConfig
from tests.faults.loopback import CERTIFICATES
from tests.faults.server import FaultServer, always, content, status
from tests.faults.suite import Found, Shop, counted, prompts, row
from tests.tutelage.small_run import small_fields

CANARY = "canary-key-6f1d0b2c"
METADATA = (
    "http://169.254.169.254/v1",
    "http://[fe80::1]/v1",
    "http://metadata.google.internal/v1",
)


@row(20, "secrets in logs, ledger, tracebacks", slow=True)
def secrets(folder: Path) -> Found:
    """A whole run against a server that echoes the key wherever it can; then every byte is searched."""
    replies = [
        content(f"it is {CANARY}"),
        status(400, told=CANARY),
        status(401, told=f"bad key {CANARY}"),
        status(307, {"Location": f"http://127.0.0.1:9/{CANARY}"}, CANARY),
        status(500, told=CANARY),
    ]
    hits = 0
    for number, reply in enumerate(replies):
        with FaultServer(rule=always(reply)) as server:
            place = folder / str(number)
            place.mkdir()
            hits += _hits(_run(place, server.url), place)
    return counted(hits, f"hits in {len(replies)} runs")


def _run(place: Path, url: str) -> str:
    """A recipe with one hosted teacher, run as a person would; what it printed."""
    hosted = {"http": "m", "url": url, "licence": "MIT", "api_key_env": "CANARY_KEY"}
    fields = small_fields(
        teachers={"hosted": hosted}, generate={"on_unknown_price": "allow", "retries": 0}
    )
    recipe = place / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    words = [sys.executable, "-m", "tutelage", "run", str(recipe), "--until", "generate"]
    done = subprocess.run(
        [*words, "--run", str(place / "runs" / "r")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CANARY_KEY": CANARY, "PYTHONFAULTHANDLER": "1"},
    )
    return done.stdout + done.stderr


def _hits(printed: str, place: Path) -> int:
    files = [path for path in place.rglob("*") if path.is_file()]
    return printed.count(CANARY) + sum(path.read_bytes().count(CANARY.encode()) for path in files)


@row(21, "environment in recipes")
def environment(folder: Path) -> Found:
    """Only `api_key_env` reads the environment, and what it reads is written nowhere."""
    fields = small_fields(name="${CANARY_KEY} $CANARY_KEY")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", "plan", str(recipe)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CANARY_KEY": CANARY},
    )
    return counted(_hits(done.stdout + done.stderr, folder), "values resolved or on disk")


@row(22, "redirects, metadata addresses")
def redirects(folder: Path) -> Found:
    """Prompts go to the host that the recipe names."""
    delivered = 0
    with FaultServer() as elsewhere:
        for code in (301, 302, 303, 307, 308):
            place = elsewhere.url + "/chat/completions"
            with FaultServer(rule=always(status(code, {"Location": place}))) as server:
                Shop(folder / str(code)).buy(server, prompts(3))
        delivered += len(elsewhere.calls)
    for url in METADATA:
        try:
            TeacherConfig(http="m", url=url, licence="MIT")
        except ValidationError:
            continue
        delivered += 1
    return counted(delivered, "prompts off the named host")


@row(27, "TLS: self-signed, other host, old")
def certificates(folder: Path) -> Found:
    """Nothing is sent to a server that cannot show who it is; `ca_file` is the recipe's word."""
    own = {"ca_file": str(CERTIFICATES / "authority.pem")}
    accepted, classes = 0, set()
    for name, teacher in (
        ("good", {}),  # the authority is not the system's
        ("self_signed", own),
        ("wrong_host", own),
        ("expired", own),
    ):
        shop = Shop(folder / name)
        with FaultServer(certificate=name) as server:
            shop.buy(server, prompts(2), teacher)
            accepted += len(server.calls)
        classes |= {error for _, error in shop.ends().values()}
    shop = Shop(folder / "trusted")
    with FaultServer(certificate="good") as server:
        trusted = shop.buy(server, prompts(2), own).states.get("done", 0)
    report = (
        f"{accepted} accepted, class {', '.join(map(str, classes))}; {trusted} of 2 by `ca_file`"
    )
    return Found(report, "0", (accepted, classes, trusted) == (0, {"tls"}, 2))
