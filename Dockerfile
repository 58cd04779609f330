FROM python:3.12-slim

RUN useradd --uid 10001 --create-home --home-dir /var/lib/audience-sync audience-sync

WORKDIR /opt/audience-sync
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY topics topics
COPY app app
# Without the extra `embedded`: in a container, Kafka is another container.
RUN pip install --no-cache-dir --constraint constraints.txt .

# Not the sources' folder: Python would import them from there instead of the installed packages.
WORKDIR /var/lib/audience-sync
USER audience-sync

# Reachable from other containers, so a worker does not start without AUDIENCE_SYNC_WEB_TOKEN_FILE.
ENV AUDIENCE_SYNC_WEB_HOST=0.0.0.0 \
    AUDIENCE_SYNC_WEB_PORT=6066 \
    PYTHONUNBUFFERED=1
EXPOSE 6066

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"AUDIENCE_SYNC_WEB_PORT\"]}/health', timeout=4)"]

ENTRYPOINT ["audience-sync"]
CMD ["worker"]
