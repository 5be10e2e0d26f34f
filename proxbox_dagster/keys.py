"""Asset keys: ``proxmox/<source>``, ``netbox/<object class>`` and the run's summary."""

from __future__ import annotations

import dagster as dg

SOURCE_PREFIX = "proxmox"
PARTITION_TAG = "dagster/partition"
"""Dagster's tag of a run with its partition, which is the endpoint's name."""

SUMMARY_STEP = "run_summary"
SUMMARY_KEY = dg.AssetKey(["proxbox", SUMMARY_STEP])


def source_key(name: str) -> dg.AssetKey:
    return dg.AssetKey([SOURCE_PREFIX, name])


def class_key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["netbox", name])
