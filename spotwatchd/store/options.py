"""What a store needs to know besides its URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Addressing = Literal["auto", "path", "virtual"]


@dataclass(frozen=True)
class StoreOptions:
    """What is not in a store's URL. Only S3 uses it.

    Attributes:
        endpoint_url: http(s) address of an S3-compatible server; None is AWS.
        region: None leaves it to the usual AWS configuration.
        addressing: auto, path or virtual; auto is ``path`` whenever
            ``endpoint_url`` is set.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds of silence after which an answer counts as lost.
        threads: parts sent at once.
    """

    endpoint_url: str | None = None
    region: str | None = None
    addressing: Addressing = "auto"
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    threads: int = 4

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> StoreOptions:
        """The AWS variables that name an endpoint and a region."""
        env = os.environ if environment is None else environment
        return cls(
            endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
            region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
        )
