#define _GNU_SOURCE
#include "s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc64.h"

Settings settings = {.small = 1 << 20};

enum { PIECE = 256 << 10, LARGEST_TEXT = 16 << 20 };

/* ------------------------------------------------------------------ bodies */

/* A body whose size nobody said: kept as long as it is small. */
static Blob *receive_unmeasured(Request *request, uint64_t *crc) {
    size_t size = 0, room = PIECE;
    char *data = malloc(room), *grown;
    bool nowhere = false;
    for (;;) {
        ssize_t got = body_read(request, data + (nowhere ? 0 : size), nowhere ? room : room - size);
        if (got < 0) break;
        if (got == 0) {
            Blob *blob = blob_new(size, false, true);
            if (nowhere) free(data);
            else blob->segments[0].data = data;
            return blob;
        }
        *crc = crc64_of(*crc, data + (nowhere ? 0 : size), (size_t)got);
        size += (size_t)got;
        nowhere = nowhere || (size > settings.small && !settings.keep);
        if (nowhere || size < room) continue;
        if (!(grown = realloc(data, room *= 2))) break;
        data = grown;
    }
    free(data);
    return NULL;
}

static Blob *receive_measured(Request *request, uint64_t *crc, bool *computed) {
    size_t size = (size_t)request->size, done = 0;
    bool small = size <= settings.small;
    Blob *blob = blob_new(size, !small, !small && !settings.keep);
    char *data = blob->segments[0].data;
    char *scratch = !data && settings.verify ? malloc(PIECE) : NULL;
    *computed = small || settings.verify;
    while (done < size) {
        char *to = data ? data + done : scratch;
        size_t piece = *computed && size - done > PIECE ? PIECE : size - done;
        ssize_t got = body_read(request, to, piece);
        if (got <= 0) break;
        if (*computed) *crc = crc64_of(*crc, to, (size_t)got);
        done += (size_t)got;
    }
    free(scratch);
    if (done == size) return blob;
    blob_drop(blob);
    return NULL;
}

Blob *s3_receive(Request *request, bool *usable) {
    uint64_t crc = 0;
    bool computed = true;
    Blob *blob = request->size < 0 ? receive_unmeasured(request, &crc)
                                   : receive_measured(request, &crc, &computed);
    *usable = blob && body_skip(request); /* a trailer names the checksum last */
    if (*usable && computed && request->has_crc && request->crc != crc) {
        *usable = answer_error(request, 400, "BadDigest",
                               "The CRC64NVME you specified did not match what we received.");
        blob_drop(blob);
        return NULL;
    }
    if (!*usable) {
        blob_drop(blob);
        return NULL;
    }
    blob->has_crc = computed || request->has_crc;
    blob->crc = computed ? crc : request->crc;
    return blob;
}

char *s3_receive_text(Request *request, size_t *size) {
    size_t room = request->size >= 0 ? (size_t)request->size + 1 : PIECE;
    char *text = malloc(room), *grown;
    ssize_t got = 1;
    for (*size = 0; got > 0; *size += (size_t)got) {
        if (*size + 1 >= room && *size < LARGEST_TEXT && (grown = realloc(text, 2 * room + 1))) {
            text = grown;
            room = 2 * room + 1;
        }
        got = body_read(request, text + *size, room - 1 - *size);
        if (got < 0 || (got == 0 && !body_skip(request))) {
            free(text);
            return NULL;
        }
    }
    text[*size] = 0;
    return text;
}

/* ------------------------------------------------------------------ conditions */

Condition s3_condition(const Request *request, char **etag) {
    char *none = request_header(request, "If-None-Match");
    *etag = request_header(request, "If-Match");
    Condition condition = {.must_be_new = none && !strcmp(none, "*"), .must_match = *etag};
    free(none);
    return condition;
}

bool s3_refuse(Request *request, Stored verdict) {
    if (verdict == MISSING)
        return answer_error(request, 404, "NoSuchKey", "The specified key does not exist.");
    return answer_error(request, 412, "PreconditionFailed",
                        "At least one of the pre-conditions you specified did not hold");
}

