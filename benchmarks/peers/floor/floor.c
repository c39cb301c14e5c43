/*
 * floor: a minimal C program that echoes WebSocket messages on epoll.
 *
 *     floor -addr 127.0.0.1:9001 [-buffer 262144]
 *
 * It has one thread, one edge-triggered epoll instance, and one buffer for all connections. One
 * recv reads the data; it is unmasked in place, new headers are written before the payloads, and
 * one send returns it. A partly received frame is returned in part, so data is buffered and copied
 * only if the peer does not accept it at once, or if a header is split between two reads. The
 * program checks only what it needs to find the frames: no other rule of RFC 6455, no UTF-8, no
 * limits, no timeouts. It is a lower bound for measurements, not a server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_HEADER = 14, MAX_REQUEST = 8192 };

/* The state of a connection. Connections are indexed by descriptor. */
struct conn {
	uint64_t left;     /* bytes of the frame's payload not yet received */
	uint32_t mask;     /* little-endian, rotated so that the next payload byte uses the lowest byte */
	uint8_t opened;    /* the handshake is complete */
	uint8_t closing;   /* the header of a close frame was received */
	uint8_t cut;       /* bytes in header: the part of an incomplete header that was received */
	uint8_t header[MAX_HEADER];
	uint32_t waiting;  /* bytes in hold */
	uint8_t *hold;     /* during the handshake: the request so far; afterwards: unsent data */
};

static struct conn *conns;
static uint8_t *buffer; /* preceded by space for an incomplete header */
static size_t buffer_size = 256 << 10;
static int poller;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* unmask_in_place unmasks n bytes at p. The compiler vectorizes the loop. */
static void unmask_in_place(uint8_t *p, size_t n, uint32_t mask)
{
	uint64_t wide = (uint64_t)mask << 32 | mask;
	size_t i = 0;
	for (; i + 8 <= n; i += 8) {
		uint64_t w;
		memcpy(&w, p + i, 8);
		w ^= wide;
		memcpy(p + i, &w, 8);
	}
	for (; i < n; i++)
		p[i] ^= (uint8_t)(mask >> 8 * (i & 3));
}

/* unmask_to unmasks n bytes and moves them down by 4 bytes or more, since the frames before them
 * have lost their masks. */
static void unmask_to(uint8_t *to, const uint8_t *from, size_t n, uint32_t mask)
{
	uint64_t wide = (uint64_t)mask << 32 | mask;
	size_t i = 0;
	for (; i + 8 <= n; i += 8) {
		uint64_t w;
		memcpy(&w, from + i, 8);
		w ^= wide;
		memcpy(to + i, &w, 8);
	}
	for (; i < n; i++)
		to[i] = from[i] ^ (uint8_t)(mask >> 8 * (i & 3));
}

/* payload unmasks n bytes of the current frame's payload, and returns the end of the result. */
static uint8_t *payload(struct conn *c, uint8_t *to, uint8_t *from, size_t n)
{
	if (to == from)
		unmask_in_place(from, n, c->mask);
	else
		unmask_to(to, from, n, c->mask);
	int bits = 8 * (n & 3);
	if (bits)
		c->mask = c->mask >> bits | c->mask << (32 - bits);
	c->left -= n;
	return to + n;
}

static void drop(int fd)
{
	free(conns[fd].hold);
	memset(&conns[fd], 0, sizeof conns[fd]);
	close(fd);
}

/* keep appends bytes to hold. */
static void keep(struct conn *c, const uint8_t *p, size_t n)
{
	c->hold = realloc(c->hold, c->waiting + n);
	if (!c->hold)
		die("realloc");
	memcpy(c->hold + c->waiting, p, n);
	c->waiting += n;
}

/* send_all sends as much as the socket accepts, and keeps the remaining bytes. It returns 0 if the
 * connection has ended. */
static int send_all(int fd, const uint8_t *p, size_t n)
{
	ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
	if (sent < 0) {
		if (errno != EAGAIN)
			return 0;
		sent = 0;
	}
	if ((size_t)sent < n)
		keep(&conns[fd], p + sent, n - sent);
	return 1;
}

