"""The code location that Dagster loads, also with nothing configured and no secret set. Nothing else imports it."""

from __future__ import annotations

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.rules import checked
from proxbox_dagster.settings import load_settings

defs = build_definitions(checked(load_settings()))