/* ------------------------------------------------------------------ objects */

void s3_describe(Text *lines, const Blob *blob, bool checksum) {
    char etag[ETAG], crc[CRC_TEXT];
    blob_etag(blob, etag);
    text_add(lines, "ETag: %s\r\n", etag);
    if (!checksum || !blob->has_crc) return;
    crc_to_text(blob->crc, crc);
    text_add(lines, "x-amz-checksum-crc64nvme: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", crc);
}

void s3_add_time(Text *xml, const char *tag, time_t when) {
    char text[64];
    struct tm parts;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", gmtime_r(&when, &parts));
    text_add(xml, "<%s>%s</%s>", tag, text, tag);
}

static bool put_object(Request *request) {
    bool usable;
    Blob *blob = s3_receive(request, &usable);
    if (!blob) return usable;
    char *etag;
    Condition condition = s3_condition(request, &etag);
    Text lines = {0};
    s3_describe(&lines, blob, true);
    Stored verdict = store_put(request->path, blob, condition);
    if (verdict != STORED) blob_drop(blob);
    usable = verdict == STORED ? answer(request, 200, lines.data, NULL)
                               : s3_refuse(request, verdict);
    text_free(&lines);
    free(etag);
    return usable;
}

/* False: no byte of the object is in the range. */
static bool parse_range(const char *range, size_t size, size_t *first, size_t *last) {
    long from = -1, to = -1;
    if (sscanf(range, "bytes=-%ld", &to) == 1 && to >= 0) {
        *first = (size_t)to < size ? size - (size_t)to : 0;
        *last = size - 1;
        return to > 0 && size > 0;
    }
    if (sscanf(range, "bytes=%ld-%ld", &from, &to) < 1 || from < 0) return false;
    *first = (size_t)from;
    *last = to >= 0 && (size_t)to < size ? (size_t)to : size - 1;
    return *first < size && *first <= *last;
}

static bool send_bytes(Request *request, const Blob *blob, size_t first, size_t size) {
    for (int i = 0; i < blob->count && size; i++) {
        const Segment *segment = blob->segments + i;
        if (first >= segment->size) {
            first -= segment->size;
            continue;
        }
        size_t piece = segment->size - first < size ? segment->size - first : size;
        if (!channel_send(request->channel, segment->data, segment->file, (off_t)first, piece))
            return false;
        size -= piece;
        first = 0;
    }
    return true;
}

static bool all_kept(const Blob *blob) {
    for (int i = 0; i < blob->count; i++)
        if (blob->segments[i].size && !blob->segments[i].data) return false;
    return true;
}

static bool get_blob(Request *request, const Blob *blob) {
    bool head = !strcmp(request->method, "HEAD"), part = false;
    size_t first = 0, size = blob->size, last;
    char *range = request_header(request, "Range");
    if (range) {
        bool satisfiable = parse_range(range, blob->size, &first, &last);
        free(range);
        if (!satisfiable)
            return answer_error(request, 416, "InvalidRange", "The requested range is not there");
        size = last - first + 1;
        part = true;
    }
    if (!head && !all_kept(blob))
        return answer_error(request, 501, "NotImplemented", "s3sink threw this body away: --keep");
    char *mode = request_header(request, "x-amz-checksum-mode");
    Text lines = {0};
    s3_describe(&lines, blob, mode && !part);
    free(mode);
    char date[64];
    struct tm parts;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&blob->made, &parts));
    text_add(&lines, "Last-Modified: %s\r\nAccept-Ranges: bytes\r\n", date);
    text_add(&lines, "Content-Type: application/octet-stream\r\n");
    if (part)
        text_add(&lines, "Content-Range: bytes %zu-%zu/%zu\r\n", first, first + size - 1, blob->size);
    bool sent = answer_head(request, part ? 206 : 200, lines.data, size, !head && size) &&
                (head || send_bytes(request, blob, first, size));
    text_free(&lines);
    return sent;
}

