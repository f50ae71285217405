"""Rows 8 to 11: answers that are cut, empty, huge, strange, or somebody else's."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

from aiohttp import web

from ledger.prompts import Prompt
from tests.faults.server import (
    Call,
    FaultServer,
    Reply,
    body,
    completion,
    content,
    payload,
)
from tests.faults.suite import Found, Shop, prompts, row, share


async def cut_stream(request: web.Request, call: Call) -> web.StreamResponse:
    """A stream that ends cleanly in the middle, without a last word."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in ("one", " two"):
        chunk = {"model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    return response


@row(8, "cut stream, null, empty, no finish")
def unfinished(folder: Path) -> Found:
    """None of these becomes a sample; a truncated answer does, and is bought once."""
    replies: list[Reply] = [
        cut_stream,
        content(None),
        content(""),
        payload({**completion("x"), "choices": []}),
        content("x", None),
        content("x", "somehow"),
    ]
    shop, asked = Shop(folder), prompts(len(replies) + 1)
    by_prompt = {prompt.text: reply for prompt, reply in zip(asked, replies, strict=False)}
    by_prompt[asked[-1].text] = content("cut", "length")
    with FaultServer(rule=lambda call: by_prompt[call.prompt]) as server:
        for _ in range(3):
            shop.buy(server, asked, retries=0)
        truncated = sum(call.prompt == asked[-1].text for call in server.calls)
    admitted = len(set(shop.texts()) - {asked[-1].key})
    state = shop.ends()[asked[-1].key][0]
    report = (
        f"{admitted} of {len(replies)} admitted; truncated: {state}, {truncated} call in 3 runs"
    )
    return Found(report, "0; 1 call", admitted == 0 and (state, truncated) == ("truncated", 1))


@row(9, "HTML, broken JSON, other model")
def nonsense(folder: Path) -> Found:
    """Each gets its class."""
    faults: dict[str, tuple[Reply, str]] = {
        "html": (body(b"<html>busy</html>", type_="html"), "html"),
        "broken": (body(b'{"choices": ['), "broken_json"),
        "error in 200": (payload({"error": {"message": "no", "code": 500}}), "error_in_200"),
        "other model": (content("x", model="another"), "wrong_model"),
        "not UTF-8": (body(b"\xff\xfe{"), "not_unicode"),
        "not an object": (body(b"[1]"), "no_choices"),
        "message missing": (payload({**completion("x"), "choices": [{}]}), "no_message"),
        "content is a number": (content(7), "no_text"),
    }
    shop, asked = Shop(folder), prompts(len(faults))
    by_prompt = dict(zip((prompt.text for prompt in asked), faults.values(), strict=True))
    with FaultServer(rule=lambda call: by_prompt[call.prompt][0]) as server:
        shop.buy(server, asked, retries=0)
    ends = shop.ends()
    right = sum(ends[p.key] == ("invalid", by_prompt[p.text][1]) for p in asked)
    return share(right, len(faults), "classified")


BOMB_CHILD = """
import resource, sys
from pathlib import Path
from tests.faults.suite import Shop, prompts
shop = Shop(Path(sys.argv[1]))
shop.buy(sys.argv[2], prompts(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
purchase = shop.buy(sys.argv[2], prompts(4, "bomb"), retries=0)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, *purchase.failures)
"""


@row(10, "200 MB behind 195 kB, long prompt")
def too_large(folder: Path) -> Found:
    """Bodies are capped after they are unpacked; a prompt past the context is never sent."""
    bomb = body(gzip.compress(bytes(200_000_000)), headers={"Content-Encoding": "gzip"})
    with FaultServer(rule=lambda call: bomb if "bomb" in call.prompt else None) as server:
        done = subprocess.run(
            [sys.executable, "-c", BOMB_CHILD, str(folder / "bomb"), server.url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        grown_mib, *classes = done.stdout.split()
        shop, long = Shop(folder / "long"), [Prompt.of("x " * 10_000)]
        price = {"input_usd_per_million": 1.0, "output_usd_per_million": 1.0}
        teacher = {"context": 1000, "price": price, "budget_usd": 1.0}
        before = len(server.calls)
        purchase = shop.buy(server, long, teacher)
        sent = len(server.calls) - before
    report = f"RSS +{grown_mib} MiB for 4 at once, {classes[0]}; long: {sent} sent, ${purchase.cost_usd:.2f}"
    right = classes == ["body_too_large"] and (sent, purchase.cost_usd) == (0, 0.0)
    return Found(report, "<= 4 x 40 MiB", int(grown_mib) <= 4 * 40 and right)


@row(11, "surrogates, NUL, ESC, bidi, 8 MB")
def strange(folder: Path) -> Found:
    """Stored exactly, or rejected and counted."""
    texts = ["nul \0 end", "esc \x1b[31m", "bidi \u202e mark", "x" * 8_000_000, "\r\n\t", "😀"]
    shop, asked = Shop(folder), prompts(len(texts) + 1)
    by_prompt = {prompt.text: text for prompt, text in zip(asked, texts, strict=False)}
    by_prompt[asked[-1].text] = "half \ud800"
    with FaultServer(rule=lambda call: content(by_prompt[call.prompt])) as server:
        purchase = shop.buy(server, asked, deadline_s=30.0)
    stored = shop.texts()
    exact = sum(stored.get(prompt.key) == by_prompt[prompt.text] for prompt in asked[:-1])
    rejected = purchase.failures["not_unicode"].count
    return share(exact + rejected, len(asked), f"({exact} exact, {rejected} rejected and counted)")
