"""The ledger: who produced what, when, at what cost, under which licence.

An inbox (SQLite) that cannot lose what was acknowledged, and a DuckDB file that can answer anything.
Also the formats that several rooms share: content keys, prompts, the mix. Imports nothing of ours.
"""
