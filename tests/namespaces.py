"""Disks of any size, mounted where only a test sees them."""

from __future__ import annotations

import subprocess

import pytest

UNSHARE = ["unshare", "-rm"]
namespaces = pytest.mark.skipif(
    subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="this machine lets us make no mount namespace",
)
