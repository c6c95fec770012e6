#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3.h"

typedef struct {
    Text xml, folders;
    size_t bucket; /* length of "/bucket/" */
    size_t prefix; /* length of "/bucket/prefix" */
    const char *delimiter;
    int left, listed;
    bool more;
    char *last;   /* the last name or folder that was listed */
    char *folder; /* the folder that names are being folded into */
} Page;

static bool take(Page *page, const char *name, size_t size) {
    if (!page->left) {
        page->more = true;
        return false;
    }
    page->left--;
    page->listed++;
    free(page->last);
    page->last = strndup(name, size);
    return true;
}

static bool add_folder(Page *page, const char *name, size_t size) {
    if (page->folder && !strncmp(page->folder, name, size) && !page->folder[size]) return true;
    if (!take(page, name, size)) return false;
    free(page->folder);
    page->folder = strndup(name, size);
    text_add(&page->folders, "<CommonPrefixes><Prefix>");
    text_add_xml(&page->folders, page->folder + page->bucket);
    text_add(&page->folders, "</Prefix></CommonPrefixes>");
    return true;
}

static bool add_object(void *with, const char *name, const Blob *blob) {
    Page *page = with;
    const char *end = *page->delimiter ? strstr(name + page->prefix, page->delimiter) : NULL;
    if (end) return add_folder(page, name, (size_t)(end - name) + strlen(page->delimiter));
    if (!take(page, name, strlen(name))) return false;
    char etag[ETAG];
    blob_etag(blob, etag);
    text_add(&page->xml, "<Contents><Key>");
    text_add_xml(&page->xml, name + page->bucket);
    text_add(&page->xml, "</Key>");
    s3_add_time(&page->xml, "LastModified", blob->made);
    text_add(&page->xml, "<ETag>");
    text_add_xml(&page->xml, etag);
    text_add(&page->xml, "</ETag><Size>%zu</Size>", blob->size);
    text_add(&page->xml, "<StorageClass>STANDARD</StorageClass></Contents>");
    return true;
}

static char *parameter(const Request *request, const char *name) {
    char *value = query_value(request->query, name);
    return value ? value : strdup("");
}

/* The name after which the page begins. */
static char *start_of(const Request *request, const char *bucket) {
    static const char *const names[] = {"continuation-token", "start-after", "marker"};
    Text start = {0};
    for (int i = 0; i < 3 && !start.size; i++) {
        char *value = parameter(request, names[i]);
        if (*value) text_add(&start, "/%s/%s", bucket, value);
        /* A page that ended with a folder goes on after everything in it. */
        if (*value && value[strlen(value) - 1] == '/') text_add(&start, "\xff");
        free(value);
    }
    return start.data ? start.data : strdup("");
}

static void finish(Page *page) {
    text_add(&page->xml, "%s", page->folders.data ? page->folders.data : "");
    text_add(&page->xml, "<KeyCount>%d</KeyCount><IsTruncated>%s</IsTruncated>", page->listed,
             page->more ? "true" : "false");
    for (int i = 0; i < 2 && page->more && page->last; i++) {
        const char *tag = i ? "NextMarker" : "NextContinuationToken";
        text_add(&page->xml, "<%s>", tag);
        text_add_xml(&page->xml, page->last + page->bucket);
        text_add(&page->xml, "</%s>", tag);
    }
    text_add(&page->xml, "</ListBucketResult>");
}

bool s3_list(Request *request, const char *bucket) {
    char *prefix = parameter(request, "prefix"), *delimiter = parameter(request, "delimiter");
    char *most = query_value(request->query, "max-keys"), *after = start_of(request, bucket);
    Text from = {0};
    text_add(&from, "/%s/%s", bucket, prefix);
    Page page = {.bucket = strlen(bucket) + 2, .prefix = from.size, .delimiter = delimiter};
    page.left = most && atoi(most) < 1000 ? atoi(most) : 1000;
    text_add(&page.xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult "
                        "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>%s</Name><Prefix>",
             bucket);
    text_add_xml(&page.xml, prefix);
    text_add(&page.xml, "</Prefix><MaxKeys>%d</MaxKeys>", page.left);
    store_each(from.data, after, add_object, &page);
    finish(&page);
    bool sent = answer(request, 200, NULL, &page.xml);
    text_free(&page.xml);
    text_free(&page.folders);
    text_free(&from);
    free(page.last), free(page.folder), free(prefix), free(delimiter), free(most), free(after);
    return sent;
}

static void add_upload(void *with, const Upload *upload) {
    Page *page = with;
    text_add(&page->xml, "<Upload><Key>");
    text_add_xml(&page->xml, upload->name + page->bucket);
    text_add(&page->xml, "</Key><UploadId>%llu</UploadId>", (unsigned long long)upload->id);
    s3_add_time(&page->xml, "Initiated", upload->begun);
    text_add(&page->xml, "</Upload>");
}

bool s3_list_uploads(Request *request, const char *bucket) {
    char *prefix = parameter(request, "prefix");
    Text from = {0};
    text_add(&from, "/%s/%s", bucket, prefix);
    Page page = {.bucket = strlen(bucket) + 2};
    text_add(&page.xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListMultipartUploadsResult>"
                        "<Bucket>%s</Bucket><IsTruncated>false</IsTruncated>", bucket);
    upload_each(from.data, add_upload, &page);
    text_add(&page.xml, "</ListMultipartUploadsResult>");
    bool sent = answer(request, 200, NULL, &page.xml);
    text_free(&page.xml);
    text_free(&from);
    free(prefix);
    return sent;
}
