"""An S3 that keeps objects in memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from .programs import ServerMissing, free_port


@contextmanager
def s3(bucket: str = "penstock") -> Iterator[str]:
    """Run an S3 that keeps objects in memory and yield its endpoint; any credentials are right.

    ``bucket`` exists. Raises ServerMissing when ``moto`` is not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("moto", "flask")):
        raise ServerMissing("moto[server,s3] is not installed; install it with: pip install 'penstock[testing]'")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 90
            while not _create_bucket(endpoint, bucket):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"the S3 server did not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield endpoint
        finally:
            process.kill()
            process.wait(timeout=60)


def _create_bucket(endpoint: str, bucket: str) -> bool:
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
