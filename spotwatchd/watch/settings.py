"""What can be set about the watching of EC2 metadata."""

from __future__ import annotations

from dataclasses import dataclass

# EC2 user guide, "Instance metadata": the two link-local addresses. IPv6 needs a Nitro
# instance with HttpProtocolIpv6 enabled.
ENDPOINTS = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}


@dataclass(frozen=True)
class ImdsSettings:
    """Settings of the EC2 metadata watcher. Times are in seconds.

    Attributes:
        endpoint: "ipv4", "ipv6" or a URL without a path (a fake service, a proxy on the host).
        poll_seconds: from one look at spot/instance-action to the next. AWS recommends 5 or less.
        timeout: for one request.
        poll_timeout: for one poll as a whole: token, answer, renewal, second answer.
        token_seconds: life asked for a session token; EC2 allows 1 to 21600.
        imds_v1: ask without a session token. Off unless somebody says so.
        rebalance: take rebalance recommendations as hints.
        scheduled_events: watch scheduled events (reboot, stop, retirement).
        autoscaling: watch the target lifecycle state of an Auto Scaling group.
        event_lead: a scheduled event becomes a notice this long before its NotBefore.
        autoscaling_seconds: the time assumed after target state Terminated, which tells none.
            Lifecycle hooks run for 30 to 7200 s; without a hook the shutdown begins at once.
        stale_seconds: without a successful poll for this long, an alarm is raised.
    """

    endpoint: str = "ipv4"
    poll_seconds: float = 2.0
    timeout: float = 1.0
    poll_timeout: float = 2.0
    token_seconds: int = 21600
    imds_v1: bool = False
    rebalance: bool = True
    scheduled_events: bool = True
    autoscaling: bool = True
    event_lead: float = 300.0
    autoscaling_seconds: float = 120.0
    stale_seconds: float = 30.0

    @property
    def url(self) -> str:
        """The endpoint as a URL without a trailing slash."""
        return ENDPOINTS.get(self.endpoint, self.endpoint).rstrip("/")
