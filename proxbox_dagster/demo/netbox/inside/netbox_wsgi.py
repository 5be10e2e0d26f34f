"""NetBox's WSGI application with its styles and scripts, run inside NetBox's virtual environment by gunicorn."""

from __future__ import annotations

import gc

# Importing NetBox makes millions of objects that stay: looking through them for garbage is a quarter of the start.
gc.disable()

from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: E402
from netbox.wsgi import application as netbox_application  # noqa: E402

gc.freeze()
gc.enable()

# Serves /static/ from the packages themselves, so that pages are styled without a collectstatic run. Slow and not
# hardened (Django says so): right for a demo on the loopback interface, and nowhere else.
application = StaticFilesHandler(netbox_application)
