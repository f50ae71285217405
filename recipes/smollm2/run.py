"""Runs recipes/smollm2.yaml with everything that it needs: `make smollm2`.

    python -m recipes.smollm2.run [OPTIONS OF `tutelage run`, such as --until route]

Makes the plain model's folder where it is missing, starts the local server, runs the recipe, and
stops the server however the run ended. The exit code is the run's: 130 after Ctrl-C.
"""

import signal
import subprocess
import sys
import time
from types import FrameType

from recipes.smollm2.plain_model import ROOT, NotReady, convert
from recipes.smollm2.server import RECIPE, endpoint, running

LOG = ROOT / ".cache" / "smollm2-server.log"


def main(options: list[str]) -> int:
    """The whole way; returns the exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    begin = time.monotonic()
    try:
        say(f"the plain model stands in {convert()}")
        with running(LOG):
            _, host, port = endpoint()
            say(f"the server answers on {host}:{port} ({time.monotonic() - begin:.0f} s)")
            begin = time.monotonic()
            code = run_recipe(options)
    except NotReady as error:
        print(f"smollm2: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    say(f"the server is stopped; the run took {time.monotonic() - begin:.0f} s")
    return code


def run_recipe(options: list[str]) -> int:
    """`tutelage run` in a process of its own. Ctrl-C reaches it once, and it is waited for."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tutelage", "run", str(RECIPE.relative_to(ROOT)), *options],
        cwd=ROOT,
        start_new_session=True,
    )
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say(text: str) -> None:
    print(f"smollm2: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
