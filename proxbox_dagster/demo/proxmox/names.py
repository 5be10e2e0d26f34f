"""Words that generated guests are called by."""

from __future__ import annotations

APPLICATIONS = ("web", "db", "cache", "queue", "mail", "git", "ci", "proxy", "monitor", "ldap", "wiki", "chat", "shop")
SYSTEMS = ("Debian GNU/Linux 13 (trixie)", "Debian GNU/Linux 12 (bookworm)", "Ubuntu 24.04.3 LTS", "Rocky Linux 9.6")
TAGS = ("prod", "dev", "staging", "linux", "customer-a", "customer-b", "backup.daily", "pci")
