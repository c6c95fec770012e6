#define _GNU_SOURCE
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char CRC_HEADER[] = "x-amz-checksum-crc64nvme";

static const char *reason(int status) {
    switch (status) {
        case 200: return "OK";
        case 204: return "No Content";
        case 206: return "Partial Content";
        case 304: return "Not Modified";
        case 404: return "Not Found";
        case 412: return "Precondition Failed";
        case 416: return "Range Not Satisfiable";
        case 501: return "Not Implemented";
        default: return "Bad Request";
    }
}

char *request_header(const Request *request, const char *name) {
    size_t size = strlen(name);
    for (const char *line = strstr(request->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, size) || line[size] != ':') continue;
        line += size + 1;
        line += strspn(line, " \t");
        return strndup(line, strcspn(line, "\r"));
    }
    return NULL;
}

static bool header_is(const Request *request, const char *name, const char *part) {
    char *value = request_header(request, name);
    bool found = value && strcasestr(value, part);
    free(value);
    return found;
}

static long header_number(const Request *request, const char *name) {
    char *value = request_header(request, name);
    long number = value ? atol(value) : -1;
    free(value);
    return number;
}

static char *take_head(Channel *channel) {
    size_t looked = 0;
    for (;;) {
        const char *from = channel->buffer + channel->start;
        size_t there = channel->end - channel->start;
        const char *end = there > looked ? memmem(from, there, "\r\n\r\n", 4) : NULL;
        if (end) {
            size_t size = (size_t)(end - from) + 4;
            channel->start += size;
            return strndup(from, size - 2);
        }
        looked = there;
        if (!channel_fill(channel)) return NULL;
    }
}

static bool parse_target(Request *request) {
    const char *target = strchr(request->head, ' ');
    if (!target || (size_t)(target - request->head) >= sizeof request->method) return false;
    memcpy(request->method, request->head, (size_t)(target - request->head));
    request->path = strndup(target + 1, strcspn(target + 1, " \r"));
    char *query = strchr(request->path, '?');
    request->query = strdup(query ? query + 1 : "");
    if (query) *query = 0;
    url_decode(request->path, false);
    return request->path[0] == '/';
}

static void parse_body(Request *request) {
    long length = header_number(request, "Content-Length");
    request->left = length > 0 ? (size_t)length : 0;
    request->size = length > 0 ? length : 0;
    request->http.on = header_is(request, "Transfer-Encoding", "chunked");
    request->aws.on = header_is(request, "Content-Encoding", "aws-chunked");
    if (request->http.on) {
        request->left = SIZE_MAX;
        request->size = -1;
    }
    if (request->http.on || request->aws.on)
        request->size = header_number(request, "x-amz-decoded-content-length");
    request->expects = header_is(request, "Expect", "100-continue");
    char *crc = request_header(request, CRC_HEADER);
    request->has_crc = crc && crc_from_text(crc, &request->crc);
    free(crc);
}

bool request_read(Request *request, Channel *channel) {
    *request = (Request){.channel = channel};
    request->head = take_head(channel);
    if (!request->head || !parse_target(request)) {
        request_free(request);
        return false;
    }
    request->close = header_is(request, "Connection", "close");
    parse_body(request);
    return true;
}

void request_free(Request *request) {
    free(request->head);
    free(request->path);
    free(request->query);
}

enum { WIRE, HTTP_CHUNKS, AWS_CHUNKS };
static ssize_t layer_read(Request *request, int layer, void *to, size_t size);

static bool line_read(Request *request, int layer, char *line, size_t room) {
    size_t size = 0;
    while (size + 1 < room && layer_read(request, layer, line + size, 1) == 1)
        if (line[size++] == '\n') {
            line[strcspn(line, "\r\n")] = 0;
            return true;
        } else {
            line[size] = 0;
        }
    return false;
}

static void note_trailer(Request *request, const char *line) {
    size_t size = sizeof CRC_HEADER - 1;
    if (strncasecmp(line, CRC_HEADER, size) || line[size] != ':') return;
    line += size + 1;
    request->has_crc = crc_from_text(line + strspn(line, " "), &request->crc);
}

