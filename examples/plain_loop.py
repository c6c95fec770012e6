"""Any loop, any framework: count, save when asked, go on where the last attempt stopped."""

import sys

from spotwatchd.client import connect

job = connect("plain-loop")
path = job.latest()
count = int((path / "count").read_text()) if path else 0
while count < 1_000_000:
    count += 1  # the work
    if job.should_checkpoint():
        with job.checkpoint(count) as directory:
            (directory / "count").write_text(str(count))
        if job.leaving:
            sys.exit(75)
job.finish(count)
