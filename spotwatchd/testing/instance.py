"""The instance that the fake metadata service is on, and its tree of metadata. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

Tree = dict[str, "str | Tree"]

# Any version that exists is answered like the latest one.
VERSIONS = ("1.0", "2016-09-02", "2021-07-15", "latest")


@dataclass(frozen=True)
class Instance:
    """Facts of the fake instance.

    Attributes:
        tags: served under meta-data/tags/instance; None is EC2's default: tags are not enabled.
        pending_time: Unix seconds of the newest launch or start, in the identity document.
    """

    instance_id: str = "i-0fa6e0fa6e0fa6e01"
    instance_type: str = "g5.xlarge"
    image_id: str = "ami-0fa6e0fa6e0fa6e02"
    availability_zone: str = "us-east-1a"
    availability_zone_id: str = "use1-az1"
    account_id: str = "123456789012"
    private_ip: str = "10.0.0.17"
    life_cycle: str = "spot"
    tags: Mapping[str, str] | None = None
    pending_time: float = field(default=1_795_262_400.0)

    @property
    def region(self) -> str:
        """The zone without its letter."""
        return self.availability_zone.rstrip("abcdefghijklmnopqrstuvwxyz")


def rfc3339(when: float) -> str:
    """Unix seconds as EC2 writes them: UTC, whole seconds, Z."""
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def fixed_tree(instance: Instance) -> Tree:
    """``/latest`` of an instance to which nothing happens."""
    meta: Tree = {
        "ami-id": instance.image_id,
        "instance-id": instance.instance_id,
        "instance-life-cycle": instance.life_cycle,
        "instance-type": instance.instance_type,
        "local-ipv4": instance.private_ip,
        "placement": {
            "availability-zone": instance.availability_zone,
            "availability-zone-id": instance.availability_zone_id,
            "region": instance.region,
        },
    }
    if instance.tags is not None:
        meta["tags"] = {"instance": dict(instance.tags)}
    document = json.dumps(_identity(instance), indent=2)
    return {
        "dynamic": {"instance-identity": {"document": document}},
        "meta-data": meta,
    }


def lookup(tree: Tree, path: str) -> str | Tree | None:
    """What is at ``path`` (slashes at either end do not matter), or None."""
    node: str | Tree = tree
    for part in filter(None, path.split("/")):
        if isinstance(node, str) or part not in node:
            return None
        node = node[part]
    return node


def listing(tree: Tree) -> str:
    """A directory as text: one name a line, a slash after those that are directories."""
    names = sorted(name if isinstance(node, str) else f"{name}/" for name, node in tree.items())
    return "".join(f"{name}\n" for name in names)


def _identity(instance: Instance) -> dict[str, object]:
    return {
        "accountId": instance.account_id,
        "architecture": "x86_64",
        "availabilityZone": instance.availability_zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": instance.image_id,
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "kernelId": None,
        "pendingTime": rfc3339(instance.pending_time),
        "privateIp": instance.private_ip,
        "ramdiskId": None,
        "region": instance.region,
        "version": "2017-09-30",
    }
