"""Every row of the suite: importing their modules enters them."""

from tests.faults.rows import answers, calls, ledger, models, money, naming, pages, secrecy
from tests.faults.suite import ROWS

MODULES = (answers, calls, ledger, models, money, naming, pages, secrecy)

__all__ = ["MODULES", "ROWS"]