/* flush sends the bytes in hold. It returns 0 if the connection has ended. */
static int flush(int fd)
{
	struct conn *c = &conns[fd];
	ssize_t sent = send(fd, c->hold, c->waiting, MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN;
	c->waiting -= sent;
	if (c->waiting) {
		memmove(c->hold, c->hold + sent, c->waiting);
		return 1;
	}
	free(c->hold);
	c->hold = NULL;
	return 1;
}

/* frames echoes the bytes from p to end. It returns 0 if the connection has ended. */
static int frames(int fd, uint8_t *p, uint8_t *end)
{
	struct conn *c = &conns[fd];
	uint8_t *from = NULL, *to = NULL; /* the replies */
	while (p < end) {
		if (!c->left) {
			if (c->closing)
				break; /* data after a close frame is ignored */
			size_t there = end - p, header = 6;
			uint64_t length = there > 1 ? p[1] & 127 : 0;
			if (length == 126)
				header = 8;
			else if (length == 127)
				header = 14;
			if (there < header) {
				memcpy(c->header, p, there);
				c->cut = there;
				break;
			}
			if (length == 126) {
				length = p[2] << 8 | p[3];
			} else if (length == 127) {
				memcpy(&length, p + 2, 8);
				length = be64toh(length);
			}
			memcpy(&c->mask, p + header - 4, 4);
			c->left = length;
			/* The new header has no mask, so it is 4 bytes shorter. The first one is written
			 * directly before its payload, the others directly after the frame before them. */
			uint8_t *h = to ? to : p + 4;
			if (!to)
				from = h;
			uint8_t first = p[0], opcode = first & 15;
			if (opcode == 9)
				first++; /* a ping becomes a pong */
			c->closing = opcode == 8;
			memmove(h + 1, p + 1, header - 5);
			h[0] = first;
			h[1] &= 127;
			to = h + header - 4;
			p += header;
		} else if (!to) {
			from = to = p; /* continues a frame of an earlier call */
		}
		size_t n = end - p < (ptrdiff_t)c->left ? (size_t)(end - p) : c->left;
		to = payload(c, to, p, n);
		p += n;
	}
	if (to > from && !send_all(fd, from, to - from))
		return 0;
	return !(c->closing && !c->left && !c->waiting);
}

static uint32_t rotate_left(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* sha1 computes the digest of the 60 bytes that a handshake hashes (RFC 3174). */
static void sha1(const uint8_t *text, uint8_t digest[20])
{
	uint8_t blocks[128] = {0};
	memcpy(blocks, text, 60);
	blocks[60] = 0x80;
	blocks[126] = 60 * 8 >> 8;
	blocks[127] = 60 * 8 & 255;
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	for (int b = 0; b < 2; b++) {
		uint32_t w[80], v[5];
		for (int i = 0; i < 16; i++) {
			uint32_t x;
			memcpy(&x, blocks + 64 * b + 4 * i, 4);
			w[i] = ntohl(x);
		}
		for (int i = 16; i < 80; i++)
			w[i] = rotate_left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
		memcpy(v, h, sizeof v);
		for (int i = 0; i < 80; i++) {
			uint32_t f = i < 20   ? ((v[1] & v[2]) | (~v[1] & v[3])) + 0x5a827999
				     : i < 40 ? (v[1] ^ v[2] ^ v[3]) + 0x6ed9eba1
				     : i < 60 ? ((v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])) + 0x8f1bbcdc
					      : (v[1] ^ v[2] ^ v[3]) + 0xca62c1d6;
			uint32_t t = rotate_left(v[0], 5) + f + v[4] + w[i];
			v[4] = v[3];
			v[3] = v[2];
			v[2] = rotate_left(v[1], 30);
			v[1] = v[0];
			v[0] = t;
		}
		for (int i = 0; i < 5; i++)
			h[i] += v[i];
	}
	for (int i = 0; i < 5; i++) {
		uint32_t x = htonl(h[i]);
		memcpy(digest + 4 * i, &x, 4);
	}
}

static void base64(const uint8_t digest[20], char text[28])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t padded[21] = {0};
	memcpy(padded, digest, 20);
	for (int i = 0; i < 7; i++) {
		uint32_t x = padded[3 * i] << 16 | padded[3 * i + 1] << 8 | padded[3 * i + 2];
		for (int k = 0; k < 4; k++)
			text[4 * i + k] = digits[x >> (18 - 6 * k) & 63];
	}
	text[27] = '=';
}

