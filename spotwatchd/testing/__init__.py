"""A fake EC2 metadata service, for testing a training program against interruptions.

See docs/fake-imds.md. Needs the extra ``spotwatchd[daemon]`` (aiohttp).
"""

from spotwatchd.testing.fake import FakeIMDS
from spotwatchd.testing.faults import KINDS
from spotwatchd.testing.instance import Instance
from spotwatchd.testing.scene import Request

__all__ = ["KINDS", "FakeIMDS", "Instance", "Request"]
