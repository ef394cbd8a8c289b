#!/bin/sh
# Tell a Prefect server of the work pool, the deployments and the automations. Run it again after
# every change of infra/prefect.yaml, in the folder from which the worker is to load the flows.
# Its arguments are those of flows/alerts.py: --webhook file:PATH
set -eu
prefect --no-prompt work-pool create night --type process --overwrite
prefect work-pool update night --concurrency-limit 1
prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml
python -m flows.alerts "$@"
