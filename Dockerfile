# syntax=docker/dockerfile:1
# docker build -t ringback:0.1.0 .

FROM python:3.11-slim-bookworm AS build
# With a pip of its own the environment would carry it into the image.
RUN python -m venv --without-pip /opt/ringback
WORKDIR /src
# What others have made is what the lock files say, byte for byte; `make lock` renews them. greenswitch
# has no wheel.
COPY requirements.lock deploy/docker/build.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement build.lock \
    && pip wheel --no-cache-dir --require-hashes --no-build-isolation --wheel-dir /wheels \
        --only-binary :all: --no-binary greenswitch --requirement requirements.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY client client
COPY app app
COPY workers workers
COPY freeswitch freeswitch
COPY ringback_cli ringback_cli
RUN pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir /wheels ./client . \
    && pip --python /opt/ringback/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && pip --python /opt/ringback/bin/python check

FROM python:3.11-slim-bookworm
# A fixed number: Kubernetes checks it, and owners of mounted files are told by it.
RUN groupadd --gid 10001 ringback \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ringback
COPY --from=build /opt/ringback /opt/ringback
COPY --chmod=755 deploy/docker/ringback-health /usr/local/bin/ringback-health
ENV PATH=/opt/ringback/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RINGBACK_HTTP=0.0.0.0:8080
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 9100
# It wants RINGBACK_METRICS; of the API it takes RINGBACK_HTTP without.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["ringback-health"]
ENTRYPOINT ["ringback"]
CMD ["--help"]
