#!/bin/sh
# Start a command with its secrets: NAME_FILE names the file that holds NAME.
set -eu
for name in \
    PREFECT_API_AUTH_STRING \
    PREFECT_SERVER_API_AUTH_STRING \
    PREFECT_SERVER_DATABASE_PASSWORD; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
        unset "${name}_FILE"
    fi
done
exec "$@"
