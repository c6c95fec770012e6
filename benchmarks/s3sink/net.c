#define _GNU_SOURCE
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *context;
#endif

enum { BUFFER = 64 << 10, NOWHERE = 256 << 10 };

static double rate, busy_until;
static pthread_mutex_t rate_lock = PTHREAD_MUTEX_INITIALIZER;

void net_limit(double bytes_per_second) { rate = bytes_per_second; }

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void net_spend(size_t size) {
    if (rate <= 0) return;
    double now = seconds();
    pthread_mutex_lock(&rate_lock);
    if (busy_until < now) busy_until = now;
    busy_until += (double)size / rate;
    double left = busy_until - now;
    pthread_mutex_unlock(&rate_lock);
    if (left < 0.002) return; /* sleeping costs more than it is exact */
    struct timespec pause = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    nanosleep(&pause, NULL);
}

void net_use_tls(const char *certificate, const char *key) {
#ifdef WITH_TLS
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, NOWHERE);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* Clients differ in what they like best, so the server chooses, and all encrypt alike. It
     * takes AES-128-GCM, which is what S3 takes in the examples of its own access log
     * (docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html). */
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    if (SSL_CTX_use_certificate_chain_file(context, certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1)
        return;
    ERR_print_errors_fp(stderr);
    fprintf(stderr, "s3sink: cannot use %s with %s\n", certificate, key);
#else
    fprintf(stderr, "s3sink: built without TLS (no OpenSSL headers): %s %s\n", certificate, key);
#endif
    exit(1);
}

#ifdef WITH_TLS
static void *tls_accept(int fd) {
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, fd);
    if (SSL_accept(tls) == 1) return tls;
    SSL_free(tls);
    return NULL;
}
#endif

bool channel_open(Channel *channel, int fd) {
    int one = 1;
    /* At most a hundredth of a second of the link. */
    int small = rate > 0 && rate < 25.6e6 ? (int)(rate / 100) : 256 << 10;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Megabytes that wait in a buffer have not gone over a slow link yet. */
    if (rate > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    *channel = (Channel){.fd = fd, .buffer = malloc(BUFFER)};
#ifdef WITH_TLS
    if (context && !(channel->tls = tls_accept(fd))) {
        channel_close(channel);
        return false;
    }
#endif
    return true;
}

void channel_close(Channel *channel) {
#ifdef WITH_TLS
    if (channel->tls) SSL_free(channel->tls);
#endif
    close(channel->fd);
    free(channel->buffer);
}

static ssize_t receive(Channel *channel, void *to, size_t size, int flags) {
#ifdef WITH_TLS
    if (channel->tls) {
        size_t got = 0;
        return SSL_read_ex(channel->tls, to, size, &got) == 1 ? (ssize_t)got : -1;
    }
#endif
    ssize_t got;
    do got = recv(channel->fd, to, size, flags);
    while (got < 0 && errno == EINTR);
    return got;
}

bool channel_fill(Channel *channel) {
    if (channel->start) {
        memmove(channel->buffer, channel->buffer + channel->start, channel->end - channel->start);
        channel->end -= channel->start;
        channel->start = 0;
    }
    if (channel->end == BUFFER) return false;
    ssize_t got = receive(channel, channel->buffer + channel->end, BUFFER - channel->end, 0);
    if (got > 0) channel->end += (size_t)got;
    return got > 0;
}

/* Without TLS the kernel throws the bytes away and copies nothing. */
static ssize_t discard(Channel *channel, size_t size) {
    static __thread char nowhere[NOWHERE];
    if (channel->tls) return receive(channel, nowhere, size < NOWHERE ? size : NOWHERE, 0);
    return receive(channel, NULL, size, MSG_TRUNC);
}

ssize_t channel_read(Channel *channel, void *to, size_t size) {
    size_t there = channel->end - channel->start;
    if (!there && to && size < 4096 && channel_fill(channel)) there = channel->end;
    if (!there) return to ? receive(channel, to, size, 0) : discard(channel, size);
    if (size > there) size = there;
    if (to) memcpy(to, channel->buffer + channel->start, size);
    channel->start += size;
    return (ssize_t)size;
}

bool channel_write(Channel *channel, const void *data, size_t size, bool more) {
    const char *at = data;
    while (size) {
        ssize_t sent;
#ifdef WITH_TLS
        size_t done = 0;
        if (channel->tls)
            sent = SSL_write_ex(channel->tls, at, size, &done) == 1 ? (ssize_t)done : -1;
        else
#endif
            sent = send(channel->fd, at, size, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        if (sent < 0 && !channel->tls && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_piece(Channel *channel, const char *data, int file, off_t offset, size_t size) {
    if (file < 0 || channel->tls) return channel_write(channel, data + offset, size, false);
    while (size) {
        ssize_t sent = sendfile(channel->fd, file, &offset, size);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        size -= (size_t)sent;
    }
    return true;
}

bool channel_send(Channel *channel, const char *data, int file, off_t offset, size_t size) {
    while (size) {
        size_t piece = size < NOWHERE ? size : NOWHERE;
        net_spend(piece);
        if (!send_piece(channel, data, file, offset, piece)) return false;
        offset += (off_t)piece;
        size -= piece;
    }
    return true;
}
