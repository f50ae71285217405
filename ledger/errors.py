"""The tree of errors that a person can meet. Each message names the value, the rule and the way out.

TutelageError                exit code 1
├── InputError               exit code 2: a recipe, a file or a value that someone typed
└── LedgerError              the ledger cannot be opened, read or written as asked
    ├── BadQuery             a person's SQL that cannot be answered; exit code 2
    ├── LedgerBusy           another run holds it; exit code 3
    └── LedgerDamaged        it is shorter than its head, or of another schema version
Rooms hang their own errors below these.
"""


class TutelageError(Exception):
    """Base of every error that is someone's to mend; the command line prints it without a traceback."""

    exit_code = 1


class InputError(TutelageError):
    """Something a person wrote (recipe, prompt file, option) breaks a rule."""

    exit_code = 2


class LedgerError(TutelageError):
    """The ledger cannot be opened, read or written as asked."""


class BadQuery(LedgerError):
    """A query that a person typed cannot be answered."""

    exit_code = 2


class LedgerBusy(LedgerError):
    """Another process holds the writer's lock."""

    exit_code = 3


class LedgerDamaged(LedgerError):
    """The DuckDB file holds less than was acknowledged, or was written by another schema."""
