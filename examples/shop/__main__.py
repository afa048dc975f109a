"""``python -m examples.shop``: see :mod:`examples.shop`."""

import sys

INTERRUPTED = 130

if __name__ == "__main__":
    try:
        from examples.shop.command import main  # here, because it takes long enough to be interrupted

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
