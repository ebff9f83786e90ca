"""What the gates of production measured, as frozen records that flow from measure to judge."""

from __future__ import annotations
