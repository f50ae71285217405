"""LLMRouter's routers (ulab-uiuc), by its own classes, trained on a table's scores over our vectors.

    python -m benchmarks.peers.llmrouter --router svm --seed 0 --folder FOLDER

FOLDER holds `task.npz`: `vectors` (N, D) and `scores` (N, M) of the prompts to train on, and the vectors
`asked` (n, D) of those to route. The chosen models (n,), by number, are written to `chosen.npy` there. The
package would embed texts with a Longformer from a model hub and call the model that it chose; here a text
is a prompt's number, which stands for its vector, and no model is called.
"""

import argparse
import importlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

# Class, trainer and settings of each. The settings are those of the project's own configurations; k-NN's is
# the one for several rounds, and the graph has the defaults of its code.
ROUTERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "knn": ("KNNRouter", "KNNRouterTrainer", {"n_neighbors": 5, "weights": "uniform"}),
    "svm": (
        "SVMRouter",
        "SVMRouterTrainer",
        {"kernel": "rbf", "C": 1.0, "gamma": "scale", "probability": True},
    ),
    "mlp": (
        "MLPRouter",
        "MLPTrainer",
        {"hidden_layer_sizes": [128, 64], "lr": 0.001, "epochs": 100, "batch_size": 32},
    ),
    "mf": ("MFRouter", "MFRouterTrainer", {"latent_dim": 128, "lr": 0.001, "epochs": 5}),
    "graph": ("GraphRouter", "GraphTrainer", {}),
}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def route(name: str, task: dict[str, np.ndarray], seed: int, folder: Path) -> np.ndarray:
    """The models (n,) that the router picks for the prompts asked, by number."""
    import torch
    from llmrouter import models

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    router_class, trainer_class, settings = ROUTERS[name]
    if name == "mf":  # it alone does not read the dimension off the vectors
        settings = {**settings, "text_dim": task["vectors"].shape[1]}
    config = configuration(task["vectors"], task["scores"], settings, folder)
    router = getattr(models, router_class)(str(config))
    getattr(models, trainer_class)(router, device="cpu").train()

    module: Any = importlib.import_module(type(router).__module__)
    asked = torch.from_numpy(task["asked"])
    module.get_longformer_embedding = lambda text: asked[int(text)]
    module.call_api = lambda *_, **__: {"error": "no model is called"}
    routed = router.route_batch([{"query": str(i)} for i in range(len(asked))])
    return np.array([int(row["model_name"]) for row in routed], int)


def configuration(
    vectors: np.ndarray, scores: np.ndarray, settings: dict[str, Any], folder: Path
) -> Path:
    """Writes what the package reads, and the YAML that names it (JSON is YAML)."""
    import torch

    rows, embeddings, config = folder / "rows.jsonl", folder / "vectors.pt", folder / "config.yaml"
    # Of models that did equally well the package takes the first as the best: here the strongest one.
    strongest_first = np.argsort(-scores.mean(axis=0), kind="stable")
    with rows.open("w", encoding="utf-8") as file:
        for i, of_prompt in enumerate(scores):
            for m in strongest_first:
                row = {"query": str(i), "model_name": str(m), "performance": of_prompt[m]}
                file.write(json.dumps({**row, "embedding_id": i}) + "\n")
    torch.save(torch.from_numpy(vectors), embeddings)
    trained = str(folder / "trained.pkl")
    config.write_text(
        json.dumps(
            {
                "data_path": {
                    "routing_data_train": str(rows),
                    "query_embedding_data": str(embeddings),
                },
                "model_path": {
                    "ini_model_path": "",
                    "save_model_path": trained,
                    "load_model_path": trained,
                },
                "hparam": settings,
                "api_endpoint": "none",
            }
        ),
        "utf-8",
    )
    return config


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", choices=ROUTERS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    with np.load(options.folder / "task.npz") as file:
        task = dict(file)
    chosen = route(options.router, task, options.seed, options.folder)
    np.save(options.folder / "chosen.npy", chosen)


if __name__ == "__main__":
    main()
