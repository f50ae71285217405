"""Stands in for the `vllm` program, which has gigabytes and an environment of its own; the real one runs
in test_real_vllm.py. It serves like vLLM, keeps a diary of its lives, and starts a process that leaves its
process group.

    fake_vllm.py serve MODEL --served-model-name NAME --host H --port P [--most=N] [--fails] [--diary=FILE] …
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--served-model-name")
    parser.add_argument("--load-format", choices=["safetensors"], required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--quantization")
    parser.add_argument("--max-logprobs", type=int, required=True)
    parser.add_argument("--most", type=int, default=4096)  # whatever --max-logprobs says
    parser.add_argument("--fails", action="store_true")
    parser.add_argument("--diary", type=Path)
    return parser.parse_args()


def foretold(body: dict[str, Any]) -> list[Any]:
    """At each token but the first itself with .75, and the next number with .25; a place may hold k + 1."""
    told = [
        {str(t + 1): {"logprob": math.log(0.25)}, str(t): {"logprob": math.log(0.75), "rank": 1}}
        for t in body["prompt"]
    ]
    return [None, *told[1:]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    given: argparse.Namespace

    def do_GET(self) -> None:
        entry = {"id": self.given.served_model_name, "root": self.given.model}
        self.reply({"data": [entry]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("prompt_logprobs", 0) > self.given.most:
            self.reply({"message": f"Requested prompt logprobs of {body['prompt_logprobs']}"}, 400)
            return
        if self.path.endswith("/completions") and "prompt" in body:
            self.reply({"choices": [{"index": 0, "text": "", "prompt_logprobs": foretold(body)}]})
            return
        prompt = body["messages"][-1]["content"]
        if "die" in prompt:
            print("RuntimeError: out of memory", flush=True)
            os._exit(7)
        message = {"role": "assistant", "content": f"{body['model']}: {prompt}"}
        self.reply({
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        })  # fmt: skip

    def reply(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    given = options()
    print(f"INFO loading {given.model}", flush=True)
    if given.fails:
        print("ValueError: this model has no such architecture", flush=True)
        sys.exit(3)
    runaway = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if given.diary:
        with given.diary.open("a") as diary:
            diary.write(json.dumps([given.served_model_name, os.getpid(), runaway.pid]) + "\n")
    time.sleep(0.3)
    Handler.given = given
    ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
