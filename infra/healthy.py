"""Ask an address whether its service is well: exit code 0 when it answers 200, else 1."""

import sys
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:
        sys.exit(answer.status != 200)
except OSError as error:  # no connection, no answer in time, or another status
    sys.exit(f"{sys.argv[1]}: {error}")
