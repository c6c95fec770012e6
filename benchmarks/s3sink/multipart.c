#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "crc64.h"
#include "s3.h"

enum { SMALLEST_PART = 5 << 20 };

static uint64_t upload_id(const Request *request) {
    char *text = query_value(request->query, "uploadId");
    uint64_t id = text ? strtoull(text, NULL, 10) : 0;
    free(text);
    return id;
}

static bool no_upload(Request *request) {
    return answer_error(request, 404, "NoSuchUpload", "The specified upload does not exist.");
}

static const char *key_of(const Request *request) { return strchr(request->path + 1, '/') + 1; }

static void begin_xml(Text *xml, const char *tag, const Request *request) {
    text_add(xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><%s "
                  "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>%.*s</Bucket><Key>",
             tag, (int)(key_of(request) - request->path) - 2, request->path + 1);
    text_add_xml(xml, key_of(request));
    text_add(xml, "</Key>");
}

bool s3_begin_upload(Request *request) {
    char *algorithm = request_header(request, "x-amz-checksum-algorithm");
    bool full = algorithm && !strcasecmp(algorithm, "CRC64NVME");
    free(algorithm);
    Text xml = {0};
    begin_xml(&xml, "InitiateMultipartUploadResult", request);
    text_add(&xml, "<UploadId>%llu</UploadId></InitiateMultipartUploadResult>",
             (unsigned long long)upload_new(request->path, full));
    const char *lines = "x-amz-checksum-algorithm: CRC64NVME\r\n"
                        "x-amz-checksum-type: FULL_OBJECT\r\n";
    bool sent = answer(request, 200, full ? lines : NULL, &xml);
    text_free(&xml);
    return sent;
}

bool s3_put_part(Request *request) {
    bool usable;
    Blob *blob = s3_receive(request, &usable);
    if (!blob) return usable;
    char *text = query_value(request->query, "partNumber");
    int number = text ? atoi(text) : 0;
    free(text);
    Text lines = {0};
    s3_describe(&lines, blob, true);
    if (number < 1 || number > MOST_PARTS) {
        blob_drop(blob);
        usable = answer_error(request, 400, "InvalidArgument", "Part number is 1 to 10000.");
    } else if (upload_part(request->path, upload_id(request), number, blob)) {
        usable = answer(request, 200, lines.data, NULL);
    } else {
        blob_drop(blob);
        usable = no_upload(request);
    }
    text_free(&lines);
    return usable;
}

/* One <Part> of the list: the blob that it names, or NULL. */
static Blob *part_of(const Upload *upload, char *xml, int *last) {
    const char *end = xml + strlen(xml), *rest;
    char *number = xml_value(xml, end, "PartNumber", &rest);
    char *etag = xml_value(xml, end, "ETag", &rest), known[ETAG];
    int at = number ? atoi(number) : 0;
    Blob *blob = at > *last && at <= MOST_PARTS ? upload->parts[at] : NULL;
    if (blob && etag) {
        xml_decode(etag);
        blob_etag(blob, known);
        if (!strstr(known, etag)) blob = NULL;
    }
    *last = at;
    free(number);
    free(etag);
    return blob;
}

/* The parts that the request names, in order; what is wrong with them, or NULL. */
static const char *choose(const Upload *upload, const char *xml, size_t size, Blob **parts,
                          int *count) {
    int last = 0;
    char *part;
    for (const char *at = xml; (part = xml_value(at, xml + size, "Part", &at)); free(part)) {
        Blob *blob = *count < MOST_PARTS ? part_of(upload, part, &last) : NULL;
        if (!blob || (*count && parts[*count - 1]->size < SMALLEST_PART)) {
            free(part);
            return blob ? "EntityTooSmall" : "InvalidPart";
        }
        parts[(*count)++] = blob;
    }
    return *count ? NULL : "MalformedXML";
}

/* What the request says of the whole, against what the parts make together. */
static const char *compare(const Request *request, const Upload *upload, Blob *const *parts,
                           int count) {
    size_t size = 0;
    bool known = true;
    uint64_t crc = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i]->size;
        known &= parts[i]->has_crc;
        crc = i ? crc64_combine(crc, parts[i]->crc, parts[i]->size) : parts[i]->crc;
    }
    char *said = request_header(request, "x-amz-mp-object-size");
    bool differs = said && strtoull(said, NULL, 10) != size;
    free(said);
    if (differs) return "InvalidRequest";
    if (upload->full_crc && !known) return "InvalidPart";
    return request->has_crc && known && crc != request->crc ? "BadDigest" : NULL;
}

static bool complete(Request *request, Upload *upload, Blob **parts, int count) {
    Blob *blob = blob_join(parts, count);
    char *wanted, etag[ETAG], crc[CRC_TEXT];
    blob->has_crc &= upload->full_crc || settings.verify;
    blob_etag(blob, etag);
    crc_to_text(blob->crc, crc);
    Text xml = {0};
    begin_xml(&xml, "CompleteMultipartUploadResult", request);
    text_add(&xml, "<Location>");
    text_add_xml(&xml, request->path);
    text_add(&xml, "</Location><ETag>");
    text_add_xml(&xml, etag);
    text_add(&xml, "</ETag>");
    if (blob->has_crc)
        text_add(&xml, "<ChecksumCRC64NVME>%s</ChecksumCRC64NVME>"
                       "<ChecksumType>FULL_OBJECT</ChecksumType>", crc);
    text_add(&xml, "</CompleteMultipartUploadResult>");
    Stored verdict = store_put(request->path, blob, s3_condition(request, &wanted));
    free(wanted);
    if (verdict != STORED) blob_drop(blob);
    bool sent = verdict == STORED ? answer(request, 200, NULL, &xml) : s3_refuse(request, verdict);
    text_free(&xml);
    return sent;
}

bool s3_complete(Request *request) {
    size_t size;
    char *xml = s3_receive_text(request, &size);
    if (!xml) return false;
    Upload *upload = upload_take(request->path, upload_id(request));
    if (!upload) {
        free(xml);
        return no_upload(request);
    }
    Blob **parts = calloc(MOST_PARTS, sizeof(Blob *));
    int count = 0;
    const char *wrong = choose(upload, xml, size, parts, &count);
    if (!wrong) wrong = compare(request, upload, parts, count);
    bool usable;
    if (wrong) {
        upload_give_back(upload);
        usable = answer_error(request, 400, wrong, "The parts do not make what was asked for.");
    } else {
        usable = complete(request, upload, parts, count);
        upload_drop(upload);
    }
    free(parts);
    free(xml);
    return usable;
}

bool s3_abort(Request *request) {
    Upload *upload = upload_take(request->path, upload_id(request));
    if (!upload) return no_upload(request);
    upload_drop(upload);
    return answer(request, 204, NULL, NULL);
}
