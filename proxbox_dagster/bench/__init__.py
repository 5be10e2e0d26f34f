"""How fast it is, told by the ratio to what NetBox and Proxmox themselves can take (``make bench``).

Part of the package, as the demo is: it needs nothing that a user does not have, and whoever wants figures of his own
machine gets them with ``python -m proxbox_dagster.bench``.
"""
