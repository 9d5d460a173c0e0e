# The server in a container: unprivileged user, high ports, read-only root, data in a volume.
#
#   docker build -t mailserver .
#   docker run -d --name mail --read-only --tmpfs /tmp --cap-drop ALL -v maildata:/data \
#       -v /etc/letsencrypt/live/mail.example.org:/tls:ro -p 143:10143 -p 993:10993 mailserver
#
# docs/operations.md tells how to make accounts and where certificates go.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /opt/mailserver \
 && /opt/mailserver/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r requirements.txt
COPY . .
# Nothing but the hashed files above is fetched: no index, no isolated build environment.
# The plug-in cache is written now, because the server itself may not write there.
RUN /opt/mailserver/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation . \
 && /opt/mailserver/bin/pip uninstall --yes setuptools pip \
 && /opt/mailserver/bin/twistd --help >/dev/null

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10143 --home-dir /data --shell /usr/sbin/nologin mailserver \
 && install -d -m 0700 -o mailserver -g mailserver /data
COPY --from=build /opt/mailserver /opt/mailserver
COPY deploy/container.toml /etc/mailserver/mailserver.toml
ENV PATH=/opt/mailserver/bin:$PATH \
    MAILSERVER_CONFIG=/etc/mailserver/mailserver.toml \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER mailserver
WORKDIR /data
VOLUME /data
EXPOSE 10143 10993 10110 10995 10024
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
    CMD ["python", "-c", "import imaplib; imaplib.IMAP4('127.0.0.1', 10143, timeout=8).logout()"]
CMD ["twistd", "--nodaemon", "--pidfile=", "--umask=0077", \
     "mailserver", "--config", "/etc/mailserver/mailserver.toml"]