static ssize_t end_chunks(Request *request, int layer, Chunks *chunks) {
    char line[1024];
    while (line_read(request, layer, line, sizeof line) && *line) note_trailer(request, line);
    chunks->done = true;
    return 0;
}

static ssize_t chunk_read(Request *request, int layer, Chunks *chunks, void *to, size_t size) {
    char line[1024];
    if (chunks->done) return 0;
    if (!chunks->left) {
        if (!line_read(request, layer - 1, line, sizeof line)) return -1;
        chunks->left = strtoul(line, NULL, 16);
        if (!chunks->left) return end_chunks(request, layer - 1, chunks);
    }
    ssize_t got = layer_read(request, layer - 1, to, size < chunks->left ? size : chunks->left);
    if (got <= 0) return -1;
    chunks->left -= (size_t)got;
    if (!chunks->left && !line_read(request, layer - 1, line, sizeof line)) return -1;
    return got;
}

static ssize_t layer_read(Request *request, int layer, void *to, size_t size) {
    if (layer == AWS_CHUNKS && request->aws.on)
        return chunk_read(request, layer, &request->aws, to, size);
    if (layer >= HTTP_CHUNKS && request->http.on)
        return chunk_read(request, HTTP_CHUNKS, &request->http, to, size);
    if (size > request->left) size = request->left;
    if (!size) return 0;
    ssize_t got = channel_read(request->channel, to, size);
    if (got <= 0) return -1;
    request->left -= (size_t)got;
    return got;
}

ssize_t body_read(Request *request, void *to, size_t size) {
    Channel *channel = request->channel;
    if (request->expects && channel->start == channel->end &&
        !channel_write(channel, "HTTP/1.1 100 Continue\r\n\r\n", 25, false))
        return -1;
    request->expects = false;
    ssize_t got = layer_read(request, AWS_CHUNKS, to, size);
    if (got > 0) net_spend((size_t)got);
    return got;
}

bool body_skip(Request *request) {
    ssize_t got;
    do got = body_read(request, NULL, 1 << 20);
    while (got > 0);
    /* What the inner wrapping has left of the outer one. */
    if (request->http.on)
        while (got == 0 && !request->http.done) got = layer_read(request, HTTP_CHUNKS, NULL, 4096);
    else
        while (got == 0 && request->left) got = layer_read(request, WIRE, NULL, 4096) < 0 ? -1 : 0;
    return got >= 0;
}

bool answer_head(Request *request, int status, const char *extra, size_t size, bool more) {
    char date[64];
    time_t now = time(NULL);
    struct tm parts;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts));
    Text head = {0};
    text_add(&head, "HTTP/1.1 %d %s\r\nServer: s3sink\r\nDate: %s\r\n", status, reason(status), date);
    text_add(&head, "x-amz-request-id: 1\r\n%s", extra ? extra : "");
    if (status != 204) text_add(&head, "Content-Length: %zu\r\n", size);
    text_add(&head, request->close ? "Connection: close\r\n\r\n" : "\r\n");
    bool sent = channel_write(request->channel, head.data, head.size, more);
    text_free(&head);
    return sent;
}

bool answer(Request *request, int status, const char *extra, const Text *xml) {
    size_t size = xml ? xml->size : 0;
    bool body = size && strcmp(request->method, "HEAD") != 0;
    Text lines = {0};
    text_add(&lines, "%s%s", extra ? extra : "", size ? "Content-Type: application/xml\r\n" : "");
    bool sent = answer_head(request, status, lines.data, size, body);
    text_free(&lines);
    return sent && (!body || channel_write(request->channel, xml->data, size, false));
}

bool answer_error(Request *request, int status, const char *code, const char *message) {
    Text xml = {0};
    text_add(&xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code>", code);
    text_add(&xml, "<Message>");
    text_add_xml(&xml, message);
    text_add(&xml, "</Message><Resource>");
    text_add_xml(&xml, request->path);
    text_add(&xml, "</Resource><RequestId>1</RequestId></Error>");
    bool sent = answer(request, status, NULL, &xml);
    text_free(&xml);
    return sent;
}
