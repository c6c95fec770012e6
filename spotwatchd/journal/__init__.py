"""What must survive a crash of the daemon: jobs, drains and receipts, in SQLite.

The journal is a hint. What may run and what may be committed is decided by the store
alone, so a damaged journal is moved aside and a new one begun: an alarm, not an end.
"""

from spotwatchd.journal.journal import Journal

__all__ = ["Journal"]
