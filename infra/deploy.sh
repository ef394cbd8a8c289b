#!/bin/sh
# Tell a Prefect server of the work pool and the deployments. Run it again after every change of
# infra/prefect.yaml, in the folder from which the worker is to load the flows.
set -eu
prefect --no-prompt work-pool create night --type process --overwrite
prefect work-pool update night --concurrency-limit 1
prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml
