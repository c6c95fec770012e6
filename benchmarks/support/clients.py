"""Upload a folder with a Python library: run by peers.py in the peers' own environment.

clients.py boto3|obstore ENDPOINT BUCKET FOLDER
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MIB = 1 << 20


def with_boto3(endpoint: str, bucket: str, files: list[Path]) -> None:
    """64 MiB x 4 threads: its fastest setting in an earlier series. Its checksum is CRC32."""
    boto3: Any = importlib.import_module("boto3")
    transfer: Any = importlib.import_module("boto3.s3.transfer")
    client = boto3.client("s3", endpoint_url=endpoint, verify=os.environ.get("AWS_CA_BUNDLE"))
    config = transfer.TransferConfig(
        multipart_threshold=64 * MIB, multipart_chunksize=64 * MIB, max_concurrency=4
    )
    with ThreadPoolExecutor(4) as pool:
        for each in [
            pool.submit(client.upload_file, str(path), bucket, f"boto3/{path.name}", Config=config)
            for path in files
        ]:
            each.result()


def with_obstore(endpoint: str, bucket: str, files: list[Path]) -> None:
    """It sends no checksum unless told; here SHA-256, the only one that it knows."""
    obstore: Any = importlib.import_module("obstore")
    store_of: Any = importlib.import_module("obstore.store").S3Store
    store = store_of(
        bucket,
        endpoint=endpoint,
        virtual_hosted_style_request=False,
        checksum_algorithm="SHA256",
        client_options={"allow_http": True},
    )

    async def upload(path: Path, slots: asyncio.Semaphore) -> None:
        async with slots:
            await obstore.put_async(
                store, f"obstore/{path.name}", path, chunk_size=32 * MIB, max_concurrency=4
            )

    async def run() -> None:
        slots = asyncio.Semaphore(16)
        await asyncio.gather(*(upload(path, slots) for path in files))

    asyncio.run(run())


def main() -> int:
    """See above."""
    library, endpoint, bucket, folder = sys.argv[1:]
    files = sorted(Path(folder).iterdir())
    {"boto3": with_boto3, "obstore": with_obstore}[library](endpoint, bucket, files)
    return 0


if __name__ == "__main__":
    # Not sys.exit: now and then obstore's threads abort a Python that is being taken down.
    os._exit(main())
