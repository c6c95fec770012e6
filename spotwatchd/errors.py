"""Errors that a person reads.

    SpotwatchError            what happened, where, and the remedy
     ├─ ConfigError           a setting is unknown, of the wrong type, or contradicts another
     ├─ StoreError            the object store refused or cannot be used as it is
     │   ├─ StoreUnavailable  it did not answer (or answered 5xx): trying again may help
     │   ├─ StoreDenied       it answered, and the answer is no: a person has to change something
     │   ├─ Conflict          a conditional write lost against another writer
     │   └─ Damaged           bytes or documents do not say what they should
     ├─ LeaseLost             this machine may no longer change the job
     ├─ JobError              a job cannot be registered, started or found
     └─ DaemonUnreachable     nobody answers on the socket

Every error is raised where it is noticed and turned into text at one boundary:
the socket (problem+json), the command line (stderr) or the log.
"""


class SpotwatchError(Exception):
    """An error with what a person needs to mend it.

    Attributes:
        what: one clause, e.g. ``cannot commit to s3://acme/team: PutObject answered 403``.
        where: the file, setting, key, field or address concerned.
        remedy: what to do about it, or "" when there is nothing to do.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where   {self.where}")
        if self.remedy:
            lines.append(f"  fix     {self.remedy}")
        return "\n".join(lines)


class ConfigError(SpotwatchError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class StoreError(SpotwatchError):
    """The object store refused, or cannot be used as it is."""


class StoreUnavailable(StoreError):
    """The store did not answer, or answered 5xx. The outcome of a write is unknown."""


class StoreDenied(StoreError):
    """The store answered no (permission, missing bucket, read-only, full)."""


class Conflict(StoreError):
    """A conditional write lost against another writer."""


class Damaged(StoreError):
    """Bytes or documents in the store do not say what they should."""


class LeaseLost(SpotwatchError):
    """Another machine owns the job now: nothing may be committed, deleted or run here."""


class JobError(SpotwatchError):
    """A job cannot be registered, started or found."""


class DaemonUnreachable(SpotwatchError):
    """Nobody answers on the daemon's socket within the time given."""
