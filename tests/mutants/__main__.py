"""``python -m tests.mutants``: what ``./oms mutants`` hands over to."""

import sys
import warnings

if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")  # docs/decisions say why it is used
    from tests.mutants.run import main

    sys.exit(main(sys.argv[1:]))