static bool get_object(Request *request) {
    Blob *blob = store_get(request->path);
    if (!blob)
        return answer_error(request, 404, "NoSuchKey", "The specified key does not exist.");
    char *wanted = request_header(request, "If-Match"), etag[ETAG];
    blob_etag(blob, etag);
    bool usable = wanted && strcmp(wanted, etag) ? s3_refuse(request, DIFFERS)
                                                 : get_blob(request, blob);
    free(wanted);
    blob_drop(blob);
    return usable;
}

/* ------------------------------------------------------------------ deleting */

static bool delete_object(Request *request) {
    store_delete(request->path);
    return answer(request, 204, NULL, NULL);
}

static bool delete_objects(Request *request, const char *bucket) {
    size_t size;
    char *text = s3_receive_text(request, &size), *key;
    if (!text) return false;
    bool quiet = strstr(text, "<Quiet>true</Quiet>") != NULL;
    Text xml = {0};
    text_add(&xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DeleteResult>");
    for (const char *at = text; (key = xml_value(at, text + size, "Key", &at)); free(key)) {
        Text name = {0};
        xml_decode(key);
        text_add(&name, "/%s/%s", bucket, key);
        store_delete(name.data);
        text_free(&name);
        if (quiet) continue;
        text_add(&xml, "<Deleted><Key>");
        text_add_xml(&xml, key);
        text_add(&xml, "</Key></Deleted>");
    }
    text_add(&xml, "</DeleteResult>");
    bool sent = answer(request, 200, NULL, &xml);
    text_free(&xml);
    free(text);
    return sent;
}

/* ------------------------------------------------------------------ who answers what */

static bool get_bucket(Request *request, const char *bucket) {
    Text xml = {0};
    if (!strcmp(request->method, "HEAD"))
        return answer(request, 200, "x-amz-bucket-region: us-east-1\r\n", NULL);
    if (query_has(request->query, "lifecycle"))
        return answer_error(request, 404, "NoSuchLifecycleConfiguration", "There is none.");
    if (query_has(request->query, "uploads")) return s3_list_uploads(request, bucket);
    if (query_has(request->query, "location")) text_add(&xml, "<LocationConstraint/>");
    else if (query_has(request->query, "versioning")) text_add(&xml, "<VersioningConfiguration/>");
    else return s3_list(request, bucket);
    bool sent = answer(request, 200, NULL, &xml);
    text_free(&xml);
    return sent;
}

static bool answer_bucket(Request *request, const char *bucket) {
    if (!strcmp(request->method, "POST") && query_has(request->query, "delete"))
        return delete_objects(request, bucket);
    if (!body_skip(request)) return false;
    if (!strcmp(request->method, "GET") || !strcmp(request->method, "HEAD"))
        return get_bucket(request, bucket);
    if (!strcmp(request->method, "PUT")) return answer(request, 200, NULL, NULL);
    return answer_error(request, 501, "NotImplemented", request->method);
}

static bool answer_object(Request *request) {
    bool part = query_has(request->query, "uploadId");
    if (!strcmp(request->method, "PUT")) return part ? s3_put_part(request) : put_object(request);
    if (!strcmp(request->method, "POST") && part) return s3_complete(request);
    if (!body_skip(request)) return false;
    if (!strcmp(request->method, "POST") && query_has(request->query, "uploads"))
        return s3_begin_upload(request);
    if (!strcmp(request->method, "DELETE"))
        return part ? s3_abort(request) : delete_object(request);
    bool reads = !strcmp(request->method, "GET") || !strcmp(request->method, "HEAD");
    if (reads && !part) return get_object(request);
    return answer_error(request, 501, "NotImplemented", request->method);
}

bool s3_answer(Request *request) {
    const char *bucket = request->path + 1, *slash = strchr(bucket, '/');
    char *copied = request_header(request, "x-amz-copy-source");
    bool copies = copied != NULL;
    free(copied);
    if (!*bucket || copies)
        return body_skip(request) && answer_error(request, 501, "NotImplemented", "not known here");
    if (slash && slash[1]) return answer_object(request);
    char *name = strndup(bucket, strcspn(bucket, "/"));
    bool usable = answer_bucket(request, name);
    free(name);
    return usable;
}
