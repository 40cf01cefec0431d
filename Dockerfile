# One image for the six services and every job; the command says which:
#   nameko run --config config.yaml services.orders.service
#   python -m cli prepare

FROM python:3.12-slim AS wheels
WORKDIR /wheels
COPY requirements.txt requirements-jobs.txt /
RUN pip wheel --no-cache-dir --disable-pip-version-check --wheel-dir /wheels -r /requirements-jobs.txt

FROM python:3.12-slim
RUN groupadd --gid 10001 oms \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin oms \
 && install -d -o 10001 -g 10001 -m 755 /run/oms /var/lib/oms/mailbox /var/lib/oms/operator
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=bind,source=.,target=/pins \
    pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-index --find-links=/wheels \
        -r /pins/requirements-jobs.txt \
 && pip uninstall --yes --quiet --root-user-action=ignore pip
WORKDIR /app
COPY config.yaml events.py gateway.py ./
COPY services services
COPY contract contract
COPY cli cli
# The root file system is read-only at run time: whatever Python would write there is written now.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app

# eventlet's deprecation warning is silenced at the one place that starts it, see docs/decisions.
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONWARNINGS=ignore::Warning:nameko.cli.commands \
    HTTP_HOST=0.0.0.0 \
    MAILBOX_DIR=/var/lib/oms/mailbox \
    OMS_STATE=/run/oms
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "cli"]
