#!/bin/sh
# Makes the secrets that the manifests refer to, with random content, where there are none yet. Nothing is ever changed.
# Afterwards: the administrator's address is admin@example.com unless ADMIN_EMAIL says otherwise; SMTP_URL makes `mail`.
set -eu
namespace=oms

random() { od -An -vtx1 -N "$1" /dev/urandom | tr -d ' \n'; } # hexadecimal: it stands in URLs

make() { # name, then key=value ...
    name=$1 && shift
    kubectl -n "$namespace" get secret "$name" >/dev/null 2>&1 && return
    for pair in "$@"; do printf '%s\n' "$pair"; done |
        kubectl -n "$namespace" create secret generic "$name" --from-env-file=/dev/stdin
}

kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
for user in gateway users orders inventory payments notifications operator; do
    make "rabbitmq-$user" "password=$(random 24)"
done
make redis "password=$(random 24)"
make jwt "secret=$(random 48)"
make administrator "email=${ADMIN_EMAIL:-admin@example.com}" "password=$(random 12)"
[ -z "${SMTP_URL:-}" ] || make mail "url=$SMTP_URL"
