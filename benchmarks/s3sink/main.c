/* s3sink: answers like S3, faster than any client, to measure clients by.
 *
 *   s3sink [--port N] [--keep] [--verify] [--small BYTES] [--rate BYTES/S] [--tls CERT KEY]
 *          [--until-eof]
 *
 * Listens on 127.0.0.1 and prints the port. Bodies larger than --small (1 MiB) are thrown away,
 * and the checksum (CRC64NVME) that the client named is believed; --keep keeps them in memory,
 * --verify computes the checksum and refuses wrong ones. --rate limits all bodies together.
 * --until-eof ends the server when its standard input does. One thread for each connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc64.h"
#include "s3.h"

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *serve(void *fd) {
    Channel channel;
    if (!channel_open(&channel, (int)(intptr_t)fd)) return NULL;
    Request request;
    bool usable = true;
    while (usable && request_read(&request, &channel)) {
        usable = s3_answer(&request) && !request.close;
        request_free(&request);
    }
    channel_close(&channel);
    return NULL;
}

static void *wait_for_eof(void *unused) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) continue;
    exit(unused != NULL);
}

static void start(void *(*what)(void *), void *with) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, what, with)) fail("s3sink: thread");
    pthread_attr_destroy(&attributes);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&address, &size))
        fail("s3sink: listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int parse(int count, char **words, bool *until_eof) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'},  {"keep", 0, 0, 'k'}, {"verify", 0, 0, 'v'},   {"small", 1, 0, 's'},
        {"rate", 1, 0, 'r'}, {"tls", 1, 0, 't'},  {"until-eof", 0, 0, 'e'}, {0}};
    int port = 0, option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) switch (option) {
            case 'p': port = atoi(optarg); break;
            case 'k': settings.keep = true; break;
            case 'v': settings.verify = true; break;
            case 's': settings.small = strtoull(optarg, NULL, 10); break;
            case 'r': net_limit(atof(optarg)); break;
            case 't':
                if (optind >= count) exit(64);
                net_use_tls(optarg, words[optind++]);
                break;
            case 'e': *until_eof = true; break;
            default: exit(64);
        }
    return port;
}

int main(int count, char **words) {
    bool until_eof = false;
    signal(SIGPIPE, SIG_IGN);
    crc64_prepare();
    int listener = listen_on(parse(count, words, &until_eof));
    if (until_eof) start(wait_for_eof, NULL);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) start(serve, (void *)(intptr_t)fd);
    }
}
