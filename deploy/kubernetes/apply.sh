#!/bin/sh
# Applies an overlay in the order that never lets a service run on an older database or broker than its code wants:
# servers, then the jobs of this version, then the services, then who looks after them.
#   ./deploy/kubernetes/apply.sh [overlay]
set -eu
overlay=${1:-$(dirname "$0")/overlays/production}
manifests=$(mktemp)
trap 'rm -f "$manifests"' EXIT

kubectl kustomize "$overlay" >"$manifests"
kubectl apply -f "$manifests" -l app.kubernetes.io/component=server
kubectl -n oms wait rabbitmqcluster/rabbitmq --for=condition=AllReplicasReady --timeout=15m
kubectl -n oms wait cluster.postgresql.cnpg.io --all --for=condition=Ready --timeout=15m
kubectl -n oms rollout status statefulset/redis --timeout=5m
kubectl -n oms delete job -l app.kubernetes.io/component=job --ignore-not-found # what has run cannot be changed
kubectl apply -f "$manifests" -l app.kubernetes.io/component=job
kubectl -n oms wait job --all --for=condition=Complete --timeout=16m
kubectl apply -f "$manifests" -l app.kubernetes.io/component=service
for service in gateway users orders inventory payments notifications; do
    kubectl -n oms rollout status "deployment/$service" --timeout=10m
done
kubectl apply -f "$manifests" -l app.kubernetes.io/component=operator # ready as soon as the doctor is content
