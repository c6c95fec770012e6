/* One request of a connection: its head, its body in whatever wrapping, and the answer. */
#ifndef HTTP_H
#define HTTP_H
#include "net.h"
#include "text.h"

/* A body cut in chunks, as HTTP does it and once more as aws-chunked does it inside. */
typedef struct {
    size_t left;
    bool done, on;
} Chunks;

typedef struct {
    Channel *channel;
    char *head; /* the lines, each ending with CRLF */
    char method[16];
    char *path;  /* decoded */
    char *query; /* as it came, "" without one */
    size_t left; /* bytes of the body that are still to come, where that is known */
    long size;   /* of the body without its wrapping; -1: only its end will tell */
    Chunks http, aws;
    bool close, expects, has_crc;
    uint64_t crc; /* the checksum that the client named, in a header or in a trailer */
} Request;

/* The next request, or false when there is none (the connection then is of no use). */
bool request_read(Request *request, Channel *channel);
void request_free(Request *request);
/* The value of a header, to be freed, or NULL. */
char *request_header(const Request *request, const char *name);
/* Like channel_read, but of the body's own bytes; 0: that was all; less: it broke off. */
ssize_t body_read(Request *request, void *to, size_t size);
/* Whatever of the body nobody has read. */
bool body_skip(Request *request);

/* Answers with a head only, `extra` being further header lines; `size` is Content-Length. */
bool answer_head(Request *request, int status, const char *extra, size_t size, bool more);
/* Answers with XML (which may be NULL: an empty body). */
bool answer(Request *request, int status, const char *extra, const Text *xml);
bool answer_error(Request *request, int status, const char *code, const char *message);
#endif
