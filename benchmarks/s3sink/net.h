/* A connection, plain or with TLS, and the rate that all of them share. */
#ifndef NET_H
#define NET_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    int fd;
    void *tls; /* SSL *, or NULL */
    char *buffer;
    size_t start, end; /* what was received and not yet read */
} Channel;

/* Bytes per second over all bodies in both directions; 0: as fast as it goes. */
void net_limit(double bytes_per_second);
/* Waits for as long as `size` bytes need at that rate. */
void net_spend(size_t size);
/* From now on connections speak TLS. Exits with a message when that cannot be. */
void net_use_tls(const char *certificate, const char *key);

/* False: this is no connection that anybody can talk on. */
bool channel_open(Channel *channel, int fd);
void channel_close(Channel *channel);
/* Receives more into the buffer. False at the end, or when the buffer is full. */
bool channel_fill(Channel *channel);
/* Up to `size` bytes, into nowhere where `to` is NULL; 0 or less at the end. */
ssize_t channel_read(Channel *channel, void *to, size_t size);
/* `more`: something follows at once. */
bool channel_write(Channel *channel, const void *data, size_t size, bool more);
/* Bytes of a mapped file, which need not be copied without TLS; -1: memory only. */
bool channel_send(Channel *channel, const char *data, int file, off_t offset, size_t size);
#endif
