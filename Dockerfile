# Builds an image of about 18 MB that contains only the server. Environment variables configure it:
#
#	docker build -t wsecho --build-arg COMMIT="$(git rev-parse HEAD)" .
#	docker run --rm -p 8080:8080 --ulimit nofile=1048576 -e WSECHO_MAX_MESSAGE=1MiB wsecho
#
# e2e/image tests the image.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG COMMIT
RUN CGO_ENABLED=0 make build COMMIT="$COMMIT"

FROM scratch
COPY --from=build /src/bin/wsecho /wsecho
# An arbitrary unprivileged user, by number, because the image has no /etc/passwd.
USER 65532:65532
EXPOSE 8080
# SIGTERM drains. docker stop allows 10 s in total; 7 s for peers that do not answer leave enough time for requests to
# the admin endpoints and for the log afterwards. Raise both together: docker stop -t 20.
STOPSIGNAL SIGTERM
ENV WSECHO_DRAIN_TIMEOUT=7s
# The check requests /healthz at WSECHO_ADMIN, and times out after 3 s. It fails with WSECHO_ADMIN=none: use
# docker run --no-healthcheck then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/wsecho", "-healthcheck"]
ENTRYPOINT ["/wsecho"]
