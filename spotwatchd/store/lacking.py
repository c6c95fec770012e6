"""What a machine lacks, as an error."""

from __future__ import annotations

from spotwatchd.errors import SpotwatchError


class Lacking(SpotwatchError):
    """This machine lacks something that the job needs: no crash of the job, no fault of ours."""
