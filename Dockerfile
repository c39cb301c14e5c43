# An image of nothing but the server, some 18 MB, configured by environment variables alone:
#
#	docker build -t wsecho --build-arg VERSION="$(git describe --tags --always --dirty)" .
#	docker run --rm -p 8080:8080 --ulimit nofile=1048576 -e WSECHO_MAX_MESSAGE=1MiB wsecho
#
# e2e/image has its test.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
RUN CGO_ENABLED=0 make build VERSION="$VERSION" COMMIT="$COMMIT"

FROM scratch
COPY --from=build /src/bin/wsecho /wsecho
# By number, for there is no /etc/passwd; nobody in particular.
USER 65532:65532
EXPOSE 8080
# SIGTERM drains. docker stop allows 10 s in all: 7 s for silent peers leave enough time for requests to
# the admin endpoints and for the log, which come after. Raise both together: docker stop -t 20.
STOPSIGNAL SIGTERM
ENV WSECHO_DRAIN_TIMEOUT=7s
# The check asks for /healthz at WSECHO_ADMIN, and gives up by itself after 3 s. With WSECHO_ADMIN=none
# there is nothing to ask: docker run --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/wsecho", "-healthcheck"]
ENTRYPOINT ["/wsecho"]
