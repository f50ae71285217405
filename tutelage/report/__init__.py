"""The report: one self-contained HTML page that works from disk, offline and without script."""
