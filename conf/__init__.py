"""Hydra's configs; packaged as `mtx.conf`.

The import registers mtx's resolvers, so an application that has `pkg://mtx.conf` in its search path has them, too.
"""

import mtx.app.resolvers  # noqa: F401  # for its effect
