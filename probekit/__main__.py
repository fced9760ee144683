"""`python -m probekit`, the same as the `probekit` command."""

from __future__ import annotations

import sys

from probekit.cli import main

sys.exit(main())
