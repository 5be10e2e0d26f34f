"""What NetBox deletes along with a row, told by its own models. Run by NetBox's Python; prints JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def cascades(model: Any) -> list[str]:
    """The models (``app.model``) of rows that go when a row of ``model`` goes."""
    found = set()
    for item in model._meta.get_fields(include_hidden=True):
        reverse = item.auto_created and not item.concrete and (item.one_to_many or item.one_to_one)
        taken = reverse and item.on_delete.__name__ == "CASCADE"
        if taken or type(item).__name__ == "GenericRelation":
            found.add(item.related_model._meta.label_lower)
    return sorted(found)


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "netbox.settings"
    import django

    django.setup()
    from django.apps import apps

    print(json.dumps({name: cascades(apps.get_model(name)) for name in sys.argv[1:]}))


if __name__ == "__main__":
    main()
