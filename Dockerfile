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
# On which it drains. Give it more than -drain-timeout to do so: docker stop -t 20.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/wsecho"]
