"""Row 14: caps on money, with calls in flight and prices that are known only afterwards."""

import itertools
from pathlib import Path

from tests.faults.server import Call, FaultServer, Reply, completion, payload
from tests.faults.suite import Found, Shop, prompts, row
from tests.router.engine.spending import simulate_runs

PRICE = {"input_usd_per_million": 0.0, "output_usd_per_million": 1000.0}


@row(14, "budget, 100 in flight")
def overshoot(folder: Path) -> Found:
    """1,000 simulated runs with mixed prices and three kinds of caps, and a real one."""
    simulated = simulate_runs(1000)
    sizes = itertools.cycle([1, 8, 3, 0])

    def rule(call: Call) -> Reply:
        usage = {"prompt_tokens": 10, "completion_tokens": next(sizes)}
        return payload(completion("x", usage=usage))

    shop, cap = Shop(folder), 0.4
    with FaultServer(rule=rule, delay_s=0.01) as server:
        teacher = {"price": PRICE, "max_in_flight": 100}
        shop.buy(server, prompts(300), teacher, budget_usd=cap)
    spent = shop.one("SELECT sum(cost_usd) FROM request")
    over = simulated + (spent > cap + 1e-12)
    report = f"{over} of 1,001 runs over; the real one ${spent:.3f} of ${cap:.3f}"
    return Found(report, "0", over == 0 and spent > cap - 0.008)