/* handshake collects the request, and answers it when it is complete. It returns 0 if the
 * connection has ended. */
static int handshake(int fd, const uint8_t *p, size_t n)
{
	static const char name[] = "\r\nSec-WebSocket-Key:";
	struct conn *c = &conns[fd];
	keep(c, p, n);
	uint8_t *blank = memmem(c->hold, c->waiting, "\r\n\r\n", 4);
	if (!blank)
		return c->waiting < MAX_REQUEST;
	uint8_t text[60], digest[20], *key = NULL;
	for (uint8_t *at = c->hold; at + sizeof name - 1 + 24 <= blank; at++)
		if (!strncasecmp((char *)at, name, sizeof name - 1))
			key = at + sizeof name - 1;
	if (!key)
		return 0;
	while (*key == ' ')
		key++;
	if (blank - key < 24)
		return 0;
	memcpy(text, key, 24);
	memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
	char accept[28], answer[200];
	sha1(text, digest);
	base64(digest, accept);
	size_t rest = c->hold + c->waiting - (blank + 4);
	int length = snprintf(answer, sizeof answer,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %.28s\r\n\r\n", accept);
	/* Bytes after the request are frames. All of them are in the data received last. */
	free(c->hold);
	c->hold = NULL;
	c->waiting = 0;
	c->opened = 1;
	if (!send_all(fd, (uint8_t *)answer, length))
		return 0;
	return !rest || frames(fd, (uint8_t *)p + n - rest, (uint8_t *)p + n);
}

/* handle_event handles an event of a connection. It returns 0 if the connection has ended. */
static int handle_event(int fd, uint32_t events)
{
	struct conn *c = &conns[fd];
	if (events == EPOLLOUT && !c->waiting)
		return 1; /* the first event of an accepted connection */
	if (c->opened && c->waiting) {
		if (!(events & EPOLLOUT))
			return !(events & EPOLLERR);
		if (!flush(fd))
			return 0;
		if (!c->waiting && c->closing && !c->left)
			return 0;
		events |= EPOLLRDHUP; /* read everything that has arrived meanwhile: there is no further event for it */
	}
	/* While replies are unsent, nothing is read from the peer. */
	while (!(c->opened && c->waiting)) {
		ssize_t n = recv(fd, buffer, buffer_size, 0);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		uint8_t *p = buffer;
		if (c->cut) {
			p -= c->cut;
			memcpy(p, c->header, c->cut);
			c->cut = 0;
		}
		if (!(c->opened ? frames(fd, p, buffer + n) : handshake(fd, p, n)))
			return 0;
		/* A short read has emptied the socket. If the peer has closed, read on to the end. */
		if ((size_t)n < buffer_size && !(events & EPOLLRDHUP))
			return 1;
	}
	return 1;
}

static void accept_all(int listener)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
		if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e))
			die("epoll_ctl");
	}
}

static int listen_on(char *addr)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	char *colon = strrchr(addr, ':');
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (fd < 0)
		die("socket");
	if (!colon || (*colon = 0, inet_pton(AF_INET, addr, &a.sin_addr) != 1)) {
		fprintf(stderr, "floor: -addr %s: not of the form IPv4-address:port\n", addr);
		exit(2);
	}
	a.sin_port = htons(atoi(colon + 1));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited by accepted sockets */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096))
		die(addr);
	return fd;
}

int main(int argc, char **argv)
{
	char *addr = NULL;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "-addr"))
			addr = argv[i + 1];
		else if (!strcmp(argv[i], "-buffer"))
			buffer_size = strtoul(argv[i + 1], NULL, 10);
		else
			addr = NULL, argc = 0;
	}
	if (!addr || argc % 2 == 0 || buffer_size < 1024) {
		fprintf(stderr, "usage: floor -addr host:port [-buffer bytes]\n");
		return 2;
	}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	conns = calloc(limit.rlim_cur, sizeof *conns);
	buffer = malloc(buffer_size + 64);
	if (!conns || !buffer)
		die("memory");
	buffer += 64;
	poller = epoll_create1(0);
	int listener = listen_on(addr);
	struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, events[256];
	if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e))
		die("epoll_ctl");
	for (;;) {
		int n = epoll_wait(poller, events, 256, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener)
				accept_all(listener);
			else if (!handle_event(fd, events[i].events))
				drop(fd);
		}
	}
}
