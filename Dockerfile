# A node of durable-agents: `docker build -t durable-agents .`
# Your own application: FROM durable-agents, COPY it to /app, and name it in CMD.

FROM python:3.13-slim AS build
RUN python -m venv /opt/durable
COPY requirements.lock /build/
# What is locked, with hashes; no compiler, so wheels only.
RUN /opt/durable/bin/pip install --no-cache-dir --disable-pip-version-check \
    --only-binary :all: --require-hashes -r /build/requirements.lock
COPY pyproject.toml README.md LICENSE /build/
COPY agents /build/agents
COPY durable /build/durable
COPY server /build/server
COPY migrations /build/migrations
RUN /opt/durable/bin/pip install --no-cache-dir --disable-pip-version-check \
    --no-deps --no-build-isolation /build

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app --create-home durable
COPY --from=build /opt/durable /opt/durable
ENV PATH=/opt/durable/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001
EXPOSE 8787 8788 9090
# SIGTERM drains; DURABLE_DRAIN_SECONDS says for how long.
STOPSIGNAL SIGTERM
ENTRYPOINT ["durable"]
CMD ["serve", "server.demo.app", "--host", "0.0.0.0"]
